"""Which option a reply chooses: forgiving about form, strict about meaning.

Options are named by letter, by number or in words, plainly or in sentences, in JSON, \\boxed{} or <answer>.
A reply that names none, or two, or a letter and words that differ, or that could be read in two ways, names
none: to guess what was meant would be worse than to count it as unread.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from agent.answers import phrases
from agent.answers.mentions import with_signs
from agent.answers.options import NONE_WORDS, UNREADABLE, Options
from agent.answers.polarity import pair, polarity
from agent.answers.reasoning import without_reasoning
from agent.answers.stances import Stance, chosen, places_in
from agent.answers.values import ANSWER_KEYS, answers_in_json, marked_answers, without_objects
from agent.text import plain
from core_model.words import content_words

READER = 3
"""The version of the reading of answers: results of two are not mixed."""
MOST_TEXT = 6000
"""Characters of a reply that are read, from its end: a model that repeats itself writes without end."""
_BEGINNING = re.compile(r"\n\s*|[.!?。]\s+")


def read_option(text: str, options: Sequence[str], question: str = "") -> str | None:
    """The option that a reply chooses, word for word; None where it chooses none for sure.

    `question` tells whether a reply such as "it is present" means yes.
    """
    known = Options(options)
    said = last_part(without_reasoning(text).strip())
    place = _read(said, known, question)
    return known.names[place] if place is not None and place >= 0 else None


def last_part(text: str) -> str:
    """The end of a text, from the beginning of a line or sentence: half a sentence may say the opposite."""
    if len(text) <= MOST_TEXT:
        return text
    part = text[-MOST_TEXT:]
    start = _BEGINNING.search(part)
    return part[start.end() :] if start else ""


def _read(said: str, options: Options, question: str) -> int | None:
    if not said or (
        phrases.ASKED_FOR_THE_WRONG.search(said) and not phrases.ASKED_FOR_THE_WRONG.search(question)
    ):
        return None
    whole = options.named(said)
    if whole is not None:
        return whole
    holders = answers_in_json(said)
    if holders:
        place = _of_values(holders[0], options, question)
        return _unless_taken_back(place, said, options)
    marked = marked_answers(said)
    if marked:
        return _of_marked(marked, options, question)
    return _of_words(said, options, question)


def _of_values(values: Sequence[Any], options: Options, question: str) -> int | None:
    """The option of the values of one JSON object, which must not differ."""
    places = {_of_value(value, options, question) for value in values}
    read = places - {None}
    return read.pop() if len(read) == 1 else None


_PARTS_OF_AN_ANSWER = (*ANSWER_KEYS, "letter", "label", "text", "name", "value")


def _of_value(value: Any, options: Options, question: str) -> int | None:
    if isinstance(value, dict):
        parts = [own for name, own in value.items() if str(name).strip().lower() in _PARTS_OF_AN_ANSWER]
        return _of_values(parts, options, question)
    if isinstance(value, list):
        return _of_value(value[0], options, question) if len(value) == 1 else None
    if isinstance(value, bool):
        return _of_words("yes" if value else "no", options, question) if pair(options) else None
    if isinstance(value, int | float):
        text = f"{value:g}" if isinstance(value, float) else str(value)
        named = options.named(text)
        return options.by_number(text) if named is None else named
    if not isinstance(value, str):
        return None
    said = value.strip()
    return _of_words(said.upper() if re.fullmatch("[a-z]", said) else said, options, question)


def _of_marked(marked: Sequence[str], options: Options, question: str) -> int | None:
    """The option in the marks of a reply, which must not differ."""
    places = {_of_words(words, options, question) for words in marked}
    return places.pop() if len(places) == 1 else None


def _unless_taken_back(place: int | None, said: str, options: Options) -> int | None:
    """The option of a reply's JSON, unless the words after it answer with another."""
    rest = without_objects(said[said.rfind("}") + 1 :])
    later = chosen(with_signs(plain(rest), options)) if rest.strip(" `\n.") else None
    return (
        None
        if later is not None and place is not None and later != place and _answers(rest, options)
        else place
    )


def _answers(rest: str, options: Options) -> bool:
    return any(place.stance is Stance.ANSWERED for place in places_in(with_signs(plain(rest), options)))


def _of_words(said: str, options: Options, question: str) -> int | None:
    whole = options.named(said)
    if whole is not None:
        return whole
    text = plain(said)
    whole = options.named(text)
    if whole is not None:
        return whole
    if (short := _fragment(text, options)) is not None:
        return short
    signed = with_signs(_with_none(text, options), options)
    if (counted := _counted(text, options, question)) is not None:
        return counted
    if (shared := _of_shares(signed)) is not None:
        return shared
    place = chosen(signed)
    unsure = any(
        named.stance is Stance.DOUBTED
        or (named.stance is Stance.DENIED and options.words[named.option] in (("yes",), ("no",)))
        for named in places_in(signed)
    )
    said_so = None if unsure or place == UNREADABLE else polarity(text, options, question)
    if said_so is None or place is None:
        return place if said_so is None else said_so
    return place if place == said_so else UNREADABLE


