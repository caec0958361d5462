"""Where a reply names options: each place becomes a sign that holds the option's number.

    ⟦1⟧   the option's words        ⟪1⟫   its letter or number

A text with these signs no longer holds what stands inside an option: its own "not", "or" and full stops.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from agent.answers.options import UNREADABLE, Options, option_words

BLOCKED = -2
"""The place of words that hold an option's and mean another thing: "non-small cell carcinoma"."""
SIGN = r"[⟦⟪](-?\d+)[⟧⟫]"
_UNITS = {
    "%",
    "mm",
    "cm",
    "µm",
    "μm",
    "um",
    "nm",
    "m",
    "g",
    "mg",
    "kg",
    "ml",
    "x",
    "hpf",
    "hpfs",
    "years",
    "days",
    "months",
}
_OTHER_KIND = {"non", "pseudo", "anti", "pre", "quasi", "micro", "macro", "un", "not"}
_AFTERWARDS = {"like", "free", "mimic", "mimics", "lookalike"}
_COMMON = """
    abnormal absent all both clear closed complete correct decreased deep different diffuse
    extensive false fat few five focal four frequent high i incorrect increased intact intermediate
    irregular large left low many marked maybe medium mild minimal moderate most multiple n negative
    neither no none normal one open other partial positive present prominent rare regular right
    round same severe single six small solid some superficial three total true two unclear uniform
    unknown v wrong x y yes zero"""
COMMON = frozenset(_COMMON.split())
"""Options of one such word count only where they stand as an answer: the words are in every text."""
_ENDS = (
    r"\s*(?:$|[.,;:!?()\]\"'\n]|-\s|[⟦⟪]|(?:because|since|as|due|given|with|for|based|so|and|or|but"
    r"|not|rather|instead|is|was"
    r"|in\s+(?:this|my)|it|which|that|would|seems|fits|than|over|am|i)\b)"
)
_STARTS = (
    r"(?:^|[.,;:!?()\[\"'\n=>]|-\s|[⟧⟫]|\b(?:is|are|was|were|be|been|answer|choose|chose|pick"
    r"|select|say|said|option|with|for|as"
    r"|that|it's|think|believe|than|of|or|and|but|nor|neither|either|not|than|over|likely|probably"
    r"|definitely|clearly|so"
    r"|ist|est|es|è|é|doubt|would|thus|therefore|hence|mostly|predominantly|supports?|favou?rs?"
    r"|suggests?|indicates?|shows?|doubt|graded?|staged?|class|group|level|seems?|looks?|appears?|a|an|the))\W*$"
)


class Mention(NamedTuple):
    """Words of an option in a text."""

    start: int
    end: int
    option: int


def with_signs(text: str, options: Options) -> str:
    """A plain text in which each place that names an option is its sign."""
    parts, place = [], 0
    for mention in mentions(text, options):
        parts += [text[place : mention.start], f"⟦{mention.option}⟧"]
        place = mention.end
    text = "".join([*parts, text[place:]])
    return _unwrapped(_with_labels(text, options))


def mentions(text: str, options: Options) -> list[Mention]:
    """Where the words of options stand, longer ones before those inside them, in their order."""
    words = list(option_words(text, options))
    found = []
    for option, own in enumerate(options.words):
        if not own or (len(own) == 1 and len(own[0]) == 1 and own[0].isalpha()):
            continue
        for first in range(len(words) - len(own) + 1):
            if all(words[first + i][0] == word for i, word in enumerate(own)):
                last = first + len(own)
                found.append((first, last, _kind(text, words, first, last, option, options)))
    longest = [
        (first, last, option)
        for first, last, option in found
        if not any(a <= first and last <= b and b - a > last - first for a, b, _ in found)
    ]
    kept: list[Mention] = []
    for first, last, option in sorted(set(longest)):
        same = [o for a, b, o in longest if (a, b) == (first, last)]
        crossing = any(a < last and first < b and (a, b) != (first, last) for a, b, _ in longest)
        option = UNREADABLE if crossing or len(set(same)) > 1 else option
        start, end = words[first][1], words[last - 1][2]
        if option >= 0:
            if not _may_stand(text, start, end, option, options):
                continue
            start, end = _whole(text, start, end, options.plain[option])
        if kept and start < kept[-1].end:
            kept[-1] = Mention(kept[-1].start, max(end, kept[-1].end), UNREADABLE)
        else:
            kept.append(Mention(start, end, option))
    return kept


