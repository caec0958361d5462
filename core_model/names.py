"""Names of files as they may be shown and used again: printable, not too long, and still unique.

A file name is bytes. Python reads those that are no UTF-8 as lone surrogates, which no file, page or terminal
can be given.
"""

from __future__ import annotations

import hashlib
import os
import re

MOST_BYTES = 160
"""Longest name in UTF-8: file systems take 255, and we put digests, suffixes and temporary marks to it."""

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")


def printable(text: str) -> str:
    """The text with bytes that are no UTF-8, and with control characters, as `%XX`."""
    return _UNPRINTABLE.sub(lambda match: "".join(f"%{byte:02X}" for byte in _bytes(match[0])), text)


def safe_name(name: str) -> str:
    """A name that can be printed, and to which suffixes can be put, unique for each `name`.

    One that had to be changed or cut carries a digest of what it was.
    """
    text = printable(name)
    if text == name and len(text.encode()) <= MOST_BYTES:
        return name
    mark = "-" + hashlib.sha256(_bytes(name)).hexdigest()[:8]
    return text.encode()[: MOST_BYTES - len(mark)].decode(errors="ignore") + mark


def _bytes(text: str) -> bytes:
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return text.encode(errors="surrogatepass")
