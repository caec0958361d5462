"""The options of a question as they can be named: in words, by a letter, by a number."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property

from agent.text import Token, plain, tokens, worded_tokens, wording

UNREADABLE = -1
"""The place of what is named like an option and is none, or could be two."""
Words = tuple[str, ...]

NONE_WORDS = (
    r"(?:none|neither|no\s+option|no\s+answer)(?:\s+(?:one\s+)?of\s+(?:the\s+|these\s+|those\s+)?"
    r"(?:above|below|these|those|them|options?|answers?|choices|listed|given|others?)"
    r"(?:\s+(?:options?|answers?|choices|above|listed|given))*)?"
)
_FITS = r"(?:fits?|appl(?:y|ies)|match(?:es)?|(?:is|are)\s+(?:right|correct|suitable|appropriate|applicable))"
_NONE = re.compile(rf"\W*{NONE_WORDS}(?:\s+{_FITS})?\W*", re.IGNORECASE)
_NONE_OF = re.compile(rf"\W*(?=\w+\s+(?:\w+\s+)?of\b){NONE_WORDS}\W*", re.IGNORECASE)
"""An option "None" may be an amount, and "none of these" is not it."""
_ALL = re.compile(
    r"\W*all(?:\s+of)?\s+(?:the\s+)?(?:above|these|those|them|options|choices)(?:\s+(?:options|above))?\W*",
    re.I,
)
_UNSURE = re.compile(
    r"\W*(?:(?:i\s*am|i'm|it\s+is|it's|is)\s+)?(?:uncertain|unsure|unclear|indeterminate"
    r"|equivocal|unknown"
    r"|not\s+(?:sure|certain|clear)|undetermined|can(?:not|'t)\s+(?:be\s+)?(?:tell|say|determined?"
    r"|assessed))\W*",
    re.IGNORECASE,
)
_NUMBERED = (
    "grade",
    "stage",
    "level",
    "type",
    "class",
    "group",
    "fuhrman",
    "figo",
    "clark",
    "score",
    "grad",
    "who",
)
_STAGED = re.compile(r"(?:y?[pc]|y)[tnm]x?")
ROMAN = {"i": "1", "ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6"}
_NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBER_WORDS = {word: str(number) for number, word in enumerate(_NUMBER_WORDS)}


def other_form(found: Sequence[Token]) -> list[str]:
    """Tokens in the form in which "HER2+" is "HER2 positive", "Grade II" is "Grade 2" and "pN1" is "N1"."""
    words = [token.text for token in found]
    for i, word in enumerate(words):
        glued = i + 1 < len(words) and found[i + 1].start == found[i].end
        following = words[i + 1] if glued else ""
        if word in "+-" and i and not following[:1].isdigit():
            words[i] = "positive" if word == "+" else "negative"
        elif word in ROMAN and i and words[i - 1] in _NUMBERED:
            words[i] = ROMAN[word]
        elif _STAGED.fullmatch(word) and (following[:1].isdigit() or word[-1] == "x"):
            words[i] = word.lstrip("pcy")
    return words


def _in_roman(words: Words) -> Words:
    """Words in which "Stage 2" is "Stage II", where the options are Roman figures alone."""
    figures = {value: figure for figure, value in ROMAN.items()}
    return tuple(
        figures.get(word, word) if i and words[i - 1] in _NUMBERED else word for i, word in enumerate(words)
    )


class Options:
    """The options of a question, in the order in which they were given."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.plain = [plain(name) for name in self.names]
        exact = [wording(name) for name in self.names]
        forms = [tuple(other_form(worded_tokens(name))) for name in self.names]
        self.in_other_form = len(set(forms)) == len(set(exact))
        self.words: list[Words] = forms if self.in_other_form else exact
        self.in_roman = all(len(words) == 1 and words[0] in ROMAN for words in self.words)

    def form(self, found: Sequence[Token]) -> Words:
        """Tokens in the form in which those of the options are compared."""
        words = tuple(other_form(found)) if self.in_other_form else tuple(token.text for token in found)
        return _in_roman(words) if self.in_roman else words

    def named(self, text: str) -> int | None:
        """The option that the whole of a text is, in its words or in an equal form of them."""
        stripped = text.strip()
        matches = [i for i, name in enumerate(self.names) if name.strip() == stripped]
        if len(matches) == 1:
            return matches[0]
        found = worded_tokens(text)
        words = self.form(found)
        matches = [i for i, own in enumerate(self.words) if own and own == words]
        if matches:
            return matches[0] if len(matches) == 1 else None
        if len(found) > 1 and found[0].text in _NUMBERED:  # "Stage II" for "II"
            matches = [i for i, own in enumerate(self.words) if own == words[1:]]
            if len(matches) == 1:
                return matches[0]
        if words and re.fullmatch(r"[a-z]{2,}omas", words[-1]):  # "squamous cell carcinomas"
            single = (*words[:-1], words[-1][:-1])
            matches = [i for i, own in enumerate(self.words) if own == single]
            return matches[0] if len(matches) == 1 else None
        places = self._short_forms.get(words, set())
        if len(places) == 1:
            return next(iter(places))
        for kind, of_options in ((_NONE, _NONE_OF), (_ALL, _ALL), (_UNSURE, _UNSURE)):
            if kind.fullmatch(text.strip()):
                alike = self.alike(of_options)
                return alike[0] if len(alike) == 1 else None
        return None

    def alike(self, kind: re.Pattern[str]) -> list[int]:
        """Places of the options of one kind, such as "None of the above" and its like."""
        return [i for i, name in enumerate(self.plain) if kind.fullmatch(name)]

    @property
    def none_of_them(self) -> int | None:
        """The option that says that none of the others is right; None where there is none, or several."""
        places = self.alike(_NONE_OF)
        return places[0] if len(places) == 1 else None

    def by_letter(self, letter: str, sure: bool = False) -> int:
        """The place that a letter names; `UNREADABLE` where no option has it, or another one bears it.

        `sure` where the text said that it is the letter of an option.
        """
        place = ord(letter.upper()) - ord("A")
        own = [i for i, words in enumerate(self.words) if words == (letter.lower(),)]
        if own:  # the options are letters themselves
            return own[0] if len(own) == 1 else UNREADABLE
        if not 0 <= place < len(self.names):
            return UNREADABLE
        bearers = {i for i, name in enumerate(self.plain) if _bears_letter(name, letter.upper())}
        return place if sure or not bearers or bearers == {place} else UNREADABLE

    def by_position(self, text: str) -> int:
        """The place of "option 2"; `UNREADABLE` where the number stands in another option ("Grade 2")."""
        place = self.by_number(text, sure=True)
        bearers = {i for i, numbers in enumerate(self._numbers) if place >= 0 and text in numbers}
        return UNREADABLE if bearers - {place} else place

    def by_number(self, text: str, sure: bool = False) -> int:
        """The place that a number from 1 names, or the option of that value; `UNREADABLE` where they differ.

        `sure` where words of the option stand beside it.
        """
        if not re.fullmatch(r"\d{1,4}(?:\.0+)?", text):
            return UNREADABLE
        number = int(float(text))
        place = number - 1 if 1 <= number <= len(self.names) else None
        if sure:
            return UNREADABLE if place is None else place
        own = [i for i, words in enumerate(self.words) if words == (str(number),)]
        if len(own) == 1:
            return own[0]
        values = [int(words[0]) for words in self.words if len(words) == 1 and words[0].isdigit()]
        if len(values) > 1 and min(values) - 1 <= number <= max(values) + 1:
            return UNREADABLE
        bearers = [i for i, numbers in enumerate(self._numbers) if str(number) in numbers]
        if not bearers and place is not None:
            return UNREADABLE if self._is_close(number) else place
        if len(bearers) == 1 and place in (None, bearers[0]):
            return bearers[0]
        return UNREADABLE

    @cached_property
    def _numbers(self) -> list[set[str]]:
        """The numbers that stand in each option, in figures, Roman figures or words."""
        return [{value for word in words for value in _numbers_of(word)} for words in self.words]

    def _is_close(self, number: int) -> bool:
        """Whether the number lies next to a scale whose steps the options are: it may mean a missing step."""
        frames = {tuple("#" if _is_number(word) else word for word in words) for words in self.words}
        values = [float(word) for words in self.words for word in words if _is_number(word)]
        if len(frames) != 1 or len(values) != len(self.words):
            return False
        return min(values) - 1 <= number <= max(values) + 1

    @cached_property
    def _short_forms(self) -> dict[Words, set[int]]:
        """Parts of options that are enough to name them: what is in brackets, what is before them, "Yes"."""
        forms: dict[Words, set[int]] = {}
        for i, name in enumerate(self.plain):
            for part in {self.form(worded_tokens(part)) for part in _parts(name)} - {()}:
                forms.setdefault(part, set()).add(i)
        for i, words in enumerate(self.words):  # a part that other options hold as well says nothing
            for part in forms:
                if _within(part, words):
                    forms[part].add(i)
        return forms


