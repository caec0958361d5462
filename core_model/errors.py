"""Everything that giant refuses, as one tree.

    GiantError                 exit code 1: one readable line, what / which slide / what to do
    ├── UsageError             exit code 2: the call itself is wrong (question, options, limits)
    ├── SlideError             the file cannot be used as a slide
    │   ├── MppError           micrometres per pixel missing or absurd
    │   ├── RegionUnreadable   the slide opened, this box did not decode
    │   └── NoTissue           nothing on the glass
    ├── BoxError               a box that leaves the slide or has no area
    ├── FeatureStoreError      a feature file that cannot be read or written, or is in use
    ├── CheckpointError        a model folder that is incomplete or does not match
    ├── CohortError            a cohort folder that is incomplete or malformed
    ├── ProviderError          a chat model's server refuses, or cannot be reached
    └── RunError               a run folder that cannot be resumed or written

Errors are raised where they are understood and printed once, in the command line.
"""

from __future__ import annotations

import os
import re

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")


class GiantError(Exception):
    """A failure that a user can understand and act on.

    `what` says what went wrong, `where` names the slide or file, `fix` says what to do. `str()` is
    always one line, and can be printed anywhere.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        parts = [f"{where}: {what}" if where is not None else what]
        if fix:
            parts.append(fix)
        line = " ".join(". ".join(part.rstrip(". ") for part in parts).split()) + "."
        super().__init__(printable(line))


class UsageError(GiantError):
    """The call cannot mean anything: an empty question, duplicate options, zero steps."""

    exit_code = 2


class SlideError(GiantError):
    """A file that cannot be opened or used as a slide."""


class MppError(SlideError):
    """Micrometres per pixel are missing, absurd, or contradict what was asked."""


class RegionUnreadable(SlideError):
    """A box of an open slide that does not decode. Its pixels are unknown, never white."""


class NoTissue(SlideError):
    """The tissue detector found nothing to look at."""


class BoxError(GiantError):
    """A box that leaves the slide or has no area; the message gives the valid range."""


class FeatureStoreError(GiantError):
    """A feature file that cannot be read or written, or that another process is writing."""


class CheckpointError(GiantError):
    """A model folder with missing, changed or unexpected parts."""


class CohortError(GiantError):
    """A cohort folder with missing or malformed parts."""


class ProviderError(GiantError):
    """A chat model that refuses a request for good, or does not answer after every attempt."""


class RunError(GiantError):
    """A run folder that cannot be resumed, written or replayed."""


def printable(text: str) -> str:
    """The text with bytes that are no UTF-8, and with control characters, as `%XX`.

    A file name is bytes. Python reads those that are no UTF-8 as lone surrogates, which no file, page or
    terminal can be given.
    """
    return _UNPRINTABLE.sub(lambda match: "".join(f"%{byte:02X}" for byte in file_bytes(match[0])), text)


def file_bytes(text: str) -> bytes:
    """The bytes of a file name, as the system has them."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return text.encode(errors="surrogatepass")
