"""The standard streams as every command may use them: none of them raises, whatever stands behind it.

A terminal that knows no `µ` gets plain letters; a reader that has gone away gets nothing more, and the work
goes on to its end; what could not be printed for want of space, or because stdout is closed, is said once, on
stderr, and makes the exit code 1. Only a terminal that understands escape sequences is treated as one.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any

PLAIN = {
    "µ": "u", "μ": "u", "Δ": "delta", "→": "->", "–": "-", "—": "-", "−": "-", "…": "...", "×": "x",
    "≤": "<=", "≥": ">=", "≈": "~", "·": "-", "“": '"', "”": '"', "‘": "'", "’": "'", "²": "2", "\xa0": " ",
}  # fmt: skip
"""What stands for a character of ours where the terminal has none."""
NO_ESCAPES = ("", "dumb", "unknown")
"""Values of TERM of terminals that move no cursor."""
GONE = (errno.EPIPE, errno.ECONNRESET)
"""The reader has gone away: it has all that it wanted."""


class Outlet(io.TextIOBase):
    """A standard stream. `write` and `flush` never raise `OSError`; `fault` keeps the first."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.fault: OSError | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of what is behind it."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """Nothing is left to an error handler: `printable` sees to every character."""
        return "strict"

    def writable(self) -> bool:
        """It takes texts, if only to drop them."""
        return True

    def fileno(self) -> int:
        """Raises `OSError` where there is none."""
        if self._stream is None:
            raise io.UnsupportedOperation("the stream is closed")
        return int(self._stream.fileno())

    def isatty(self) -> bool:
        """Whether somebody watches it who sees colours and bars."""
        unable = os.environ.get("TERM", "") in NO_ESCAPES and os.name != "nt"  # Windows has no TERM
        plain = unable or bool(os.environ.get("NO_COLOR"))
        return self._stream is not None and not plain and bool(self._stream.isatty())

    def write(self, text: str) -> int:
        """Write a text, in letters that the stream knows."""
        if not isinstance(text, str):
            raise TypeError(f"a text is written, not {type(text).__name__}")
        if text:
            self._try(lambda: self._stream.write(printable(text, self.encoding)))
        return len(text)

    def flush(self) -> None:
        """Hand over what is buffered."""
        if self._stream is not None:
            self._try(self._stream.flush)

    def _try(self, do: Any) -> None:
        if self.fault is not None:
            return
        try:
            if self._stream is None:
                raise OSError(errno.EBADF, "it is closed")
            do()
        except OSError as error:
            self.fault = error
            _forget(self._stream)


def printable(text: str, encoding: str) -> str:
    """The text in characters that the encoding has: plain ones in place of ours, escapes for any other."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_plain(character, encoding) for character in text)
    return text


def ascii_json(text: str) -> str:
    """JSON for stdout: where its encoding lacks a character, all beyond ASCII are escaped as JSON does it."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        units = text.encode("utf-16-be", "surrogatepass")
        codes = (int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2))
        return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)
    return text


def open_streams() -> Outlet:
    """Put an `Outlet` in the place of stdout (returned) and stderr; a closed stdin becomes an empty one."""
    _occupy_closed()
    # Which stream is a terminal each `Outlet` says itself; these would say it of all, also of pipes.
    for variable in ("TTY_COMPATIBLE", "FORCE_COLOR"):
        os.environ.pop(variable, None)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - it stays open as long as we live
    out = Outlet(sys.stdout)
    sys.stdout, sys.stderr = out, Outlet(sys.stderr)
    return out


def unprinted(out: Outlet) -> str | None:
    """Why what was printed did not arrive; None where it did, or nobody wanted more of it."""
    out.flush()
    sys.stderr.flush()
    if out.fault is None or out.fault.errno in GONE:
        return None
    return out.fault.strerror or str(out.fault)


def _plain(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        code = ord(character)
        if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is no text
            return f"\\x{code - 0xDC00:02x}"
        return PLAIN.get(character) or character.encode("ascii", "backslashreplace").decode()
    return character


def _forget(stream: Any) -> None:
    """Send what is still buffered nowhere, so that the interpreter does not trip over it at its end."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _occupy_closed() -> None:
    """Give closed standard descriptors a place to go: the next file opened would get their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
