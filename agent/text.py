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
    """Whether two answers differ only in case, spelling and punctuation; signs, units and numbers count."""
    from agent.wording import wording

    return a == b or (wording(a) == wording(b) != ())


def first_sentences(text: str, most: int = 2) -> str:
    """The beginning of a text, whole sentences."""
    parts = " ".join(text.split()).split(". ")
    return ". ".join(parts[:most]).rstrip(".") + "."


def first_upper(text: str) -> str:
    """A text that begins with a capital letter and is otherwise unchanged."""
    return text[:1].upper() + text[1:]


def join_words(words: Sequence[str]) -> str:
    """A list in words: "2", "2 and 5", "2, 5 and 6"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def steps_in_words(indices: Sequence[int]) -> str:
    """Step numbers in words: "step 2", "steps 2, 5 and 6"."""
    return f"step{'s' * (len(indices) != 1)} {join_words([str(index) for index in indices])}"


def box_in_words(box: Sequence[int]) -> str:
    """A box as (x, y, width, height)."""
    return "(" + ", ".join(map(str, box)) + ")"


def answer_sentence(answer: str, confidence: float) -> str:
    """The first sentence of an answer: "Squamous cell carcinoma, grade 2, confidence 0.95."

    An answer of several sentences keeps them, and the confidence gets one of its own.
    """
    words = first_upper(answer.rstrip(". "))
    separator = ". Confidence" if ". " in words else ", confidence"
    return f"{words}{separator} {confidence:.2f}."


def no_answer(reason: str) -> str:
    """The first sentence of an abstention; `reason` is a clause or a sentence."""
    return f"No answer: {reason.rstrip('. ')}."


def share_in_words(count: int, total: int) -> str:
    """How many of a number of things: "All 30", "18 of 30"."""
    return f"All {total}" if count == total > 1 else f"{count} of {total}"


def answer_words(text: str, confidence: float) -> str:
    """The first sentence of an answer without the confidence that `answer_sentence` put into it."""
    first = first_sentences(text, 1)
    ending = f", confidence {confidence:.2f}."
    return f"{first.removesuffix(ending)}." if first.endswith(ending) else first
