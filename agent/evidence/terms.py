"""What a claim may name, and how fine a look it takes to tell it: the English words, with their reasons.

Those of other languages stand in `words.toml`, sorted by the same three degrees.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from agent.evidence.lexicon import lexicon


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
