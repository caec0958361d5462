"""Yes or no, where the options are these: also as "it is present", "none is seen", "ja", "否"."""

from __future__ import annotations

import re

from agent.answers import phrases
from agent.answers.options import UNREADABLE, Options
from core_model.words import content_words

YES = r"(?:yes|yeah|yep|yup|affirmative|ja|oui|sí|sì|sim|да|是的|是|有|对|はい|예|네|evet|tak)"
NO = r"(?:no|nope|nah|nein|non|não|нет|否|不是|没有|いいえ|아니요|아니오|hayır|nie)"
_PAIRS = (("yes", "no"), ("true", "false"), ("present", "absent"), ("present", "not present"))
_ABSENCE_ASKED = re.compile(
    r"\b(?:absent|absence|free\s+of|negative|lack\w*|without|no|not|missing|devoid|spared?|exclude[sd]?)\b",
    re.IGNORECASE,
)
_SEEN = (
    r"(?:present|seen|identified|found|visible|evident|noted|detected|observed|demonstrated"
    r"|recogni[sz]ed|apparent|appreciated|confirmed)"
)
_PRESENT = re.compile(
    rf"\b(?:is|are|was|were|can\s+be|been)\s+(?:\w+ly\s+)?{_SEEN}\b|\bthere\s+(?:is|are)\b"
    rf"|^\W*(?:\w+\s+){{0,3}}{_SEEN}\W*$"
    r"|^\W*positive\s+for\b|\b(?:i|we)\s+(?:can\s+|do\s+)?see\b",
    re.IGNORECASE,
)
_ABSENT = re.compile(
    rf"\b(?:is|are|was|were|can|could|has|have|been|be)(?:\s+not|n't"
    rf"|not)\s+(?:be\s+)?(?:\w+ly\s+)?{_SEEN}\b|^\W*not\s+{_SEEN}\W*$"
    rf"|\b(?:is|are|was|were)\s+(?:\w+ly\s+)?(?:absent|lacking|missing)\b|^\W*absent\W*$|^\W*(?:no"
    rf"|none|without|negative\s+for|free\s+of|absence\s+of)\b"
    rf"|\bthere\s+(?:is|are)\s+(?:no|not|none)\b|\bno\s+(?:\w+\s+){{1,4}}(?:is|are|was|were"
    rf"|can\s+be)\s+{_SEEN}\b"
    r"|\bnothing\s+(?:here\s+)?(?:to\s+|that\s+)?(?:suggests?|indicates?|supports?|points?\s+to)\b"
    r"(?!\s+(?:otherwise|the\s+contrary|so\b))"
    r"|\b(?:i|we)\s+(?:(?:cannot|can't|can\s+not|do\s+not|don't)\s+(?:see|find|identify|detect)|see\s+no)\b",
    re.IGNORECASE,
)
_DENIES = re.compile(
    r"\b(?:no|not|never|without|none|nothing|neither|nor|absent|absence|lack\w*|free\s+of"
    r"|negative\s+for|devoid|missing|against|exclud\w+|rul(?:e|es|ed|ing)\s+out)\b|n't\b|cannot",
    re.IGNORECASE,
)
_DOUBT = re.compile(
    r"\b(?:if|whether|might|may|could|maybe|perhaps|possib\w+|unsure|uncertain|unclear"
    r"|not\s+(?:sure|certain|clear)|tell|determine[d]?"
    r"|no\s+(?:idea|clue|answer|opinion|comment|information|diagnosis|images?|slide|way)|unable"
    r"|sorry|insufficient|difficult|but|however|although|except|or|suspicious|suspected"
    r"|equivocal|question\w*|unlikely)\b|\?",
    re.IGNORECASE,
)
_FIRST = re.compile(
    rf"^\W*(?:(?P<yes>{YES}|y)|(?P<no>{NO}|n))(?=\s*(?:[,.;:!)(\"']|-\s|$|\n))", re.IGNORECASE
)
_WORD = re.compile(
    rf"(?<![A-Za-z])(?:answer|say|antwort|réponse|respuesta|答案)\W*(?:(?:is|would\s+be|should\s+be|a"
    rf"|an|definitely|clearly|probably|ist|est|es|是)\W+)*"
    rf"(?:(?P<yes>{YES})|(?P<no>{NO}))(?=\W|$)(?!\s*(?-i:[A-Z])\b)(?!\s+\w+\s+(?:is|are)\b)",
    re.IGNORECASE,
)
_BOTH = re.compile(
    rf"\b(?:{YES})\W+(?:and|or|und|oder|nor|\W)?\W*(?:{NO})\b(?=\W*$|\s*[,.;])|\byes\s*/\s*no\b",
    re.IGNORECASE,
)
_TRUE = re.compile(
    r"^\W*(?:this|that|it|the\s+(?:statement|claim|sentence))(?:'s"
    r"|\s+is)\s+(?P<not>not\s+)?(?P<what>true|correct|right|false|incorrect|wrong)\W*$",
    re.I,
)
_SURELY = r"(?:absolutely|certainly|definitely|clearly|obviously|surely|of\s+course|undoubtedly)"
_AGREES = re.compile(
    rf"\W*(?:(?:yes,?\s+|most\s+)?{_SURELY}|indeed|exactly|true|correct|without\s+(?:a|any)\s+doubt)\W*",
    re.IGNORECASE,
)
_DISAGREES = re.compile(
    rf"\W*(?:{_SURELY}\s+not|not\s+at\s+all|by\s+no\s+means|in\s+no\s+way|false|incorrect)\W*",
    re.IGNORECASE,
)
"""Whole replies to a question that is answered by yes or no."""
MOST_WORDS = 14
"""Words of a statement that answers yes or no by what it says is there, where the question is not known."""


