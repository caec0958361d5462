"""Files that appear whole or not at all, whatever the disk answers."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from core_model.errors import CheckpointError, GiantError
from core_model.files import (
    disk_trouble,
    replacing_folder,
    tensor_bytes,
    write_bytes,
    write_text,
    write_value,
    writing,
)

WRITERS = {
    "bytes": lambda path: write_bytes(path, b"x" * 50_000),
    "value": lambda path: write_value(path, ["x" * 50_000]),
    "text": lambda path: write_text(path, "x" * 50_000),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("before", [None, "as it was"])
def test_a_disk_that_takes_no_more_leaves_what_was_there(
    tmp_path: Path, name: str, before: str | None
) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_text(before)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, old[1]))
    try:
        with pytest.raises((OSError, GiantError)):
            WRITERS[name](path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert [p.name for p in tmp_path.iterdir()] == ([] if before is None else ["file"])
    assert before is None or path.read_text() == before


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("length", [1, 200, 255])
def test_every_name_that_a_disk_takes_can_be_written(
    tmp_path: Path, write: Callable[[Path], None], length: int
) -> None:
    write(tmp_path / ("n" * length))
    assert [len(path.name) for path in tmp_path.iterdir()] == [length]


def test_files_get_the_mode_that_the_user_wants(tmp_path: Path) -> None:
    """In a process of its own: the umask is one for all threads."""
    code = (
        "import os, sys; from pathlib import Path; from core_model.files import write_bytes;"
        "os.umask(0o027); write_bytes(Path(sys.argv[1]), b'x')"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "file"], check=True)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/a.h5"), "/data/a.h5: the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk quota is used up"),
        (OSError(errno.EROFS, "Read-only file system"), "the disk is read-only"),
        (OSError(errno.EFBIG, "File too large"), "the file would be larger than the system allows"),
        (SafetensorError("Error while serializing: I/O error: x (os error 28)"), "the disk is full"),
        (RuntimeError("Can't write data (file write failed: errno = 28, error message)"), "the disk is full"),
        (RuntimeError("database or disk is full"), "the disk is full"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0"), "the disk is full or failing"),
        (OSError(errno.ENOENT, os.strerror(errno.ENOENT)), None),
        (ValueError("a bug"), None),
    ],
)
def test_trouble_with_the_disk_is_known_however_a_library_puts_it(error: Exception, told: str | None) -> None:
    assert disk_trouble(error) == told
    outer = KeyError("what came of it")
    outer.__cause__ = error
    assert disk_trouble(outer) == told


def test_a_folder_that_libraries_fill_is_open_to_others(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "model") as part:
        (part / "sub").mkdir()
        for name in ("closed", "sub/closed"):
            (part / name).touch(mode=0o600)
    plain = tmp_path / "plain"
    plain.touch()
    modes = {path.stat().st_mode for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert modes == {plain.stat().st_mode}
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"sub", "closed"}


@pytest.mark.parametrize(
    "error",
    [SafetensorError("I/O error: No space left on device (os error 28)"), Exception("x (os error 28)")],
)
def test_what_libraries_make_of_a_full_disk_is_one_line(tmp_path: Path, error: Exception) -> None:
    told = pytest.raises(CheckpointError, match=r"m: the model cannot be written \(the disk is full\)\.")
    with told, writing("the model", tmp_path / "m", CheckpointError):
        raise error
    with pytest.raises(ZeroDivisionError), writing("the model", tmp_path):
        raise ZeroDivisionError


def test_arrays_are_written_in_the_same_bytes_every_time(tmp_path: Path) -> None:
    from safetensors import safe_open

    tensors = {name: np.arange(n, dtype=np.float32) for n, name in enumerate("dcab", 1)}
    metadata = {f"fact {i}": f"µ {i}" for i in range(12)}
    written = {tensor_bytes(tensors, metadata) for _ in range(20)}
    assert len(written) == 1
    (tmp_path / "x").write_bytes(written.pop())
    with safe_open(tmp_path / "x", framework="numpy") as file:
        assert file.metadata() == metadata
        assert all(np.array_equal(file.get_tensor(name), tensors[name]) for name in tensors)
