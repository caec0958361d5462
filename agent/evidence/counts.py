"""Counts and shares of zero say that something is absent: "0 per 10 HPF", "0/10", "0 %", "fewer than one"."""

from __future__ import annotations

import re
from typing import NamedTuple

_PLACES = re.compile(
    r"\(\s*-?\d+(?:\s*,\s*-?\d+)+\s*\)|\b[xywh]\s*[=:]?\s*\d+\b"
    r"|\b(?:level|step|day|tile|box|core|slide|block|page|section|item|row)s?\s*[#:=-]?\s*0\b"
    r"|\b\d+\s?% was shown at\b"
    r"|(?:>|(?:more|greater|higher) than|above|over|exceed\w*|not(?: equal to)?|non-?)\s*(?:0|zero)\b",
    re.IGNORECASE,
)
"""Numbers of places, and what lies above zero."""
_ZERO = (
    r"(?<![\w.,/+*×x%−–-])0+(?:[.,]0+)?(?![\w]|[.,]\d|\s*(?:[-–—−]|to|bis|à|a|or|oder|ou|до|至|~|～)\s*[1-9])"
    r"|(?:<|＜|\b(?:less|fewer|lower) than|\bunder|\bbelow)\s*(?:1|one|0?[.,]\d+)(?![.,]?\d)"
    r"(?!\s*(?:[mcµμun]m\b|h\b|hour|day|week|month|year|mg|ml|times?\b|x\b))"
)
_UNITS = re.compile(
    r"^[\s)\]]*(?:$|[%％/:.,;)]|per\b|in\b|out\b|of \d|hpf|pro\b|por\b|par\b|на\b|из\b|/|個|个|each|at\b|mm)",
    re.IGNORECASE,
)
ENGLISH_ZERO = "zero|nought"


class ZeroCount(NamedTuple):
    """A clause around its zero."""

    before: str
    after: str
    counts_before: bool
    """Whether what is counted stands before the zero: "mitoses: 0 per 10 HPF"; else "0 mitoses"."""


def without_places(text: str) -> str:
    """The text without numbers that count nothing: boxes, levels, steps."""
    return _PLACES.sub(" ", text)


def zero_count(clause: str, words: str = ENGLISH_ZERO) -> ZeroCount | None:
    """The zero that a clause counts, in figures or as one of `words`; None where it counts none."""
    zero = re.search(rf"{_ZERO}|(?<!\w)(?:{words})(?!\w)", clause, re.IGNORECASE)
    if zero is None:
        return None
    before, after = clause[: zero.start()], clause[zero.end() :]
    return ZeroCount(before, after, _UNITS.match(after) is not None)