def _kind(
    text: str, words: list[tuple[str, int, int]], first: int, last: int, option: int, options: Options
) -> int:
    """The option, or `BLOCKED` where what stands beside its words makes them mean another thing."""
    start, end = words[first][1], words[last - 1][2]
    before = words[first - 1][0] if first else ""
    after = words[last][0] if last < len(words) else ""
    if text[start - 1 : start].isalnum() or text[end : end + 1].isalnum():
        return BLOCKED
    if text[start - 1 : start] == "-" and re.search(r"[^\W\d_]{2,}-$", text[:start]):
        return BLOCKED
    if before == "to" and first > 1 and any(words[first - 2][0] == own[0] for own in options.words if own):
        return BLOCKED  # "moderately to poorly differentiated"
    if before in _OTHER_KIND - {"not"} and re.search(r"\w[\s-]*$", text[:start]):
        return BLOCKED
    if before == "of" and first > 1 and words[first - 2][0].isdigit() and words[first][0].isdigit():
        return BLOCKED  # "3 of 4"
    if before in ("<", ">", "≤", "≥", "~", "±", "^") or (
        before in ("-", "+", "/") and words[first][0][:1].isdigit()
    ):
        return BLOCKED
    glued = words[last][1] - end <= 1 if last < len(words) else False
    if after in ("positive", "negative") and text[words[last][1]] in "+-" and glued:
        return BLOCKED
    if after in ("+", "%", "^", "±") and glued:
        return BLOCKED
    if after in ("-", "/") and glued and last + 1 < len(words) and words[last + 1][0][:1].isdigit():
        return BLOCKED
    if re.match(r"/\s*[+-]", text[end:]):
        return BLOCKED
    if after == "/" and words[last - 1][0].isdigit():
        return BLOCKED
    if words[last - 1][0].isdigit() and after in _UNITS:
        return BLOCKED
    if after in _AFTERWARDS and re.match(r"-", text[end:]):
        return BLOCKED
    if re.match(r"-[^\W\d_]", text[end:]):
        return BLOCKED
    if re.match(r"\W{1,2}in\s+situ\b", text[end:], re.IGNORECASE):
        return BLOCKED
    if words[last - 1][0] in ("i", "1") and re.match(
        r"\s+(?:think|believe|would|am|see|can|cannot|have|will|favou?r|suspect|say|choose|do|'m)\b",
        text[end:],
    ):
        return BLOCKED
    return option


def _whole(text: str, start: int, end: int, name: str) -> tuple[int, int]:
    """Start and end with the article before and the bracket after the words, where the option has them."""
    article = re.match(r"\W*(an?|the)\s+", name, re.IGNORECASE)
    before = re.search(rf"\b{article[1]}\s+[\"']?$", text[:start], re.IGNORECASE) if article else None
    start = before.start() if before else start
    tail = re.search(r"[^\w\s.]*[\s.]*$", name)
    closing = tail[0].strip(" .") if tail else ""
    if closing and text[end:].startswith(closing):
        end += len(closing)
    return start, end


def _may_stand(text: str, start: int, end: int, option: int, options: Options) -> bool:
    """Whether words that are in every text stand here as an answer."""
    own = options.words[option]
    if own[0].isdigit() and len(own) == 1:
        if re.search(
            r"(?:\b(?:option|choice|number|no|nr)\b|#)\W*$|(?:^|\n)\W*$", text[:start], re.IGNORECASE
        ) and re.match(r"\s*(?:[).:]\s*\S|$)", text[end:]):
            return False
        if re.search(r"\b(?:option|choice|number)\b\W*$", text[:start], re.IGNORECASE) or re.match(
            r"[.)]\s+\S", text[end:]
        ):
            return False
    elif len(own) > 1 or own[0] not in COMMON:
        return True
    if own == ("no",) and re.search(r"\b(?:wait|oh|hmm?|sorry|well)\W*$", text[:start], re.IGNORECASE):
        return False
    return bool(
        re.match(_ENDS, text[end:], re.IGNORECASE) and re.search(_STARTS, text[:start], re.IGNORECASE)
    )


