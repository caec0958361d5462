"""Reads how sure a model says it is."""

from __future__ import annotations

import math
import re

_FIGURE = r"[-+]?(?:\d+(?:[.,]\d+)?|[.,]\d+)"
_RATIO = re.compile(
    rf"(?<![\w.,/-])({_FIGURE})\s*(?:/|out\s+of|of)\s*(\d+(?:[.,]\d+)?)(?![\w/]|[.,]\d)", re.IGNORECASE
)
_PERCENT = re.compile(
    rf"(?<![\w.,/-])({_FIGURE})\s*(?:%|percent\b|per\s+cent\b|pct\b|％|Prozent\b|pour\s+cent\b)",
    re.IGNORECASE,
)
_NUMBER = re.compile(rf"(?<![\w.,/-])({_FIGURE})(?![\w/%]|[.,]\d|\s*(?:-|–|to)\s*\d)")


def confidence_of(value: float | str) -> float | None:
    """A confidence as a share of 1: "0.8", "80 %", "8/10", "0.95 (high)", 80; else None.

    A number above 1 is a percentage from 10 to 100 only: 8 may mean 8 % or 8 of 10.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return _share(float(value))
    text = " ".join(value.split())
    for pattern, read in ((_RATIO, _ratio), (_PERCENT, _percent), (_NUMBER, _plain)):
        figures = list(pattern.finditer(text))
        if figures:
            shares = {read(match) for match in figures}
            rest = pattern.sub(" ", text)
            return shares.pop() if len(shares) == 1 and not re.search(r"\d", rest) else _same(shares, rest)
    return None


def _same(shares: set[float | None], rest: str) -> float | None:
    """The share where the other figures of a text say the same: "0.9 (90 %)"."""
    shares |= {_plain(match) for match in _NUMBER.finditer(rest)}
    known = {round(share, 6) for share in shares if share is not None}
    return (
        known.pop()
        if len(known) == 1 and None not in shares and not re.search(r"\d\s*-\s*\d", rest)
        else None
    )


def _float(text: str) -> float:
    return float(text.replace(",", "."))


def _ratio(match: re.Match[str]) -> float | None:
    part, whole = _float(match[1]), _float(match[2])
    return part / whole if whole > 0 and 0 <= part <= whole else None


def _percent(match: re.Match[str]) -> float | None:
    percent = _float(match[1])
    return percent / 100 if percent == 0 or 1 <= percent <= 100 else None


def _plain(match: re.Match[str]) -> float | None:
    return _share(_float(match[1]))


def _share(number: float) -> float | None:
    if not math.isfinite(number) or number < 0:
        return None
    if number <= 1:
        return number
    return number / 100 if 10 < number <= 100 else None
