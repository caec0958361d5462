"""Files of records, one to a line, appended to as they come and read again whatever ended the writing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from core_model.errors import RunError

Line = TypeVar("Line", bound=BaseModel)


def read_lines(path: Path, kind: type[Line], fix: str | None = None) -> list[Line]:
    """The records of a file; none where there is no file. A last line cut by a kill is left out.

    Raises `RunError` where another line is damaged.
    """
    if not path.exists():
        return []
    try:
        # Not splitlines: it also breaks at characters that JSON leaves inside strings, such as U+2028.
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"the file cannot be read ({error})", where=path) from error
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(kind.model_validate_json(line))
        except ValidationError as error:
            if number < len(lines):
                message = f"line {number} is damaged: it is not a {kind.__name__.lower()}"
                raise RunError(message, where=path, fix=fix) from error
    return records


def write_lines(path: Path, records: Iterable[BaseModel]) -> None:
    """Replace the file by exactly these records."""
    from core_model.files import write_text

    write_text(path, "".join(record.model_dump_json() + "\n" for record in records))


def append_line(path: Path, record: BaseModel) -> None:
    """Add one record, and have it on the disk. Raises `RunError`."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(record.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RunError(f"the file cannot be written ({error.strerror})", where=path) from error
