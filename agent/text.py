"""Small texts that pages, the terminal and prompts share: numbers, money, boxes, sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence

NOTICE = "For research and demonstration. Not for diagnosis."


def human_share(share: float) -> str:
    """A share in whole per cent that says 0 and 100 only where it is exactly that."""
    if 0 < share < 0.005:
        return "under 1 %"
    if 0.995 <= share < 1:
        return "over 99 %"
    return f"{share * 100:.0f} %"


def human_money(usd: float) -> str:
    """US dollars to the cent, below ten cents to a hundredth of one."""
    return f"${usd:.2f}" if usd >= 0.1 or usd == 0 else f"${usd:.4f}"


def human_length(um: float) -> str:
    """Micrometres below a millimetre, else millimetres."""
    return f"{um:.3g} µm" if um < 1000 else f"{um / 1000:.3g} mm"


def markdown_text(text: object) -> str:
    """Text on one line in which no character starts Markdown or HTML."""
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", line)


def same_words(a: str, b: str) -> bool:
    """Whether two answers differ only in case and punctuation."""

    def bare(text: str) -> str:
        return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())

    return bare(a) == bare(b)


def first_sentences(text: str, most: int = 2) -> str:
    """The beginning of a text, whole sentences."""
    parts = " ".join(text.split()).split(". ")
    return ". ".join(parts[:most]).rstrip(".") + "."


def box_told(box: Sequence[int]) -> str:
    """A box in words."""
    return "(" + ", ".join(map(str, box)) + ")"
