"""Wordings that can be compared: case, punctuation and spelling aside; every sign, unit, number and word
counts.

"HER2-" and "HER2+", "<1%" and "≥1%", "2 mm" and "2 cm" are different; "T1N0MX" and "T1 N0 MX", "high-grade"
and "High grade", "2.0 mm" and "2 mm" are the same.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple


class Token(NamedTuple):
    """A word, a number or a sign, in the form in which it is compared, and where it stands."""

    text: str
    start: int
    end: int


SIGNS = "+-<>≤≥=%±°^×~/"
_TOKEN = re.compile(rf"\d+(?:[.,]\d+)*|(?<![\d.])\.\d+|[^\W\d_]+|[{re.escape(SIGNS)}]")
_SUPERSCRIPTS = str.maketrans({sign: f"^{digit}" for digit, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")})
_GREEK = {"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "κ": "kappa", "λ": "lambda"}
_TAGS = re.compile(
    r"</?(?:b|i|u|em|strong|p|span|div|code|li|ul|ol|font|mark|center)\b[^<>]*>", re.IGNORECASE
)
_LATEX = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|mathsf|operatorname|bf|rm)\s*\{([^{}]*)\}")
_COMPARED = (
    (r"(?:greater|more)\s+than\s+or\s+equal\s+to|at\s+least|no\s+(?:less|fewer)\s+than|>\s*=|⩾|≧", "≥"),
    (r"(?:less|fewer)\s+than\s+or\s+equal\s+to|at\s+most|(?:no|not)\s+more\s+than|up\s+to|<\s*=|⩽|≦", "≤"),
    (r"(?:less|fewer)\s+than|below|under", "<"),
    (r"(?:more|greater|larger)\s+than|above|over", ">"),
)
_COMPARISONS = [(re.compile(rf"(?:{words})\s*(?=\.?\d)", re.IGNORECASE), sign) for words, sign in _COMPARED]
_SPELLINGS = (
    (re.compile(r"^tumour"), "tumor"),
    (re.compile(r"haem"), "hem"),
    (re.compile(r"^oe(?=soph|dem|str)"), "e"),
    (re.compile(r"aemi(?=a|c)"), "emi"),
    (re.compile(r"^(?:percent|pct)$"), "%"),
    (re.compile(r"^grey"), "gray"),
    (re.compile(r"coloured$"), "colored"),
)


def plain(text: str) -> str:
    """A text in plain signs: no Markdown, HTML or LaTeX, one kind of dash and quote, comparisons as signs."""
    text = unicodedata.normalize("NFKC", text.replace("…", "... ").translate(_SUPERSCRIPTS))
    text = text.replace("\u00ad", "")
    text = re.sub(r"[\u200b-\u200f\u2060\ufeff]", "", text)
    while _LATEX.search(text):
        text = _LATEX.sub(r" \1 ", text)
    text = re.sub(r"<br\s*/?>|</(?:p|div|li)>", "\n", text, flags=re.IGNORECASE)
    text = _TAGS.sub("", text)
    text = re.sub(r"\*\*|__|`|\\[()\[\],;! ]|(?<=\w)\*(?!\w)|(?<!\w)\*(?=\w)|\$(?=\S)|(?<=\S)\$", "", text)
    text = text.replace("\\%", "%")
    text = re.sub(r"[‘’‛´]", "'", re.sub(r"[“”„«»]", '"', text))
    text = re.sub(r"\s*[—―]\s*|\s+–\s+", " - ", text)
    text = re.sub(r"[‐‑‒–−]", "-", text)
    for comparison, sign in _COMPARISONS:
        text = comparison.sub(sign, text)
    return re.sub(r"\bper\s+cent\b", "%", text, flags=re.IGNORECASE)


def tokens(text: str) -> list[Token]:
    """The tokens of a plain text, without "the" and without hyphens that only join words."""
    found = []
    for match in _TOKEN.finditer(text):
        word = match[0]
        if word == "-" and not _is_sign(text, match.start()):
            continue
        if word == "/" and not (text[: match.start()][-1:].isdigit() and text[match.end() :][:1].isdigit()):
            continue
        for part in _compared(word):
            if part != "the":
                found.append(Token(part, match.start(), match.end()))
    return found


def wording(text: str) -> tuple[str, ...]:
    """What is compared of an answer."""
    return tuple(token.text for token in worded_tokens(text))


def worded_tokens(text: str) -> list[Token]:
    """The tokens that are compared of an answer: those of its plain text without an article before them."""
    found = tokens(plain(text))
    return found[1:] if len(found) > 1 and found[0].text in ("a", "an") and _is_article(text) else found


def _compared(word: str) -> list[str]:
    if word[0].isdigit() or word[0] == ".":
        return [_number(word)]
    word = word.casefold()
    if stages := re.fullmatch(r"([pcy]*t(?:x|is))?(n|nx)?(m|mx)?", word):
        return [part for part in stages.groups() if part]
    for spelling, other in _SPELLINGS:
        word = spelling.sub(other, word)
    return [_GREEK.get(part, part) for part in re.split(r"([αβγδκλ])", word) if part]


def _number(text: str) -> str:
    """A number without what does not change it: "2.0" is "2", "1,000" is "1000", "2,5" is "2.5"."""
    if re.fullmatch(r"\d{1,3}(,\d{3})+", text):
        text = text.replace(",", "")
    if re.fullmatch(r"\d+,\d+", text):
        text = text.replace(",", ".")
    if re.fullmatch(r"\d*\.\d+", text):
        text = text.rstrip("0").rstrip(".")
    whole, point, rest = text.partition(".")
    return (whole.lstrip("0") or "0") + point + rest


def _is_sign(text: str, place: int) -> bool:
    """Whether a hyphen means minus, negative or a range, and does not only join or part words."""
    before, after = text[:place], text[place + 1 :]
    previous, following = before[-1:], after[:1]
    if previous.isdigit() and following.isdigit():
        return True
    if re.search(r"\d\s*$", before) and re.match(r"\s*\d", after):
        return True
    if following.isdigit() or (following == "." and after[1:2].isdigit()):
        return not previous.isalpha() and (not previous or previous in " \t\n([,;:=\"'")
    if following.isalnum():
        return False
    ends_here = re.match(r"\s*(?:$|[).,;:!?\]\"'\n])", after) is not None
    if previous.isalnum() or previous in ("+", "-", "/"):
        return ends_here or (following.isspace() and re.search(r"(?:\d|[A-Z]{2})$", before) is not None)
    return bool(re.search(r"[\w(]\s*$", before)) and ends_here


def _is_article(text: str) -> bool:
    return re.match(r"\W*(?:a|an|A|An)\s+[a-z]", text) is not None
