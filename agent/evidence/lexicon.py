"""The words of `words.toml`: for each language what it calls things, and how it says that they are absent.

Every entry is a regular expression, matched in whole words where the script has spaces between them. Nothing
is read before a text in another language than English asks for it.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

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