_BEFORE_LETTER = r"(?<![A-Za-z0-9_/+'’.⟦⟪-])"
_FOLLOWERS = (
    r"because|since|as|for|with|due|given|based|is|and|or|not|but|over|rather|instead|than|seems?"
    r"|looks?|appears?|fits?"
    r"|would|could|should|must|was|has|which|it|on|by|nor|can|cannot|can't|isn't|wasn't|doesn't"
    r"|does|did|may|might"
    r"|remains?|shows?|represents?|describes?|matches|match|if|unless|so|though|although|while"
    r"|whereas|versus|vs"
    r"|in(?!\s+situ)|considering|according|from|to\s+be|und|oder|et|ou|ist|est|weil|car|parce"
    r"|porque|nicht|pas"
)
_MORE_FOLLOWERS = (
    r"|best|then|correct|right|wrong|incorrect|here|definitely|clearly|probably|most|more|less"
    r"|only|alone|are|however"
    r"|thus|therefore|out|ruled|excluded|unlikely|likely|also|wins|final|finally|wäre|serait|sería"
    r"|y|o|es|è|é|non|no"
)
_END_OF_LABEL = r"\s*(?:$|[.,;:!?()\]}\"'|=>&\n]|-(?=\s|$)|[⟦⟪✓✔✅✗✘❌]|[^\x00-\x7f\w]|[぀-ヿ一-鿿가-힯])"
_END_OF_ARTICLE = _END_OF_LABEL.replace("[⟦⟪✓", "[✓").replace(r"\x7f\w", r"\x7f\w⟦⟪")
"""What follows a letter that could be a word as well: words of an option do not make it a label."""
_NO_LABEL_AFTER = re.compile(
    r"\b(?:images?|figures?|fig|panel|slide|core|part|block|section|region|area|vitamin|hepatitis"
    r"|type|group|class|stage|grade|level"
    r"|protein|case|patient|sample|specimen|lobe|zone|step|table|variant|factor|influenza|dukes"
    r"|pugh|clark|stain|antigen|h&e|h|pattern)[\s.:]*$",
    re.IGNORECASE,
)
_LETTER = re.compile(
    rf"{_BEFORE_LETTER}(?:(?P<a>A)(?=[⟦⟪]|{_END_OF_ARTICLE}|\s+(?:{_FOLLOWERS})\b"
    rf"|\s+best\s+(?:describes|fits|matches|explains|represents))(?!-\w)"
    rf"|(?P<i>I)(?={_END_OF_ARTICLE})(?!-\w|')"
    rf"|(?P<b>[B-HJ-Z])(?={_END_OF_LABEL}|\s+(?:{_FOLLOWERS}{_MORE_FOLLOWERS})\b)(?!-\w|'))"
)
_SURE_LETTER = re.compile(
    r"\b(?P<kind>option|choice|opción|opcion|opção|opzione|вариант|选项|選項)(?:[^\w⟪⟦-]{1,4}"
    r"|(?<=[项項]))(?P<letter>[A-Za-z])(?![\w'+]|-\w)"
    r"(?!\s+(?!because|since|as\b|is\b|and\b|or\b|not\b|but\b|was\b)[a-z]+\s+(?!is\b|was\b)[a-z]+\s+⟦)",
    re.IGNORECASE,
)
_SMALL_LETTER = re.compile(
    r"(?:(?<=\()|(?<=\[)|^|(?<=\n))\s*(?P<bracketed>[a-z])(?=\s*[)\]])"
    r"|\b(?:answer|choice|choose|pick|select|letter)\b(?:\s+(?:is"
    r"|letter))*\s*[:=\"'(]*\s*(?<![A-Za-z])(?P<marked>[b-hj-z])(?=\s*(?:$|[.,;!?)\"'\n]))"
    r"|\b(?:answer|choice)\b(?:\s+is)?\s*[:=\"'(]+\s*(?P<first>a)(?=\s*(?:$|[.,;!?)\"'\n]))"
    r"|\b(?:answer|choice)\b\s+is\s+(?P<stopped>a)(?=\s*\.\s*$)"
)
_NUMBER_END = (
    r"(?![\w%/+°]|[.,]\d|-\w|\s*(?:%|mm\b|cm\b|µm\b|of\b|out\b|to\s+\d|[-/+]\s*\d|HPF|or\s+\d|cores?\b"
    r"|slides?\b))"
)
_NUMBER = re.compile(
    rf"(?P<sure>\b(?:option|choice|number|no\.?|nr\.?|#|opción"
    rf"|选项)[^\w⟪⟦-]{{0,4}}(?P<n1>\d{{1,2}}(?:\.0+)?){_NUMBER_END})"
    rf"|(?P<marked>\b(?:answer|antwort|réponse|respuesta|risposta|resposta|option|choice|choose"
    rf"|select|pick|go\s+with|选|答案是?|ответ)"
    rf"(?:\s+(?:is|would\s+be|number|choice))*\s*[:：=(\[\"']*\s*(?P<n2>\d{{1,4}}(?:\.0+)?){_NUMBER_END})"
    rf"|(?:(?<=\n)|^)(?P<lead>\s*[(\[]?\s*(?P<n3>\d{{1,2}})\s*(?:[).:\]]|-\s)(?=\s|[⟦⟪]|$))",
    re.IGNORECASE,
)
_ORDINALS = {"first": 0, "second": 1, "third": 2, "fourth": 3, "fifth": 4, "sixth": 5, "last": -1}
_ORDINAL = re.compile(
    r"\b(first|second|third|fourth|fifth|sixth|last)\s+(?:option|choice|answer|one)\b(?!\s+(?:I|to)\b)", re.I
)
_CYRILLIC = re.compile(r"(?<![\w])[АВСЕНКМОРТХБГД](?![\w])")


