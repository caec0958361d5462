"""A slide under another name: whatever is said of it names neither its file nor its folders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from core_model.errors import GiantError, SlideError, printable
from core_model.slides.parts import is_url, parts_of, slide_name

if TYPE_CHECKING:
    from core_model.slides.sources import PixelSource

LEAST = 4
"""Characters of a name that is taken out where it stands alone; a shorter one would riddle the text."""

_OWN = Path(__file__).resolve()


class Alias:
    """A name that stands for a slide's own, and for the paths of its files, in texts and errors."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name

    def text(self, text: str) -> str:
        """The text with the alias in place of every path and name of the slide."""
        return self._own_names.sub(self.name, text)

    def source(self, source: PixelSource) -> PixelSource:
        """The source with errors that say the alias."""
        return cast("PixelSource", _RenamedSource(source, self))

    def rename(self, error: BaseException) -> None:
        """Take the slide's own names out of an error."""
        if isinstance(error, GiantError):
            error.what = self.text(error.what)
            error.where = None if error.where is None else self.text(str(error.where))
            error.fix = None if error.fix is None else self.text(error.fix)
        if isinstance(error, OSError) and error.filename is not None:
            error.filename = self.name
        error.args = tuple(self.text(arg) if isinstance(arg, str) else arg for arg in error.args)

    @contextmanager
    def renaming(self) -> Iterator[None]:
        """Errors that are raised within say the alias, and bring no other error along."""
        try:
            yield
        except Exception as error:
            self.rename(error)
            raise error from None

    @cached_property
    def _own_names(self) -> re.Pattern[str]:
        """Paths of the slide's files and folders, then their names alone, the longest first."""
        files = self._files()
        paths = {form for file in files for form in _forms(file)}
        folders = {
            str(folder)
            for path in paths
            for folder in Path(path).parents
            if folder.name and folder not in _OWN.parents
        }
        names = {name for file in files for name in (file.name, file.stem) if len(name) >= LEAST}
        with suppress(OSError):
            names |= {name for name in (slide_name(self.path),) if len(name) >= LEAST}
        return re.compile(
            f"(?:{_any_of(paths | folders)})(?![\\w-])|(?<![\\w-])(?:{_any_of(names)})(?![\\w-])"
        )

    def _files(self) -> list[Path]:
        try:
            return [self.path, *parts_of(self.path)]
        except (OSError, SlideError):
            return [self.path]  # they cannot be listed, so nothing else was read


def _forms(file: Path) -> list[str]:
    """What a file may be called: its path, whole or as it was given, or the address on a server."""
    if is_url(file):
        return [str(file), str(file).replace(":/", "://", 1)]
    return [str(file), str(file.absolute()), str(file.resolve())]


def _any_of(texts: set[str]) -> str:
    forms = sorted({form for text in texts for form in (text, printable(text))}, key=lambda t: (-len(t), t))
    return "|".join(map(re.escape, forms)) or "(?!)"


class _RenamedSource:
    """A `PixelSource` whose errors say an alias. Everything else is that of the source."""

    def __init__(self, source: Any, alias: Alias) -> None:
        self._renamed, self._alias = source, alias

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._renamed, name)
        return self._guarded(value) if callable(value) else value

    def _guarded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*args: Any, **named: Any) -> Any:
            with self._alias.renaming():
                return method(*args, **named)

        return call