def none_of(names: Sequence[str]) -> str | None:
    """The option that says that none of the others is right, in whatever words."""
    place = Options(names).none_of_them
    return None if place is None else names[place]


def _parts(name: str) -> Iterator[str]:
    yield from re.findall(r"\(([^()]*)\)", name)
    bare = re.sub(r"\([^()]*\)", " ", name)
    yield bare
    yield re.sub(r"\s+(?:out\s+of|of)\s+\d+\W*$|/\d+\W*$", "", bare)
    yield from (part for part in re.split(r"\s+-\s+|:\s+", bare) if len(part.split()) < len(bare.split()))
    if match := re.match(r"\s*(yes|no|true|false)\b(?=\s*[,;:.-])", name, re.IGNORECASE):
        yield match[1]
    if (word := name.strip(" .").casefold()) in NUMBER_WORDS:
        yield NUMBER_WORDS[word]
    if name.strip(" .") in NUMBER_WORDS.values():
        yield next(word for word, number in NUMBER_WORDS.items() if number == name.strip(" ."))


def _within(part: Words, words: Words) -> bool:
    return any(words[i : i + len(part)] == part for i in range(len(words) - len(part) + 1))


def _is_number(word: str) -> bool:
    return re.fullmatch(r"\d+(?:\.\d+)?", word) is not None


def _numbers_of(word: str) -> Iterator[str]:
    if word.isdigit():
        yield word
    if word in NUMBER_WORDS:
        yield NUMBER_WORDS[word]
    if match := re.fullmatch(r"(i{1,3}|iv|vi?)[abc]?", word):
        yield ROMAN[match[1]]


def _bears_letter(name: str, letter: str) -> bool:
    """Whether the letter stands by itself in an option, as in "Type B", and is no article."""
    for match in re.finditer(rf"(?<![\w'.-]){letter}(?![\w'-]|\s+cells?\b)", name):
        if (
            letter == "A"
            and re.match(r"\W*$", name[: match.start()])
            and re.match(r"\s+\w{2}", name[match.end() :])
        ):
            continue
        return True
    return False


def option_words(text: str, options: Options) -> Iterator[tuple[str, int, int]]:
    """(token in the form of the options, start, end) of a plain text."""
    found = tokens(text)
    words = options.form(found)
    yield from ((word, token.start, token.end) for word, token in zip(words, found, strict=True))
