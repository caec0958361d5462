"""What else is read of a slide's files than its pixels, in a child of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from core_model.errors import SlideError
from core_model.slides.isolation.process import Child, ChildDied
from core_model.slides.isolation.source import parsed
from core_model.slides.isolation.wire import Limits
from core_model.slides.sources import DecodeError

T = TypeVar("T")


class Found(BaseModel):
    """What a child says a function returned, in terms of JSON."""

    found: Any


def in_child(function: Callable[[Path], T], path: Path, kind: Any, limits: Limits | None = None) -> T:
    """What `function(path)` returns, computed in a child; `kind` is its type, by which the answer is checked.

    The function is one of a module. Raises `SlideError` as it does, and where the child ends.
    """
    names = {"module": function.__module__, "function": function.__qualname__}
    try:
        with (
            closing(Child(limits or Limits())) as child,
            child.ask(do="call", path=str(path), **names) as said,
        ):
            found: T = TypeAdapter(kind).validate_python(parsed(Found, said[0]).found)
            return found
    except ChildDied as died:
        raise SlideError(f"the process that reads it {died} and was stopped", where=path) from died
    except (DecodeError, ValidationError) as error:
        raise SlideError(f"it cannot be read ({str(error).splitlines()[0]})", where=path) from error
