"""What a text says is there and what it says is absent, each sentence in its own language."""

from __future__ import annotations

from typing import NamedTuple

from agent.evidence.language import passages
from agent.evidence.negation import read
from agent.evidence.terms import ENGLISH, Need, need, need_of_absence
from agent.evidence.translated import read_in


class Said(NamedTuple):
    """What a text says, by what a look must show for it."""

    present: tuple[Need, ...]
    absent: tuple[Need, ...]
    unread: tuple[str, ...]
    """Sentences in languages that are not read."""


def said(text: str) -> Said:
    """What a text asks for. Nothing is asked for what is left open."""
    present: list[Need] = []
    absent: list[Need] = []
    unread: list[str] = []
    for passage in passages(text):
        if passage.language is None:
            unread.append(passage.text)
            continue
        language = passage.language
        reading = read(passage.text) if language == ENGLISH else read_in(passage.text, language)
        present += [need(part, language) for part in reading.present]
        absent += [need_of_absence(part, language) for part in reading.absent]
    return Said(tuple(present), tuple(absent), tuple(unread))


def says_absence(text: str) -> bool:
    """Whether a text says, in a language that is read, that something is not there."""
    return bool(said(text).absent)
