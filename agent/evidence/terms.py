"""What a claim may name, and how fine a look it takes to tell it: the English words, with their reasons.

Those of other languages stand in `words.toml`, sorted by the same three degrees.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple


class LookScale(NamedTuple):
    """How fine a look must be to find some things, and why."""

    mpp: float
    """µm/px."""
    words: re.Pattern[str]
    why: str


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)


_CELLS = (
    r"(?<!squamous )(?<!small )(?<!basal )(?<!clear )(?<!renal )(?<!transitional )(?<!large )(?<!spindle )"
    r"cells?(?! (?:carcinoma|adenoma|lymphoma|sarcoma|tumou?r|type|cancer|neoplasm|nevus|naevus))"
)
SCALES = (
    LookScale(
        0.5,
        _words(
            r"mitos\w+|mitotic|nucle(?:i|us|ar|ol\w+)|chromatin|hyperchroma\w+|pleomorphi\w+|atypia|cytoplasm\w*"
            r"|cytolog\w+|apopto\w+|eosinophils?|neutrophils?|koilocyt\w+|inclusions?|organisms?|bacteri\w+"
            rf"|pylori|fung\w+|{_CELLS}"
        ),
        "a nucleus is 5 to 10 µm wide, and its chromatin and division figures are told apart at 20x",
    ),
    LookScale(
        2.0,
        _words(
            r"gland\w*|acin\w+|crypts?|follic\w+|architectur\w+|cribriform|papill\w+|lymphoc\w+|lymphoid|inflam\w+"
            r"|infiltrat\w+|inva\w+|vessels?|vascular|lymphovascular|perineural|stroma\w*|granulom\w+|dysplasi\w+"
            r"|in situ|metaplasia|ulcer\w*|keratin\w*"
        ),
        "structures of many cells, and lymphocytes as dots, are told apart at 5x",
    ),
    LookScale(
        8.0,
        _words(
            r"tumou?rs?|carcinoma\w*|adenocarcinoma\w*|sarcoma\w*|melanoma\w*|lymphoma\w*|cancer\w*|malignan\w+"
            r"|neopla\w+|metasta\w+|benign|lesions?|necro\w+|tissues?|haemorrhag\w+|hemorrhag\w+|mass(?:es)?"
            r"|margins?|abscess\w*|fibrosis|fat"
        ),
        "masses and areas of millimetres show at 1.25x",
    ),
)
"""Finest first. What the words of a claim do not name needs `OTHER`."""
OTHER = 2.0
ENGLISH = "en"


class Need(NamedTuple):
    """What a text needs to be told: the word that asks for most, and the µm/px."""

    word: str
    mpp: float


def need(text: str, language: str = ENGLISH) -> Need:
    """The finest look that the things named in a text ask for."""
    for mpp, words in _scales(text, language):
        if match := words.search(text):
            return Need(match.group(0), mpp)
    return Need("", OTHER)


_WHERE = re.compile(r"\b(?:in(?! situ)|within|among|near|around|along|at|on)\b", re.IGNORECASE)


def need_of_absence(text: str, language: str = ENGLISH) -> Need:
    """The finest look that an absence asks for: "tumour in the glands" names tumour, and where."""
    subject = _WHERE.split(text)[0] if language == ENGLISH else text
    return need(subject if names_any(subject, language) else text, language)


def names_any(text: str, language: str = ENGLISH) -> bool:
    """Whether a text names any of the things that a look can find."""
    return any(words.search(text) for _, words in _scales(text, language))


def _scales(text: str, language: str) -> list[tuple[float, re.Pattern[str]]]:
    """µm/px and words, finest first; the words in names of diseases ("small cell") are not counted."""
    if language == ENGLISH:
        return [(scale.mpp, scale.words) for scale in SCALES]
    words = lexicon(language)
    levels = [(scale.mpp, pattern) for scale, pattern in zip(SCALES, words.terms, strict=True)]
    if words.disease.search(text) and not any(p.search(words.disease.sub(" ", text)) for _, p in levels[:2]):
        return levels[2:]
    return levels


FILE = Path(__file__).parent / "words.toml"
SPACELESS = frozenset({"zh", "ja"})
"""Languages without spaces between words."""
_NEVER = r"(?!)"


class Lexicon(NamedTuple):
    """How one language says what is there and what is not."""

    name: str
    terms: tuple[re.Pattern[str], ...]
    """Cells, structures, masses: in the order of the scales of looks."""
    disease: re.Pattern[str]
    """Names of diseases that hold a word of the finer scales."""
    passed: re.Pattern[str]
    """What only looks negative ("not only")."""
    twice: re.Pattern[str]
    """Denials of a denial ("not absent")."""
    open: re.Pattern[str]
    """What leaves the matter open ("cannot be excluded")."""
    before: re.Pattern[str]
    """Cues of an absence that stand before what is absent ("no", "without")."""
    after: re.Pattern[str]
    """Cues that stand after it ("absent", "not seen")."""
    normal: re.Pattern[str]
    """Words for tissue in which nothing is wrong."""
    zero: re.Pattern[str]
    """Zero as a word."""
    clause: re.Pattern[str]
    """Where one statement ends and the next begins."""
    common: re.Pattern[str]
    """Other words by which the language is known."""

    @property
    def vocabulary(self) -> tuple[re.Pattern[str], ...]:
        """Everything by which the language is known."""
        parts = (self.disease, self.passed, self.twice, self.open, self.before, self.after, self.normal)
        return (*self.terms, *parts, self.zero, self.common)


@cache
def languages() -> dict[str, str]:
    """The languages in which claims are read: code and English name, English first."""
    return {code: entry["name"] for code, entry in _file().items()}


@cache
def lexicon(language: str) -> Lexicon:
    """The words of a language by its code."""
    entry = _file()[language]

    def words(key: str) -> re.Pattern[str]:
        return _pattern(entry.get(key, []), spaced=language not in SPACELESS)

    patterns = {
        key: words(key) for key in Lexicon._fields if key not in ("name", "terms", "clause", "common")
    }
    return Lexicon(
        name=entry["name"],
        terms=tuple(words(key) for key in ("cells", "structures", "masses")),
        clause=re.compile("|".join(entry.get("clause", [])) or _NEVER, re.IGNORECASE),
        common=_pattern(entry["common"].split(), spaced=language not in SPACELESS),
        **patterns,
    )


def _pattern(alternatives: list[str], *, spaced: bool) -> re.Pattern[str]:
    if not alternatives:
        return re.compile(_NEVER)
    joined = "|".join(alternatives)
    return re.compile(rf"(?<!\w)(?:{joined})(?!\w)" if spaced else f"(?:{joined})", re.IGNORECASE)


@cache
def _file() -> dict[str, dict[str, Any]]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))
