"""Run a function in a forked child, which may die."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any


def forked(function: Callable[..., int], *args: Any) -> tuple[int, int]:
    """The signal that ended the child (0: none; 1: it failed), and what the function gave, else 0."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(writer, str(function(*args)).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        count = int(pipe.read() or 0)
    status = os.waitpid(child, 0)[1]
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)), count
