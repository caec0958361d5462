"""How a process and its child that reads slides speak: a length, then JSON; pixels lie in shared memory.

No side unpickles anything, and each checks the lengths that it is told.
"""

from __future__ import annotations

import json
import math
import os
import socket
import struct
import time
from dataclasses import asdict, dataclass
from typing import Any

from core_model.errors import file_bytes

HEAD = struct.Struct(">I")
LONGEST = 8 << 20
"""Bytes of a message: properties of a slide may be long, and hold no pixels."""

MOST_PIXELS = 1 << 26
"""Pixels of one read, 67 Mpx: what the memory of a lane has room for, at three bytes each."""

MEMORY_EXIT = 77
"""Exit status of a child that ran out of memory."""


@dataclass(frozen=True)
class Limits:
    """What a child may use."""

    memory: int = 3 << 30
    """Bytes."""
    seconds: float = 60.0
    """For one request: to open the slide, or to read one rectangle."""

    def words(self) -> dict[str, str]:
        """The limits as they are named in messages."""
        return {"memory": f"{self.memory / 2**30:.3g} GB", "seconds": f"{self.seconds:g} s"}


@dataclass(frozen=True)
class Start:
    """What a child is started with: its limits, and the numbers of the open files that it inherits."""

    memory: int
    seconds: float
    lanes: list[list[int]]
    """Socket and shared memory of each lane: a lane serves one request at a time."""

    def text(self) -> str:
        """As one argument of the command line."""
        return json.dumps(asdict(self))


class BrokenWire(Exception):
    """The other side is gone, is late, or says what it may not say."""


class Late(BrokenWire):
    """The other side did not answer in time."""


def file_text(path: object) -> str:
    """The name of a file as text that JSON can hold: a name is bytes, which need be no UTF-8."""
    return file_bytes(str(path)).decode("latin-1")


def file_name(text: str) -> str:
    """The name that `file_text` gave as `text`. Raises `ValueError`."""
    return os.fsdecode(text.encode("latin-1"))


def send(sock: socket.socket, message: dict[str, Any]) -> None:
    """Send a message. Raises `BrokenWire`."""
    body = json.dumps(message).encode()
    if len(body) > LONGEST:
        raise BrokenWire("a message is too long")
    try:
        sock.sendall(HEAD.pack(len(body)) + body)
    except OSError as error:
        raise BrokenWire("the other side is gone") from error


def receive(sock: socket.socket, seconds: float = math.inf) -> bytes:
    """The body of the next message. Raises `BrokenWire`, `Late` where it is not there after `seconds`."""
    end = time.monotonic() + seconds
    (length,) = HEAD.unpack(_exactly(sock, HEAD.size, end))
    if length > LONGEST:
        raise BrokenWire("a message is too long")
    return _exactly(sock, length, end)


def _exactly(sock: socket.socket, count: int, end: float) -> bytes:
    body = bytearray(count)
    got, view = 0, memoryview(body)
    while got < count:
        try:
            if end < math.inf:
                sock.settimeout(max(end - time.monotonic(), 1e-3))
            more = sock.recv_into(view[got:])
        except TimeoutError as error:
            raise Late("the other side does not answer") from error
        except OSError as error:
            raise BrokenWire("the other side is gone") from error
        if not more:
            raise BrokenWire("the other side is gone")
        got += more
    return bytes(body)
