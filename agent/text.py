"""Small texts that pages, the terminal and prompts share: numbers, money, boxes, sentences, wordings.

Wordings are compared with case, punctuation and spelling aside; every sign, unit, number and word counts.
"HER2-" and "HER2+", "<1%" and "≥1%", "2 mm" and "2 cm" are different; "T1N0MX" and "T1 N0 MX", "high-grade"
and "High grade", "2.0 mm" and "2 mm" are the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
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


NOTICE = "For research and demonstration. Not for diagnosis."


def human_share(share: float) -> str:
    """A share in whole per cent that says 0 and 100 only where it is exactly that."""
    if 0 < share < 0.005:
        return "under 1 %"
    if 0.995 <= share < 1:
        return "over 99 %"
    return f"{share * 100:.0f} %"


def human_money(usd: float) -> str:
    """US dollars to the cent, below ten cents to a hundredth of one."""
    return f"${usd:.2f}" if usd >= 0.1 or usd == 0 else f"${usd:.4f}"


def human_length(um: float) -> str:
    """Micrometres below a millimetre, else millimetres."""
    return f"{um:.3g} µm" if um < 1000 else f"{um / 1000:.3g} mm"


def markdown_text(text: object) -> str:
    """Text on one line in which no character starts Markdown or HTML."""
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", line)


def same_words(a: str, b: str) -> bool:
    """Whether two answers differ only in case, spelling and punctuation; signs, units and numbers count."""

    return a == b or (wording(a) == wording(b) != ())


def first_sentences(text: str, most: int = 2) -> str:
    """The beginning of a text, whole sentences."""
    parts = " ".join(text.split()).split(". ")
    return ". ".join(parts[:most]).rstrip(".") + "."


def first_upper(text: str) -> str:
    """A text that begins with a capital letter and is otherwise unchanged."""
    return text[:1].upper() + text[1:]


def join_words(words: Sequence[str]) -> str:
    """A list in words: "2", "2 and 5", "2, 5 and 6"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def steps_in_words(indices: Sequence[int]) -> str:
    """Step numbers in words: "step 2", "steps 2, 5 and 6"."""
    return f"step{'s' * (len(indices) != 1)} {join_words([str(index) for index in indices])}"


def box_in_words(box: Sequence[int]) -> str:
    """A box as (x, y, width, height)."""
    return "(" + ", ".join(map(str, box)) + ")"


def answer_sentence(answer: str, confidence: float) -> str:
    """The first sentence of an answer: "Squamous cell carcinoma, grade 2, confidence 0.95."

    An answer of several sentences keeps them, and the confidence gets one of its own.
    """
    words = first_upper(answer.rstrip(". "))
    separator = ". Confidence" if ". " in words else ", confidence"
    return f"{words}{separator} {confidence:.2f}."


def no_answer(reason: str) -> str:
    """The first sentence of an abstention; `reason` is a clause or a sentence."""
    return f"No answer: {reason.rstrip('. ')}."


def share_in_words(count: int, total: int) -> str:
    """How many of a number of things: "All 30", "18 of 30"."""
    return f"All {total}" if count == total > 1 else f"{count} of {total}"


def answer_words(text: str, confidence: float) -> str:
    """The first sentence of an answer without the confidence that `answer_sentence` put into it."""
    first = first_sentences(text, 1)
    ending = f", confidence {confidence:.2f}."
    return f"{first.removesuffix(ending)}." if first.endswith(ending) else first


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
