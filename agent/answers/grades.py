"""Reads a label of a scale, above all an ISUP grade from 0 to 5, also in the words of pathology."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from agent.answers.choices import last_part, read_option
from agent.answers.options import NUMBER_WORDS, ROMAN
from agent.answers.reasoning import without_reasoning
from agent.answers.values import is_placeholder, marked_answers, values_under
from agent.text import plain

_VALUE = r"(?P<value>\d+(?:\.0+)?(?![\d.]*\d)|zero|one|two|three|four|five|iv|v|i{1,3})"
_END = r"(?!\w|\s*(?:-|–|to|or|/|and)\s*(?:\d|i{1,3}\b|iv\b|v\b|one|two|three|four|five)|\s*%|\s*[+]\s*\d)"
_OF_ALL = r"(?:\s*(?:/|of|out\s+of)\s*5)?"
_NAMED = re.compile(
    r"\b(?:isup(?:[\s/-]*(?:who|grade|group|grad|gg|score|\(.{0,12}\)))*|grade[\s-]*groups?"
    r"|grading\s+group|gg|gleason[\s-]+grade[\s-]+group|prognostic\s+(?:grade\s+)?group|grade)"
    rf"(?:\s+(?:is|of|would\s+be|group|grade|score|number))*\s*[:=(\"'-]*\s*{_VALUE}{_OF_ALL}{_END}",
    re.IGNORECASE,
)
_ANSWERED = re.compile(
    rf"\b(?:answer|choose|select|result|antwort|réponse|respuesta|答案|label|it\s+is|i'd\s+say"
    rf"|i\s+say|prediction)\b(?:\s+(?:is|would\s+be|grade|group"
    rf"|isup))*\s*[:：=(\"'*-]*\s*{_VALUE}{_OF_ALL}{_END}",
    re.IGNORECASE,
)
_ALONE = re.compile(
    rf"[\W_]*(?:grade|group|label|level|score|class)?\W*{_VALUE}{_OF_ALL}[\W_]*", re.IGNORECASE
)
_LED = re.compile(rf"[\W_]*{_VALUE}{_OF_ALL}(?=\s*(?:[,;:.(]\s|\(|-\s|\n))", re.IGNORECASE)
_SUM = re.compile(r"(?<![\d.])([1-5])\s*\+\s*([1-5])(?:\s*(?:=|\()\s*(\d+))?(?!\d)")
_SCORE = re.compile(
    r"\bgleason(?:\s+(?:score|sum|grade|total))*\s*(?:is|of|:|=)?\s*(\d+)(?!\s*[+\d.])(?:/10)?", re.IGNORECASE
)
_BENIGN = re.compile(
    r"\b(?:benign|non-?\s?(?:neoplastic|malignant|cancerous)|(?:no|negative\s+for|without"
    r"|free\s+of|absence\s+of|lacks?)\s+(?:\w+\s+){0,3}?"
    r"(?:cancer|carcinoma|adenocarcinoma|malignancy|malignant\s+\w+|tumou?r|neoplasia|neoplasm)"
    r"|normal\s+(?:prostat\w+|tissue|glands?)|cancer-free"
    r"|not\s+(?:cancer|malignant|cancerous)|no\s+grade|gutartig|bénin|benigno)\b",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\b(?:not|no|never|isn't|rather\s+than|instead\s+of|exclud\w+|neither|nor|unlikely|than"
    r"|versus|vs)\W+(?:\w+\W+){0,2}$",
    re.IGNORECASE,
)
_DOUBT = re.compile(
    r"\b(?:if|whether|might|may|could|either|between|cannot|can't|unable|sorry|possibly|perhaps"
    r"|maybe|not\s+sure|unsure|uncertain|or)\b|\?",
    re.I,
)
_NOT_BENIGN = re.compile(
    r"\b(?:not|isn't|hardly|never)\s+(?:\w+\s+)?$|\b(?:mixed|adjacent|surrounding|some|other"
    r"|between|beside|next\s+to)\s+(?:\w+\s+)?$",
    re.I,
)
_NULLS = ("null", "none", "nan", "", "n/a", "na")


def read_grade(text: str, labels: Sequence[str], key: str = "answer") -> str | None:
    """The label that a reply to a question without options gives; None where it gives none for sure.

    `key` is the JSON key that the prompt asked for. A null there is the label "0" where there is one: no
    grade is no cancer. Of ISUP grades, Gleason scores and words such as "benign" are read as well.
    """
    said = last_part(without_reasoning(text).strip())
    for name in (key, "answer", "isup_grade", "isup", "grade_group", "grade", "choice", "label"):
        for value in values_under(said, name):
            if not is_placeholder(value) or value == "":
                return _of_value(value, labels)
    marked = marked_answers(said)
    if marked:
        read = {_of_words(words, labels) for words in marked}
        return read.pop() if len(read) == 1 else None
    return _of_words(said, labels)


def _of_value(value: Any, labels: Sequence[str]) -> str | None:
    if value is None or (isinstance(value, str) and value.strip().lower() in _NULLS):
        return "0" if "0" in labels else None
    if isinstance(value, list) and len(value) == 1:
        return _of_value(value[0], labels)
    if isinstance(value, bool | dict | list):
        return None
    return _of_words(f"{value:g}" if isinstance(value, float) else str(value), labels)


def _of_words(said: str, labels: Sequence[str]) -> str | None:
    if said.strip() in labels:
        return said.strip()
    if not all(label.isdigit() for label in labels):
        return read_option(said, labels)
    text = plain(said)
    values = _values(text) | _of_gleason(text, labels) | _of_benign(text, labels)
    value = values.pop() if len(values) == 1 else None
    return value if value in labels else None


def _values(text: str) -> set[str]:
    """The values that a text gives by name, or that are the whole of it."""
    alone = _ALONE.fullmatch(text)
    if alone and not text.strip().startswith("-"):
        return {_figure(alone["value"])}
    if _DOUBT.search(_SUM.sub(" ", text)):
        named = list(_ANSWERED.finditer(text))
        doubtful = re.search(r"\b(?:or|either|between|if|whether)\b", text, re.IGNORECASE)
        return {"?"} if doubtful or not named else {_figure(match["value"]) for match in named}
    found = {_figure(match["value"]) for match in _kept(_ANSWERED, text)} | {
        _figure(match["value"]) for match in _kept(_NAMED, text)
    }
    if not found and (led := _LED.match(text)):
        found = {_figure(led["value"])}
    return found


def _kept(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Matches that are not denied and are no part of a Gleason score."""
    for match in pattern.finditer(text):
        before = text[: match.start()]
        if _DENIED.search(before) or (
            re.search(r"gleason\s+$", before, re.I) and match[0].lower().startswith("grade ")
        ):
            continue
        yield match