def _with_labels(text: str, options: Options) -> str:
    count = len(options.names)

    def ordinal(match: re.Match[str]) -> str:
        place = _ORDINALS[match[1].lower()]
        return f"⟪{place if 0 <= place < count else count - 1 if place < 0 else UNREADABLE}⟫"

    def sure(match: re.Match[str]) -> str:
        if match["letter"] == "a" and not re.match(_END_OF_LABEL, text_now[match.end() :]):
            return match[0]
        return f"{match['kind']} ⟪{options.by_letter(match['letter'], sure=True)}⟫"

    def letter(match: re.Match[str]) -> str:
        if _NO_LABEL_AFTER.search(match.string[: match.start()]):
            return match[0]
        return f"⟪{options.by_letter(match[0], sure=_labels_words(match.string[match.end() :]))}⟫"

    def small(match: re.Match[str]) -> str:
        name = next(name for name, value in match.groupdict().items() if value)
        head = match[0][: match.start(name) - match.start()]
        return f"{head}⟪{options.by_letter(match[name])}⟫"

    def number(match: re.Match[str]) -> str:
        figure = match["n1"] or match["n2"] or match["n3"]
        name = "n1" if match["n1"] else "n2" if match["n2"] else "n3"
        head, tail = (
            match[0][: match.start(name) - match.start()],
            match[0][match.end(name) - match.start() :],
        )
        rest = match.string[match.end(name) :]
        worded = _labels_words(rest)
        position = name == "n1" and not worded
        place = options.by_position(figure) if position else options.by_number(figure, sure=worded)
        return f"{head}⟪{place}⟫{tail}"

    text = _ORDINAL.sub(ordinal, text)
    text_now = text
    text = _SURE_LETTER.sub(sure, text)
    text = _SMALL_LETTER.sub(small, text)
    text = _LETTER.sub(letter, text)
    text = _NUMBER.sub(number, text)
    return _CYRILLIC.sub(lambda m: f"⟪{0 if m[0] == 'А' else UNREADABLE}⟫", text)


def _labels_words(rest: str) -> bool:
    """Whether what follows a letter or a number are words of an option."""
    return re.match(r"\s*[).:,=\]-]*\s*[\"']?(?:(?:an?|the)\s+)?⟦", rest, re.IGNORECASE) is not None


def _unwrapped(text: str) -> str:
    """Signs without the quotes and brackets directly around them."""
    text = re.sub(r"[\"'“]\s*([⟦⟪]-?\d+[⟧⟫])\s*\.?[\"'”]", r"\1", text)
    return re.sub(r"[(\[{]\s*(⟪-?\d+⟫)\s*[)\]}]", r"\1", text)


def signs(text: str) -> Iterator[re.Match[str]]:
    """The signs of a text."""
    yield from re.finditer(SIGN, text)
