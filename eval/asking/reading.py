"""Read an answer from a model's words: forgiving about form, strict about meaning.

Models are asked for `{"answer": N}` and reply with text around it, letters, option texts, several numbers, or
no answer at all. A reply that names one option is that option; one that names none or more than one is None,
which counts as wrong: guessing what was meant would flatter some modes more than others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from agent.llm.json_text import mended_objects_in, objects_in

_MARKED = re.compile(
    r"\b(?:final\s+answer|correct\s+(?:answer|option|choice)|answer|option|choice)\b"
    r"(?:\s+(?:is|would\s+be|number|no\.?))*\s*[:=]?\s*[\"'(\[*]*\s*(-?\d+|[A-Za-z])\b(?![\w'’-])",
    re.IGNORECASE,
)
_MARKED_WORDS = re.compile(
    r"\b(?:final\s+answer|correct\s+(?:answer|option|choice)|answer)\b(?:\s+is)?\s*[:=]?\s*(.+)",
    re.IGNORECASE,
)
_LEADING = re.compile(r"^[\s(*\[\"']*(?:(\d+)|([A-Z]))\s*(?:[).:*\]]|[-–—]\s|$)")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.0+)?(?![\w.]*\d)")


def read_choice(text: str, options: Sequence[str]) -> str | None:
    """The option that a reply chooses, word for word; None where it chooses none or several.

    Numbers are 1-based places among the options, letters A, B, C… their places.
    """
    for value in values_under(text, "answer"):
        return _from_value(value, options)
    option_by_place = _marked(text, options)
    if option_by_place is not None:
        return option_by_place
    for words in reversed(_MARKED_WORDS.findall(text)):
        option = _named(words, options)
        if option is not None:
            return option
    return (
        _exact(text, options) or _led(text, options) or _named(text, options) or _only_number(text, options)
    )


def read_label(text: str, labels: Sequence[str], key: str = "answer") -> str | None:
    """The label that a reply to a question without options gives, such as an ISUP grade from 0 to 5.

    `key` is the key that the prompt asked for. A null there is the label "0" where there is one: no grade is
    no cancer.
    """
    for value in values_under(text, key):
        if value is None or (isinstance(value, str) and value.strip().lower() in ("null", "none", "nan", "")):
            return "0" if "0" in labels else None
        return _label(str(value), labels)
    for token in reversed(_MARKED.findall(text)):
        if token in labels:
            return str(token)
    return _label(text, labels)


def _label(text: str, labels: Sequence[str]) -> str | None:
    exact = _exact(text, labels)
    if exact is not None:
        return exact
    numbers = {str(int(float(n))) for n in _NUMBER.findall(text)} & {*labels}
    if len(numbers) == 1 and all(label.isdigit() for label in labels):
        return numbers.pop()
    return None if all(label.isdigit() for label in labels) else _named(text, labels)


def values_under(text: str, key: str) -> Iterator[Any]:
    """Values under `key` of the JSON objects in a text, the last object first.

    JSON with slips of form (single quotes, a comma too many) counts where no object has the key as it stands.
    """
    for read_objects in (objects_in, mended_objects_in):
        values = [value for item in read_objects(text) for value in _values_in(item, key)]
        if values:
            yield from reversed(values)
            return


def _values_in(item: Any, key: str) -> Iterator[Any]:
    """The value under `key` of an object, then those of the objects inside it, in their order."""
    stack = [item]
    while stack:  # not by recursion: a reply may nest deeper than functions can
        value = stack.pop()
        if isinstance(value, dict):
            names = {str(name).strip().lower(): name for name in value}
            if key in names:
                yield value[names[key]]
            stack += reversed(value.values())
        elif isinstance(value, list):
            stack += reversed(value)


def _from_value(value: Any, options: Sequence[str]) -> str | None:
    if isinstance(value, list):
        return _from_value(value[0], options) if len(value) == 1 else None
    if isinstance(value, bool) or value is None or isinstance(value, dict):
        return None
    if isinstance(value, float):
        return _place(str(int(value)), options) if value.is_integer() else None
    text = str(value).strip()
    return (
        _exact(text, options)
        or _place(text, options)
        or _led(text, options)
        or _marked(text, options)
        or _named(text, options)
    )


def _marked(text: str, options: Sequence[str]) -> str | None:
    """The place named last after a word such as "answer" or "option"."""
    places = (_place(token, options) for token in reversed(_MARKED.findall(text)))
    return next((option for option in places if option is not None), None)


def _place(text: str, options: Sequence[str]) -> str | None:
    """The option at a place given as a number from 1 or as a letter."""
    text = text.strip().strip("().[]*\"' ")
    if re.fullmatch(r"\d{1,3}", text):
        number = int(text)
    elif re.fullmatch(r"[A-Za-z]", text):
        number = ord(text.upper()) - ord("A") + 1
    else:
        return None
    return options[number - 1] if 1 <= number <= len(options) else None


def _led(text: str, options: Sequence[str]) -> str | None:
    """The place that a reply begins with: "B) because …", "3. Lung", "C"."""
    match = _LEADING.match(text.strip())
    return _place(match.group(1) or match.group(2), options) if match else None


def _exact(text: str, options: Sequence[str]) -> str | None:
    bare_text = _bare(text)
    matches = [option for option in options if _bare(option) == bare_text]
    return matches[0] if len(matches) == 1 else None


def _named(text: str, options: Sequence[str]) -> str | None:
    """The one option whose words stand in the text; an option that is part of a longer one that stands there
    as well does not count by itself."""
    sentence = f" {_bare(text)} "
    mentions = [option for option in options if _bare(option) and f" {_bare(option)} " in sentence]
    longest = [
        o for o in mentions if not any(o != p and f" {_bare(o)} " in f" {_bare(p)} " for p in mentions)
    ]
    if len(longest) != 1:
        return None
    return None if _denied(longest[0], sentence) else longest[0]


def _denied(option: str, sentence: str) -> bool:
    before = sentence.split(f" {_bare(option)} ")[0].split()[-3:]
    return any(word in ("not", "no", "isn", "never", "neither", "exclude", "excluded") for word in before)


def _only_number(text: str, options: Sequence[str]) -> str | None:
    """The only number in a text, where it is a place."""
    places = {str(int(float(n))) for n in _NUMBER.findall(text)}
    return _place(places.pop(), options) if len(places) == 1 else None


def _bare(text: str) -> str:
    return " ".join(re.sub(r"[^\w%+./-]+", " ", text.casefold()).strip(" .").rstrip("-").split())
