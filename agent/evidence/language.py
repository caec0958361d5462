"""Which language a text is in, and which words of it name what a look can find.

The language is told by the words of `words.toml`, and by py3langid where they do not tell. It is believed
only where both can mean it: short texts of Latin terms look alike in all languages, and an absence read by
the rules of another language would pass as a sighting.

What a claim may name is sorted by how fine a look it takes to tell it: the English words here, with their
reasons, those of other languages in `words.toml` by the same three degrees.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)


class LookScale(NamedTuple):
    """How fine a look must be to find some things, and why."""

    mpp: float
    """µm/px."""
    words: re.Pattern[str]
    why: str


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


_WHERE = re.compile(r"\b(?:in(?! situ)|within|among|near|around|along|at|on)\b", re.IGNORECASE)

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


_SENTENCE = re.compile(r"(?<=[.!?;])\s+|(?<=[。！？；])|\n+")
_RULE = re.compile(r"^[ \t]*[|+]?[ \t]*:?-{2,}[-:|+ \t]*$\n?", re.MULTILINE)
"""The line under the head of a table."""
_ENTRY = re.compile(
    r"(?<!\w)(?!(?:no|not|without|of|the|an?|and|or|nor|for|with|any|kein\w*|ohne|pas|de|sin|sans|senza|sem)\b)"
    r"([^\s.!?;:,。！？；：，]{1,80})[ \t]*\n+(?=[ \t]*(?:[-*•·|▪–]|\d{1,2}[.)]\s|[^\n.:：|]{2,40}[:：|]))",
    re.IGNORECASE,
)
"""Where an entry of a list, a form or a table ends, and another begins."""
_SIGNS_OF_LABS = (
    (re.compile(r"(?<![\w+])[-–−]ve\b", re.IGNORECASE), "negative"),
    (re.compile(r"(?<!\w)\+ve\b", re.IGNORECASE), "positive"),
)
_WORD = re.compile(r"[^\W\d_]{2,}|[éèàùòìóá]", re.IGNORECASE)
_FIGURES = str.maketrans("０１２３４５６７８９％＜²³", "0123456789%<23")
"""Figures as other scripts and exponents write them."""
_CODE = re.compile(r"\b[A-Z][A-Z0-9-]{1,5}\b")
"""HPF, HER2, PD-L1: the same in all languages."""
_SCRIPTS = (
    (None, re.compile(r"[\u0370-\u03ff]{3}|[\u0530-\u1cff\ua840-\ud7af]")),  # Greek words, Hebrew to Hangul
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("zh", re.compile(r"[\u3400-\u9fff]")),
)
"""Scripts that name their language, or one that is not read."""
_COMPARED = (
    "en de fr es it pt ru nl sv da no fi pl cs sk hu ro bg uk sr hr sl tr el ar he fa hi id vi th ca et lv lt"
)
"""Languages that py3langid chooses from: more would only add mistakes."""
_PLAINLY_ENGLISH = re.compile(
    r"\b(?:the|of|with|and|are|was|were|this|that|there|which|from)\b", re.IGNORECASE
)
"""Two of these are in no other language."""
_NOT_ENGLISH = re.compile(
    r"\b(?:necro|mito|metasta|carcino|adenocarcino|granulo|dysplasi|infiltr|inva)\w*(?:s[ei]|sen|om[ei]|oom|ie|en)\b",
    re.IGNORECASE,
)
"""Words of other languages that begin as the English ones do."""
SURE = 0.5
"""Probability from which py3langid overrules words that are common to several languages."""
MOST_KNOWN = 0.8
"""Share of letters in known words from which a language is believed unless py3langid is sure of another."""
LEAST_KNOWN = 0.2


class Passage(NamedTuple):
    """Sentences of one language with its code; None where claims are not read in it."""

    text: str
    language: str | None


_BLANKS = re.compile(r"\s{3,}")


def passages(text: str) -> list[Passage]:
    """A text cut where the language changes, with plain figures.

    A sentence that does not tell its language has that of the text.
    """
    text = _BLANKS.sub(lambda run: "\n\n" if "\n" in run[0] else " ", text)
    text = _ENTRY.sub("\\1;\n", _RULE.sub("", text.translate(_FIGURES)))
    for sign, word in _SIGNS_OF_LABS:
        text = sign.sub(word, text)
    sentences = [part for part in _SENTENCE.split(text) if part and part.strip()]
    found = [language_of(sentence) for sentence in sentences]
    if len(sentences) > 1 and None in found:
        whole = language_of(text)
        found = [
            whole if language is None and _guess(sentence)[1] < SURE else language
            for sentence, language in zip(sentences, found, strict=True)
        ]
    runs = groupby(zip(sentences, found, strict=True), key=lambda pair: pair[1])
    return [Passage(" ".join(sentence for sentence, _ in run), language) for language, run in runs]


@lru_cache(maxsize=4096)
def language_of(text: str) -> str | None:
    """The code of a text's language; None where it is none of those that claims are read in."""
    for language, script in _SCRIPTS:
        if script.search(text):
            return language
    text = text.lower() if text.isupper() else _CODE.sub(" ", text)
    words = _WORD.findall(text)
    if not any(len(word) > 2 for word in words):
        return ENGLISH  # figures and codes are the same everywhere
    if (in_english := known_share(text, ENGLISH)) == 1:
        return ENGLISH
    if in_english >= MOST_KNOWN / 2 and len(_PLAINLY_ENGLISH.findall(text)) >= 2:
        return ENGLISH
    shares = {ENGLISH: in_english} | {
        code: known_share(text, code) for code in languages() if code not in SPACELESS | {ENGLISH}
    }
    best = max(shares, key=lambda code: shares[code])
    if shares[best] == 1:
        return best
    if len(words) == 1 and words[0].isascii():
        return best if shares[best] else ENGLISH  # one word says no more than what it names
    guess, sure = _guess(text)
    if guess == best and (shares[best] >= LEAST_KNOWN or best == ENGLISH):
        return best
    if shares[best] >= MOST_KNOWN and sure < SURE:
        return best
    return ENGLISH if guess == ENGLISH and shares[ENGLISH] >= LEAST_KNOWN else None