def _figure(value: str) -> str:
    value = value.lower()
    value = ROMAN.get(value, NUMBER_WORDS.get(value, value))
    return str(int(float(value)))


def _of_gleason(text: str, labels: Sequence[str]) -> set[str]:
    """The ISUP grades of a text's Gleason scores (Epstein et al. 2016); "?" where one is not sure."""
    if "5" not in labels:
        return set()
    grades = set()
    sums = [
        match
        for match in _SUM.finditer(text)
        if not _DENIED.search(re.sub(r"\bgleason\W*(?:score\W*)?$", "", text[: match.start()], flags=re.I))
    ]
    for match in sums:
        first, second = int(match[1]), int(match[2])
        wrong = match[3] is not None and int(match[3]) != first + second
        grades.add("?" if wrong else _isup(first, second))
    if not sums:
        for match in _SCORE.finditer(text):
            grades.add({"6": "1", "8": "4", "9": "5", "10": "5"}.get(match[1], "?"))
        if grades == {"?"} and (_values(text) - {"?"}):
            return set()  # 7 is grade 2 or 3, and the text says which
    return grades


def _isup(first: int, second: int) -> str:
    total = first + second
    if total <= 6:
        return "1"
    if total == 7:
        return "2" if first == 3 else "3" if first == 4 else "?"
    return "4" if total == 8 else "5"


def _of_benign(text: str, labels: Sequence[str]) -> set[str]:
    if "0" not in labels:
        return set()
    kept = [
        match for match in _BENIGN.finditer(text)
        if not _NOT_BENIGN.search(text[: match.start()]) and not _DOUBT.search(text)
        and not re.match(
            r"\s+(?:glands?|tissue|areas?|stroma|prostatic\s+\w+)\s+(?:are|is|can|and|next|beside"
            r"|adjacent|surround)", text[match.end() :], re.I)
    ]  # fmt: skip
    return {"0"} if kept else set()
