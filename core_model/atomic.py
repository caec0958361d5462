"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from core_model.errors import RunError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to, and rename it to `path` when that went well.

    The folder is made where it is missing; content and name are on the disk on return. Where anything
    fails, `path` is as before and the temporary file is gone. Raises `OSError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        yield part
        flush(part)
        part.replace(path)
        flush(path.parent)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder beside `folder` to fill, and put it in its place when that went well.

    Where anything fails, what was there is as before and the new folder is gone. Raises `OSError`.
    """
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.mkdir(parents=True)
        yield part
        _swap(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _swap(part: Path, folder: Path) -> None:
    """Put `part` where `folder` is; what was there is gone only once the new one stands."""
    if not folder.exists():
        part.replace(folder)
        return
    old = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.old")
    folder.replace(old)
    part.replace(folder)
    shutil.rmtree(old)


def flush(path: Path) -> None:
    """Have the system write a file's content, or a folder's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_value(path: Path, value: Any) -> None:
    """Write any JSON value to a temporary name beside `path`, then rename it. Raises `OSError`."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def write_json(path: Path, record: BaseModel) -> None:
    """Write a record as JSON to a temporary name beside `path`, then rename it."""
    write_text(path, record.model_dump_json(indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is either the old one or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(
            f"the file cannot be written ({error.strerror})", where=path, fix="Choose another --out"
        ) from error
