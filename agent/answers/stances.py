"""What a reply says of the options that it names, and which one it therefore means.

Every place where an option is named either answers with it, states it, only mentions it, doubts it or denies
it. One option that is answered with is the answer, unless the reply takes it back or says two things. Where a
reply could be read in two ways it is not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from agent.answers import phrases
from agent.answers.mentions import SIGN
from agent.answers.options import UNREADABLE


class Stance(IntEnum):
    """How an option is named; of those above `MENTIONED` a higher one is the clearer."""

    DENIED = 0
    DOUBTED = 1
    MENTIONED = 2
    LED = 3
    """It begins a sentence that goes on about it."""
    STATED = 4
    ANSWERED = 5


class Place(NamedTuple):
    """An option named somewhere."""

    option: int
    stance: Stance
    in_words: bool
    sentence: int
    corrects: bool
    """Whether what stands before it takes back what was said so far."""
    final: bool


_SENTENCES = re.compile(r"(?<=[.!?;])\s+|\n+|(?<=[。！？；])|(?<=[.!?])(?=[⟦⟪])")
_PARTS = re.compile(
    r"[,;:()]|\s-\s|\b(?:but|so|because|since|therefore|thus|hence|whereas|while|although|though"
    r"|and\s+therefore|yet)\b",
    re.I,
)
_ADDS = re.compile(r"\W*(?:or|maybe|perhaps|possibly|alternatively|otherwise|else)\b", re.I)
_SHARE = re.compile(
    r"^\W{0,4}(?:probability|confidence|score|p)?\W{0,3}(?:\d{1,3}(?:\.\d+)?\s*%|0?\.\d+|1\.0+\b)", re.I
)


def chosen(text: str) -> int | None:
    """The option that a text with signs in it means; None where it means none for sure.

    `UNREADABLE` where it clearly answers, but with what no single option is.
    """
    places = places_in(text)
    if not places:
        return None
    answers = [place for place in places if place.stance >= Stance.STATED]
    answers = answers or [place for place in places if place.stance is Stance.LED]
    if answers:
        return _of_answers(answers, places)
    return _of_mentions(places, text)


def places_in(text: str) -> list[Place]:
    """Every place where a text names an option, in order."""
    text = _merged(_without_list(_shortened(phrases.NEUTRAL.sub(" ", text))))
    places: list[Place] = []
    taken_back = False
    for number, sentence in enumerate(_SENTENCES.split(text)):
        own = _in_sentence(sentence, number)
        if own and taken_back:
            own[0] = own[0]._replace(corrects=True)
        if not own and phrases.DISOWNED.match(sentence):
            places = [place._replace(stance=Stance.DOUBTED) for place in places]
        if sentence.strip(" ."):
            taken_back = not own and phrases.TAKEN_BACK.match(sentence) is not None
        places += own
    return places


def _shortened(text: str) -> str:
    if len(phrases.LIST_NUMBER.findall(text)) > 1:
        text = phrases.LIST_NUMBER.sub(r"\1 ", text)
    for abbreviation, short in phrases.ABBREVIATIONS:
        text = abbreviation.sub(short, text)
    return text


def _of_answers(answers: Sequence[Place], places: Sequence[Place]) -> int:
    best = answers[0]
    for place in answers[1:]:
        if place.option == best.option:
            best = max(place, best, key=lambda item: item.stance)
            continue
        takes_over = place.corrects or (place.final and place.stance == best.stance == Stance.ANSWERED)
        if not takes_over:
            return UNREADABLE
        best = place
    after = [
        place
        for place in places
        if place.option == best.option and place.stance in (Stance.DENIED, Stance.DOUBTED)
    ]
    last_answer = max(i for i, place in enumerate(places) if place == best)
    later = places[last_answer + 1 :]
    if any(place in after for place in later):
        return UNREADABLE
    if any(
        place.stance is Stance.DOUBTED and place.option != best.option and place.corrects for place in later
    ):
        return UNREADABLE
    if best.stance is Stance.STATED and any(
        p.stance is Stance.DOUBTED and p.sentence == best.sentence for p in places
    ):
        return UNREADABLE
    return best.option


def _of_mentions(places: Sequence[Place], text: str) -> int | None:
    """The one option that a text without an answer speaks of, in words and without a doubt."""
    if any(place.stance is Stance.DOUBTED for place in places) or phrases.REFUSAL.search(text):
        return None
    named = {place.option for place in places if place.stance is Stance.MENTIONED and place.in_words}
    denied = {place.option for place in places if place.stance is Stance.DENIED}
    if phrases.EXPECTS.search(text) and not phrases.EXPECTS.search(text.split("⟦")[0]):
        return None
    if len(named) != 1 or named & denied:
        return None
    if any(place.option == UNREADABLE for place in places):
        return None
    return named.pop()


def _in_sentence(sentence: str, number: int) -> list[Place]:
    found = list(re.finditer(SIGN, sentence))
    places: list[Place] = []
    i = 0
    while i < len(found):
        last = i
        while last + 1 < len(found) and _joined(sentence, found, i, last):
            last += 1
        group = found[i : last + 1]
        if len({match[1] for match in group}) > 1:  # commas before the last of several belong to them
            while (
                i
                and places
                and re.fullmatch(
                    r"\s*,\s*(?:an?\s+|the\s+)?", sentence[found[i - 1].end() : found[i].start()]
                )
            ):
                i -= 1
                group = [found[i], *group]
                places.pop()
        own = _of_group(sentence, group, number)
        between = sentence[found[i - 1].end() : group[0].start()] if i else ""
        after_denial = bool(places) and places[-1].stance is Stance.DENIED and phrases.BUT.match(between)
        after_doubt = bool(places) and places[-1].stance is Stance.DOUBTED and phrases.BUT_IS.match(between)
        corrected = bool(places) and len(own) == 1 and own[0].corrects and phrases.ONLY_FILLER.match(between)
        if len(own) == 1 and own[0].stance is Stance.MENTIONED and (after_denial or after_doubt or corrected):
            own = [own[0]._replace(stance=Stance.ANSWERED)]
        places += own
        i = last + 1
    if phrases.MARKS.match(sentence.strip()) and len(found) > 1 and len(phrases.MARKS.findall(sentence)) > 1:
        return [place._replace(stance=Stance.DOUBTED) for place in places]
    return _with_shares_doubted(places, found, sentence)


def _joined(sentence: str, found: Sequence[re.Match[str]], first: int, last: int) -> bool:
    """Whether an option and the next stand side by side as two that are meant alike."""
    between = sentence[found[last].end() : found[last + 1].start()]
    if phrases.JOINER.match(between):
        return True
    if not phrases.ADJACENT.match(between) or found[last][1] == found[last + 1][1]:
        return False
    before = re.split(r"[⟧⟫]", sentence[: found[first].start()])[-1]
    return not phrases.DENIED_BEFORE.search(before) or phrases.LISTED_AS_WRONG.search(before) is not None


def _with_shares_doubted(places: list[Place], found: Sequence[re.Match[str]], sentence: str) -> list[Place]:
    """Several options, each with a probability: which is meant is left to the reader of them."""
    shared = [match for match in found if _SHARE.match(sentence[match.end() :])]
    if len({match[1] for match in shared}) < 2:
        return places
    options = {int(match[1]) for match in shared}
    return [p._replace(stance=Stance.DOUBTED) if p.option in options else p for p in places]


def _of_group(sentence: str, group: Sequence[re.Match[str]], number: int) -> list[Place]:
    before, after = sentence[: group[0].start()], sentence[group[-1].end() :]
    options = list(dict.fromkeys(int(match[1]) for match in group))
    in_words = group[0][0].startswith("⟦")
    stance = _stance(before, after, in_words)
    if len(options) > 1 and stance is not Stance.DENIED:
        stance = Stance.DOUBTED
    if (
        stance is Stance.DENIED
        and phrases.DENIED_AFTER.match(after)
        and phrases.CALLED_THE_ANSWER.search(before)
    ):
        options, stance = [UNREADABLE], Stance.ANSWERED  # "Answer: A is unlikely"
    last_sign = max(before.rfind("⟧"), before.rfind("⟫")) + 1
    corrects = (
        phrases.CORRECTION.search(before[last_sign:]) is not None
        or _ADDS.match(before[last_sign:]) is not None
    )
    final = phrases.FINAL.search(before[last_sign:] + after[:40]) is not None
    return [Place(option, stance, in_words, number, corrects, final) for option in options]


def _stance(before: str, after: str, in_words: bool) -> Stance:
    own_after = re.split(r"[⟦⟪]", after)[0]
    own_before = re.split(r"[⟧⟫]", before)[-1]
    part = _PARTS.split(before)[-1]
    own_part = re.split(r"[⟧⟫]", part)[-1]
    if phrases.HEDGED_AFTER.match(after) or _asks(before, after) or phrases.RANKED.search(before[-400:]):
        return Stance.DOUBTED
    if phrases.LESS_THAN.search(own_before):
        return Stance.ANSWERED
    if phrases.HEDGED_BEFORE.search(own_before):
        return (
            Stance.DENIED
            if phrases.DENIED_BEFORE.search(own_before) and "exclude" not in own_before
            else Stance.DOUBTED
        )
    wrongly = phrases.DENIED_BEFORE.search(own_before) or phrases.LISTED_AS_WRONG.search(own_before)
    if wrongly or phrases.DENIED_AFTER.match(after):
        return Stance.DENIED
    if phrases.HEDGED_SENTENCE.search(before):
        return Stance.DOUBTED
    if phrases.CONCEDES.match(before):
        return Stance.MENTIONED
    if phrases.DENIED_SENTENCE.search(own_part):
        return Stance.DOUBTED
    if phrases.ANSWERED_BEFORE.search(own_before) or phrases.ANSWERED_AFTER.match(own_after):
        return Stance.ANSWERED
    if phrases.ONLY_FILLER.match(before) and (
        phrases.ONLY_FILLER.match(after)
        or phrases.CONTRAST.match(own_after)
        or (re.match(r"\s*(?:[,:.;(=-]|because|since|as\b|due|given|based)", own_after))
    ):
        if re.match(r"\s*[:=-]", own_after) and not phrases.ONLY_FILLER.match(own_after):
            return Stance.LED
        clear = not in_words or phrases.ONLY_FILLER.match(after) or phrases.CONTRAST.match(own_after)
        return Stance.ANSWERED if clear else Stance.STATED
    if phrases.STATED_BEFORE.search(own_before) or phrases.LOOKS_LIKE.search(own_before):
        return Stance.STATED
    if own_before != before and phrases.IS_ONLY.match(own_before) and phrases.OFFERS.search(before):
        return Stance.ANSWERED
    if (
        not in_words
        and own_before == before
        and re.search("[,:]", before)
        and phrases.ONLY_FILLER.match(part + after)
    ):
        return Stance.STATED
    return Stance.MENTIONED


def _asks(before: str, after: str) -> bool:
    """Whether the sentence is a question."""
    return (
        after.rstrip().endswith(("?", "？"))
        or re.match(r"\W*(?:is|are|could|can|would|should|does)\s+(?:it|this|that|the)\b", before, re.I)
        is not None
    )


_LABELLED = re.compile(
    r"⟪(-?\d+)⟫((?:\s*[.):,=\]/-]*\s*[(\"']*\s*)(?:(?:i\.?e\.?,?|namely|which\s+is|meaning|is|the"
    r"|an?|for|:|->|→)\s+)*[(\"']*)⟦(-?\d+)⟧",
    re.IGNORECASE,
)
_EXPLAINED = re.compile(
    r"⟦(-?\d+)⟧([ \t]*[(\[,:=/-]*[ \t]*(?:(?:which\s+is\s+)?(?:option|choice|answer|letter"
    r"|number)\s+)*)⟪(-?\d+)⟫"
)

_TWICE = re.compile(r"⟪(-?\d+)⟫([ \t]*[.):=-]+[ \t]*)⟪(-?\d+)⟫")


def _merged(text: str) -> str:
    """Letter and words that stand together as one sign, which is unreadable where they name two options."""

    def merge(match: re.Match[str]) -> str:
        before, first, between, second = text_now[: match.start()], match[1], match[2], match[3]
        if first == second:
            return f"⟦{first}⟧"
        if phrases.DENIED_BEFORE.search(re.split(r"[⟧⟫]", before)[-1]) or "\n" in between:
            return match[0]
        return f"⟦{UNREADABLE}⟧"

    text_now = text
    text = _LABELLED.sub(merge, text)
    text_now = text
    text = _EXPLAINED.sub(merge, text)
    text_now = text
    return _TWICE.sub(merge, text)


def _without_list(text: str) -> str:
    """A text without the options that it repeats in their order before it answers."""
    count = 0
    while re.search(rf"⟪{count}⟫\W*⟦{count}⟧", text):
        count += 1
    if count < 2:
        return text
    lines = r"[^⟦⟧⟪⟫A-Za-z]*".join(rf"⟪{i}⟫\W*⟦{i}⟧" for i in range(count))
    return re.sub(lines, " ", text, count=1)