def _fragment(text: str, options: Options) -> int | None:
    """The option that a text of one sign names: "(b)", "2.", "Answer: grade 2"."""
    bare = text.strip().strip("()[]{}\"'.,:;*$ ").strip()
    if re.fullmatch(r"\d{1,4}(?:\.0+)?", bare) and not text.strip().startswith("-"):
        return options.by_number(bare)
    if (
        pair(options)
        and re.fullmatch(r"[YyNnTtFf]", bare)
        and ord(bare.upper()) - ord("A") >= len(options.names)
    ):
        yes, no = pair(options) or (UNREADABLE, UNREADABLE)
        return yes if bare in "YyTt" else no
    if re.fullmatch(r"[A-Za-z]", bare):
        return options.by_letter(bare)
    if position := re.fullmatch(r"(?:the\s+)?(?:option|choice|number|#)\W*(\d{1,2})", bare, re.IGNORECASE):
        return options.by_position(position[1])
    if (other := _contrary(bare, options)) is not None or (other := _first_of(bare, options)) is not None:
        return other
    parts = re.fullmatch(
        r"\W*(?:(?:the\s+|my\s+)?(?:final\s+|correct\s+)?(?:answer|choice|option"
        r"|diagnosis)(?:\s+is)?\s*[:=-]?|it(?:\s+is|'s)|this\s+is)\s+(.+)",
        text,
        re.IGNORECASE | re.DOTALL,
    )
    return options.named(parts[1].strip(" .\"'()*")) if parts else None


_CONTRARIES = ({("positive",), ("negative",)}, {("present",), ("absent",)})


def _contrary(text: str, options: Options) -> int | None:
    """The option of "not positive" where the only other one is "negative"."""
    denied = re.fullmatch(r"(?:it\s+is\s+|it's\s+)?not\s+(\w+)", text, re.IGNORECASE)
    if denied is None or len(options.words) != 2 or set(options.words) not in _CONTRARIES:
        return None
    place = options.named(denied[1])
    return None if place is None else 1 - place


def _first_of(text: str, options: Options) -> int | None:
    """The option that a text sets above others: "B > A"."""
    if ">" not in text or re.search(r"\d|[-=<>]>|>=", text):
        return None
    parts = [part.strip() for part in text.split(">")]
    places = [options.by_letter(part) if len(part) == 1 else options.named(part) for part in parts]
    told = [place for place in places if place is not None and place >= 0]
    return places[0] if len(set(told)) == len(places) else None


def _counted(text: str, options: Options, question: str) -> int | None:
    """The option of a whole reply such as "There are 3 mitoses" to a question how many there are of them."""
    said = re.fullmatch(
        r"\W*(?:there\s+(?:is|are)|i\s+(?:see|count))\s+(\w+)\s+([\w -]+?)\W*", text, re.IGNORECASE
    )
    if said is None or not re.search(r"\bhow\s+many\b|\bnumber\s+of\b|\bcount\b", question, re.IGNORECASE):
        return None
    return options.named(said[1]) if set(content_words(said[2])) & set(content_words(question)) else None


_SHARED = re.compile(
    r"[^\w⟪⟦]*⟪(\d+)⟫[^\w⟪⟦]*(?:⟦\1⟧\W*)?(?:(?:probability|confidence|likelihood)\W*)?(\d{1,3}(?:\.\d+)?)\s*%[^\w⟪⟦]*",
    re.IGNORECASE,
)


def _of_shares(signed: str) -> int | None:
    """The likeliest option of a text that is nothing but options by letter, each with its probability."""
    shares = [(float(match[2]), int(match[1])) for match in _SHARED.finditer(signed)]
    if len({place for _, place in shares}) < 2 or _SHARED.sub("", signed).strip():
        return None
    most = max(shares)[0]
    best = {place for share, place in shares if share == most}
    return best.pop() if len(best) == 1 and sum(share for share, _ in shares) <= 101 else UNREADABLE


def _with_none(text: str, options: Options) -> str:
    """The text in which every way of saying "none of the above" is the option's own, where there is one."""
    place = options.none_of_them
    if place is None:
        return text
    words = NONE_WORDS.replace(")*)?", ")*)", 1)
    return re.sub(
        rf"\b{words}\b(?!\s+(?:of\s+)?(?:⟦|\w+\s+cells?))",
        f" {options.plain[place].rstrip(' .')} ",
        text,
        flags=re.I,
    )
