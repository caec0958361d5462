"""Reads what a sentence in another language than English says is there, and what is absent, by `words.toml`.

The rules are simpler than those for English, and err to the safe side: where a cue may deny what stands on
either side of it, both are read as absent, and an absence asks for more than a sighting does.
"""

from __future__ import annotations

import re

from agent.evidence.language import SPACELESS, Lexicon, lexicon, names_any
from agent.evidence.negation import QUESTION, Reading, named_by_others, without_places, zero_count

_STOPS = r"[.!?;](?=\s|$)|[。！？；]|\s[–—]\s"
_MINUS = re.compile(r"[:(：（|]\s*[-–−❌✗✘]\s*[)）]?\W*$")


def read_in(text: str, language: str) -> Reading:
    """What a text in one of the languages of `words.toml` says is there, and what it says is not."""
    words = lexicon(language)
    plain = without_places(QUESTION.sub(" ", text.replace("’", "'")))
    plain = re.sub(r"(\d[\d.,/%]*)", r" \1 ", plain) if language in SPACELESS else " ".join(plain.split())
    plain = words.passed.sub(" ", words.twice.sub(" ", plain))
    present: list[str] = []
    absent: list[str] = []
    for sentence in re.split(_STOPS, plain):
        before = len(absent)
        for clause in filter(str.strip, words.clause.split(sentence)):
            goes_on = language == "zh" and len(absent) > before and _goes_on(clause, words)
            _read_clause(clause, words, language, present, absent, is_list=goes_on)
    subjects = [part for part in present if names_any(part, language)]
    nameless = [part if names_any(part, language) else "" for part in absent]
    return Reading(tuple(present), named_by_others(nameless, subjects, text))


def _goes_on(clause: str, words: Lexicon) -> bool:
    """Whether a clause goes on with a list of what is absent: it has no verb of its own."""
    return not re.search(r"[见見有呈示伴为為是多]|存在|阳性|陽性|明[显顯]", clause)


def _read_clause(
    clause: str, words: Lexicon, language: str, present: list[str], absent: list[str], *, is_list: bool
) -> None:
    zero = zero_count(clause, words.zero.pattern)
    before, after = words.before.search(clause), words.after.search(clause)
    if words.open.search(clause):
        parts = re.split(r"[,，、]", clause)
        for part in parts if len(parts) > 1 else []:
            if not words.open.search(part) and (words.before.search(part) or words.after.search(part)):
                _read_clause(part, words, language, present, absent, is_list=False)
        return
    if zero or is_list or _MINUS.search(clause):
        absent.append(clause)
    elif before or after:
        _add_denied(clause, before, after, language, present, absent)
    elif words.normal.search(clause):
        absent.append(clause)
    else:
        present.append(clause)


def _add_denied(
    clause: str,
    before: re.Match[str] | None,
    after: re.Match[str] | None,
    language: str,
    present: list[str],
    absent: list[str],
) -> None:
    """What stands behind a cue of the first kind, or before one of the second; else the whole clause."""
    if before and names_any(clause[before.end() :], language):
        absent.append(clause[before.end() :])
        present.append(clause[: before.start()])
    elif after and names_any(clause[: after.start()], language):
        absent.append(clause[: after.start()])
        present.append(clause[after.end() :])
    else:
        absent.append(clause)
