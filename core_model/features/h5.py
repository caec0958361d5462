"""H5 files that may be anybody's.

A file is opened without trust and measured before anything is read. One of a few kB can declare terabytes,
and can name other files in place of its own content. Neither is followed: what is read must lie in the file,
in as many bytes as its shape needs.
"""

from __future__ import annotations

import errno
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

UNREADABLE = (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError)
"""What h5py raises for a file that is damaged, or of another kind."""

MOST_PACKED = 2000
"""Largest ratio of the numbers in a dataset to the bytes they take: deflate reaches 1030 on zeros."""

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)

_IN_USE = (errno.EAGAIN, errno.EACCES)

_LOCKING = re.compile(r"unable to lock file, errno = (\d+)")


@contextmanager
def open_h5(path: Path) -> Iterator[h5py.File]:
    """A file to read, closed at the end. Raises `OSError`, also while another program writes the file.

    On a disk that knows no locks it is opened without one.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        number = _lock_error(error)
        if number in _IN_USE:
            raise OSError(number, "another program has it open") from error
        if number not in _NO_LOCKS:
            raise
        file = h5py.File(path, "r", locking=False)
    with file:
        yield file


def _lock_error(error: OSError) -> int | None:
    """The system's number where a file could not be locked."""
    found = _LOCKING.search(str(error))
    return int(found.group(1)) if found else None


def whole(group: h5py.Group, name: str) -> h5py.Dataset:
    """The dataset of that name, which lies in this file with all its content.

    Raises `ValueError` where there is none, or it lies elsewhere, or the file is too small for its shape.
    """
    link = group.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        raise ValueError(f"its '{name}' lie in another file ({link.filename!r}), which is not followed")
    if not isinstance(link, h5py.HardLink) or not isinstance(group[name], h5py.Dataset):
        raise ValueError(f"it has no dataset '{name}', only {', '.join(group) or 'nothing'}")
    dataset = group[name]
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"its '{name}' lie in other files, which are not followed")
    if dataset.shape is None:
        raise ValueError(f"its '{name}' hold nothing")
    _measured(dataset, name)
    return dataset


def _measured(dataset: h5py.Dataset, name: str) -> None:
    """Raise `ValueError` where a dataset holds less than its shape declares."""
    declared, stored = dataset.nbytes, dataset.id.get_storage_size()
    is_packed = dataset.id.get_create_plist().get_nfilters() > 0
    missing = False
    if dataset.chunks:
        parts = (-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
        missing = dataset.id.get_num_chunks() < math.prod(parts)
    if (
        declared > stored * (MOST_PACKED if is_packed else 1)
        or stored > dataset.file.id.get_filesize()
        or missing
    ):
        raise ValueError(
            f"'{name}' of shape {dataset.shape} would be {declared:,} bytes,"
            f" and the file holds {stored:,} of them"
        )
