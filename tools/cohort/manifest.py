"""What a cohort's index is made of: its slides, the slides taken out, and the files that hasten a search.

`cohort/manifest.json`, beside the slides' own index files, is written last. A file that it does not name is
no part of the index, whatever stopped before it was named.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from core_model.errors import FeatureStoreError
from core_model.files import replacing
from core_model.records import Record
from tools.index import SUFFIX

FOLDER, NAME = "cohort", "manifest.json"
ADVICE = f"Delete the folder '{FOLDER}'; giant index --out makes it again"


def _plain(name: str) -> str:
    if Path(name).name != name or name in ("", ".", ".."):
        raise ValueError("a file is named without a folder")
    return name


FileName = Annotated[str, AfterValidator(_plain)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class SlideEntry(Record):
    """One slide: whose vectors they are, and what proves that they are still the same."""

    file: FileName
    """Its index file, beside the folder of the manifest."""
    id: str
    rows: int = Field(ge=0)
    """Its tiles."""
    mpp: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """µm per level-0 px; None for files of earlier versions, which did not say."""
    sha256: Sha256
    bytes: int

    @property
    def name(self) -> str:
        """The slide's name in the store."""
        return self.file.removesuffix(SUFFIX)


class Covered(Record):
    """A slide of whose vectors a segment holds what it was made from."""

    file: FileName
    sha256: Sha256
    rows: int = Field(ge=0)


class Segment(Record):
    """A file that tells which rows of some slides need not be looked at."""

    kind: Literal["bounds", "ivf"]
    """`bounds` leaves out only what cannot be among the best; `ivf` may miss some."""
    file: FileName
    sha256: Sha256
    slides: list[Covered]
    """In the order of its rows."""
    recall: float | None = Field(default=None, ge=0, le=1)
    """Of `ivf`: the share of the 10 nearest tiles that it found for queries that it was not fitted to."""
    queries: int | None = None
    """How many those were."""

    @property
    def rows(self) -> int:
        """Rows of the segment, also of slides that are no longer in the index."""
        return sum(slide.rows for slide in self.slides)


class Manifest(Record):
    """The index of a cohort as it stands."""

    version: Literal[1] = 1
    identity: dict[str, str]
    """Space, encoder and tile size that all vectors share."""
    slides: list[SlideEntry] = Field(default_factory=list)
    removed: list[str] = Field(default_factory=list)
    """Identities of slides that are not searched although their files are there."""
    segments: list[Segment] = Field(default_factory=list)


def read_manifest(folder: Path, identity: dict[str, str]) -> Manifest:
    """The manifest of the slides in `folder`; an empty one where there is none.

    Raises `FeatureStoreError` where it is damaged, or of vectors of another identity.
    """
    path = folder / FOLDER / NAME
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Manifest(identity=identity)
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else f"{error.error_count()} fields do not fit"
        raise FeatureStoreError(f"the manifest cannot be read ({why})", where=path, fix=ADVICE) from error
    for name, value in identity.items():
        if manifest.identity.get(name) != value:
            fault = f"its {name} is {manifest.identity.get(name)!r} where {value!r} is needed"
            raise FeatureStoreError(fault, where=path, fix="Give the --encoder that the index was made with")
    return manifest


def write_manifest(folder: Path, manifest: Manifest, begun_ns: int) -> None:
    """Write the manifest, whole or not at all. Raises `FeatureStoreError`.

    `begun_ns` is when somebody began to read what it says, in ns: the time that its file is given.
    """
    path = folder / FOLDER / NAME
    try:
        with replacing(path) as part:
            part.write_bytes((manifest.model_dump_json(indent=1) + "\n").encode())
            os.utime(part, ns=(begun_ns, begun_ns))
    except OSError as error:
        raise FeatureStoreError(
            f"the manifest cannot be written ({error.strerror or error})", where=path
        ) from error


def begun_ns(folder: Path) -> int:
    """When somebody began to read what the manifest says, in ns; 0 where there is none."""
    path = folder / FOLDER / NAME
    return path.stat().st_mtime_ns if path.exists() else 0


def sha256_of(path: Path) -> str:
    """The digest of a file. Raises `FeatureStoreError`."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FeatureStoreError(f"the file cannot be read ({error.strerror or error})", where=path) from error


def checked(path: Path, sha256: str) -> Path:
    """The path, if the file has that digest. Raises `FeatureStoreError`."""
    if sha256_of(path) != sha256:
        raise FeatureStoreError("the file is not the one that was indexed", where=path, fix=ADVICE)
    return path
