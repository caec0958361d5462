"""JSON objects inside prose: what a model that was asked for a tool call wrote into its words instead.

`objects_in` reads what is JSON. `mended_objects_in` also reads what nearly is (single quotes, bare keys, a
comma too many) with `json-repair`, which is eager: it makes an object of almost any text. So a mended object
counts only where the text begins and ends like an object, and where it says the same words in the same order:
a repair may add quotes, commas and brackets, but it may not drop, add or change a word or a number.

Nothing here raises: a text without JSON has no objects.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_MOST_TRIES, _MOST_REPAIRS = 200, 20
"""Opening braces at which an object is looked for in one text, as it stands and with repairs."""
_LONGEST_REPAIR = 20_000
"""Characters of what is repaired at most."""
_OBJECT_START = re.compile(r"""\{\s*(?:"[^"{}]*"|'[^'{}]*'|“[^”{}]*”|[A-Za-z_][\w-]*)\s*:""")
_VALUE_END = re.compile(r"""(?:["'”’]|[:\[,]\s*[\w.+-]+)[\s,;\]}]*\}$""")
"""How an object ends: with a quotation mark, or a bare word or number, and what closes it."""
_ESCAPE = re.compile(r"""\\(?:["'/\\]|[nrtbf])""")
_WORD = re.compile(r"""[^\s"'“”‘’`{}\[\],;:\\]+""")


def objects_in(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects that stand in a text as they are: outermost ones, in order."""
    decoder, place, tries = json.JSONDecoder(), 0, _MOST_TRIES
    while tries and (place := text.find("{", place)) >= 0:
        tries -= 1
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            place += 1
            continue
        yield value


def mended_objects_in(text: str) -> Iterator[dict[str, Any]]:
    """The objects of a text that are JSON but for slips of form: outermost ones, in order."""
    end, repairs = 0, _MOST_REPAIRS
    for start, stop in _closed_braces(text):
        if start < end or not repairs or not _OBJECT_START.match(text, start):
            continue
        repairs -= 1
        value = _mended(text[start:stop])
        if value is not None:
            end = stop
            yield value


def object_meant(text: str, depth: int = 0) -> dict[str, Any] | None:
    """The one object that the arguments of a call are meant to be; None where there is none, or two.

    Beside slips of form it may stand among words, in a text of its own or in a list, and lack brackets at its
    ends. A text without anything means no arguments.
    """
    text = text.strip()
    if not text or text in ("null", "None"):
        return {}
    if len(text) > _LONGEST_REPAIR * 5:
        return None
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return _object_among_words(text)
    if isinstance(value, str) and depth < 2 and "{" in value:
        return object_meant(value, depth + 1)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, dict) else None


def _object_among_words(text: str) -> dict[str, Any] | None:
    start = text.find("{")
    if start < 0 or (text[0] in "\"'" and ":" in text[:start]):
        text, start = f"{{{text}", 0
        if not text.rstrip("`\n ").endswith("}"):
            return None
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text, start)
    except (ValueError, RecursionError):
        end, whole = len(text), text[start : text.rfind("}") + 1] or text[start:]
        goes_on = re.search(r"""^\s*[,\]]|["'\w]\s*:""", text[start + len(whole) :]) is not None
        value = _mended(whole) if len(whole) <= _LONGEST_REPAIR and not goes_on else None
        if value is None:
            value = _object_with_lost_brackets(text[start:])
    return value if isinstance(value, dict) and "{" not in text[end:] else None


def _object_with_lost_brackets(text: str) -> dict[str, Any] | None:
    whole = _balanced(text.rstrip("`\n\t ;"))
    if whole is None or len(whole) > _LONGEST_REPAIR:
        return None
    try:
        value = json.loads(whole, strict=False)
    except (ValueError, RecursionError):
        return _mended(whole)
    return value if isinstance(value, dict) and value else None


def _balanced(text: str) -> str | None:
    """The text with the brackets that it lacks and no needless ones; None where it ends in a string."""
    closers, opened, kept, quote = {"{": "}", "[": "]"}, list[str](), list[str](), ""
    place = 0
    while place < len(text):
        sign = text[place]
        if quote:
            if sign == "\\":
                kept.append(sign)
                place += 1
                sign = text[place : place + 1]
            elif sign == quote:
                quote = ""
        elif sign == '"' or (sign == "'" and not text[place - 1 : place].isalnum()):
            quote = sign
        elif sign in closers:
            opened.append(closers[sign])
        elif sign in "}]":
            while sign in opened and opened[-1] != sign:
                kept.append(opened.pop())
            if not opened:
                break
            if opened[-1] != sign:
                place += 1
                continue
            opened.pop()
        kept.append(sign)
        place += 1
    return None if quote else "".join([*kept, *reversed(opened)])


def _closed_braces(text: str) -> list[tuple[int, int]]:
    """Start and end of each pair of braces that is not too long to mend, in the order of their starts."""
    pairs: list[tuple[int, int]] = []
    starts: list[int] = []
    for match in re.finditer(r"[{}]", text):
        if match[0] == "{":
            starts.append(match.start())
        elif starts:
            start = starts.pop()
            if match.end() - start <= _LONGEST_REPAIR:
                pairs.append((start, match.end()))
    return sorted(pairs)


def _mended(text: str) -> dict[str, Any] | None:
    """The object of a text in braces after repairs; None where the repairs would change what it says."""
    import json_repair

    if not _VALUE_END.search(text):
        return None  # the brace stands inside a string
    try:
        value = json_repair.loads(text, strict=True)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and _says_the_same(text, value) else None


def _says_the_same(text: str, value: dict[str, Any]) -> bool:
    text_words = _words(_ESCAPE.sub(" ", text))
    value_words = [word for leaf in _leaves(value) for word in _words(leaf)]
    return len(text_words) == len(value_words) and all(map(_equal, text_words, value_words))


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


def _leaves(value: Any) -> Iterator[str]:
    """Every key and every value of a JSON value as text, in the order in which they are written."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value if isinstance(value, str) else json.dumps(value)


def _equal(text_word: str, value_word: str) -> bool:
    """Whether two words are one, also where they write one number or constant in two ways."""
    if text_word == value_word:
        return True
    constants = {"None": "null", "True": "true", "False": "false"}
    if constants.get(text_word) == value_word:
        return True
    try:
        return float(text_word) == float(value_word)
    except ValueError:
        return False