def foreign_language(text: str) -> str | None:
    """The English name of a text's language; None where it is English, or where it cannot be told."""
    code = language_of(text)
    if code == ENGLISH:
        return None
    if code is not None:
        return languages()[code]
    letters = any(char.isalpha() and not char.isascii() and char not in "µμ" for char in text)
    told_by_letters = letters and known_share(text, ENGLISH) < SURE
    return "another language" if told_by_letters or _guess(text)[1] >= SURE else None


def known_share(text: str, language: str) -> float:
    """The share of a text's letters that stand in words by which a language is known."""
    letters = [match.span() for match in _WORD.finditer(text)]
    known = bytearray(len(text))
    own = []
    if language == ENGLISH:
        text = _NOT_ENGLISH.sub(lambda word: "#" * len(word.group(0)), text)
        own = [scale.words for scale in SCALES]
    for pattern in (*own, *lexicon(language).vocabulary):
        for match in pattern.finditer(text):
            known[slice(*match.span())] = b"\1" * len(match.group(0))
    total = sum(end - start for start, end in letters)
    return sum(sum(known[start:end]) for start, end in letters) / total if total else 0.0


@lru_cache(maxsize=4096)
def _guess(text: str) -> tuple[str, float]:
    """What py3langid takes a text for, and its probability."""
    language, probability = _identifier().classify(text)
    return str(language), float(probability)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(_COMPARED.split())
    return identifier


def need(text: str, language: str = ENGLISH) -> Need:
    """The finest look that the things named in a text ask for."""
    for mpp, words in _scales(text, language):
        if match := words.search(text):
            return Need(match.group(0), mpp)
    return Need("", OTHER)


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
