"""Run a function in a forked child, which may die."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any


def forked(function: Callable[..., Any], *args: Any) -> tuple[int, Any]:
    """The signal that ended the child (0: none; 1: it failed), and what the function gave, else None.

    What it gives goes through a pipe as JSON.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(writer, json.dumps(function(*args)).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        outcome = json.loads(pipe.read() or b"null")
    status = os.waitpid(child, 0)[1]
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)), outcome
