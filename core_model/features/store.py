"""Tile features of a slide, in memory and on disk.

On disk: `features_<encoder>/<slide>.h5` in TRIDENT's layout (`features`, `coords`, attributes on
`coords`), which its users' tools read, plus attributes of our own that prove what the numbers belong to.
A file is written beside its place and renamed, read back only if it is whole and ours, and otherwise
done again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from core_model.atomic import replacing
from core_model.errors import FeatureStoreError
from core_model.features.tiles import EncoderIdentity, TileFeatures
from core_model.slides.slide import Slide

CACHE_VARIABLE = "GIANT_CACHE"


log = logging.getLogger(__name__)


class FeatureStore:
    """A folder of feature files."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def path(self, slide: Slide, encoder_name: str) -> Path:
        """Where features of `slide` by that encoder lie.

        TRIDENT names files by the slide's stem. Where that of another slide has it, a part of its identity
        is added, so that slides of one name do not take turns in overwriting each other.
        """
        from core_model.features.file import is_of_another

        safe = re.sub(r"[^\w.-]+", "_", encoder_name).strip("._") or "encoder"
        path = self.root / f"features_{safe}" / f"{slide.name}.h5"
        return path.with_stem(f"{slide.name}-{slide.id[:8]}") if is_of_another(path, slide) else path

    def load(self, slide: Slide, encoder: EncoderIdentity) -> TileFeatures | None:
        """The stored features; None where there are none, or what is there is not whole and ours.

        The latter is logged as a warning with the reason.
        """
        path = self.path(slide, encoder.name)
        if not path.exists():
            return None
        from core_model.features.file import UnusableFile, read_features

        try:
            return read_features(path, slide, encoder)
        except UnusableFile as error:
            log.warning("%s is not used and will be redone: %s", path, error)
            return None

    def save(self, slide: Slide, encoder: EncoderIdentity, found: TileFeatures) -> Path:
        """Write atomically; call under `lock`. Raises `FeatureStoreError`.

        A file in the way that giant did not write is kept beside it as `<name>.foreign`.
        """
        from core_model.features.file import is_ours, write_features

        path = self.path(slide, encoder.name)
        try:
            with replacing(path) as part:
                write_features(part, slide, encoder, found)
                if path.exists() and not is_ours(path):
                    path.replace(path.with_name(path.name + ".foreign"))
        except OSError as error:
            raise FeatureStoreError(f"features cannot be written ({error})", where=path) from error
        return path

    @contextlib.contextmanager
    def lock(self, slide: Slide, encoder_name: str, wait: bool = True) -> Iterator[None]:
        """Be the only writer of one feature file. The system frees the lock when its holder dies.

        Raises `FeatureStoreError` where the lock cannot be made, or is held and `wait` is False.
        """
        import fcntl

        path = self.path(slide, encoder_name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = path.with_name(f".{path.name}.lock").open("a")
        except OSError as error:
            raise FeatureStoreError(f"features cannot be written ({error})", where=path) from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if not wait:
                    raise FeatureStoreError(
                        "another process is writing these features", where=path
                    ) from error
                log.info("waiting for another process that writes %s", path)
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError as error:
                raise FeatureStoreError(f"the file system cannot lock ({error})", where=path) from error
            yield


def cache_folder() -> Path:
    """Where features are kept: $GIANT_CACHE, else giant/ in the user's cache folder."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "giant"