def polarity(text: str, options: Options, question: str = "") -> int | None:
    """The option of a reply that says yes or no in its own way; None where it says neither, or both."""
    places = pair(options)
    if places is None:
        return None
    if any(words in (("yes",), ("true",)) for words in options.words):
        if _AGREES.fullmatch(text):
            return places[0]
        if _DISAGREES.fullmatch(text):
            return places[1]
    said = _says_yes(phrases.NEUTRAL.sub(" ", text).strip(), question)
    return said if said is None or said == UNREADABLE else places[0] if said else places[1]


def _says_yes(text: str, question: str) -> bool | int | None:
    if _BOTH.search(text):
        return UNREADABLE
    if match := _TRUE.match(text):
        return (match["what"].lower() in ("true", "correct", "right")) != bool(match["not"])
    words = {bool(match["yes"]) for match in _WORD.finditer(text)}
    first = _FIRST.match(text)
    if first:
        rest = text[first.end() :]
        words.add(bool(first["yes"]))
        words |= {bool(match["yes"]) for match in map(_FIRST.match, re.split(r"[,.;:!?\n-]", rest)) if match}
        stated = _stated(re.split(r"[.;!?\n]|,\s+but\b", rest.strip(" ,.-:"))[0], "")
        if stated is not None and not re.match(r"\s*[.!]", rest):
            words.add(stated)
        return words.pop() if len(words) == 1 and not re.search(r"\?\s*$", text) else UNREADABLE
    if words:
        return words.pop() if len(words) == 1 and not phrases.HEDGED_SENTENCE.search(text) else None
    if _ABSENCE_ASKED.search(question):
        return None
    statements = {
        _stated(sentence, question)
        for sentence in re.split(r"(?<=[.;!])\s+|\n+", text)
        if sentence.strip(" .")
    }
    return statements.pop() if len(statements) == 1 else None


def _stated(sentence: str, question: str) -> bool | None:
    """Whether a sentence says that something is there, or is not; None where it says neither for sure."""
    if _DOUBT.search(sentence) or (not question and len(sentence.split()) > MOST_WORDS):
        return None
    subject = set(content_words(question))
    if subject and not subject & set(content_words(sentence)) and len(sentence.split()) > 3:
        return None
    denials = len(_DENIES.findall(sentence))
    if denials == 1 and _ABSENT.search(sentence):
        return False
    return True if denials == 0 and _PRESENT.search(sentence) else None


def pair(options: Options) -> tuple[int, int] | None:
    """The places of the options that say yes and no, else None."""
    firsts = [words[0] if len(words) == 1 else "" for words in options.words]
    for yes, no in _PAIRS[:2]:
        if firsts.count(yes) == firsts.count(no) == 1:
            return firsts.index(yes), firsts.index(no)
    for yes, no in _PAIRS[2:]:
        wanted = (tuple(yes.split()), tuple(no.split()))
        if all(words in options.words for words in wanted):
            return options.words.index(wanted[0]), options.words.index(wanted[1])
    return None
