"""Reads what a sentence says is there and what it says is absent: rules for English, without any model.

After NegEx (Chapman et al. 2001, J Biomed Inform 34:301): cues before or after a finding negate it within the
clause. A cue that is itself negated ("not absent") says presence; a sentence that leaves the matter open
("cannot be excluded", "unclear whether") says neither; phrases that only look negative ("not only", "of no
special type") are passed over. The same text always gives the same reading.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import NamedTuple


class Reading(NamedTuple):
    """The parts of a text by what they say. What is left open is in neither."""

    present: tuple[str, ...]
    absent: tuple[str, ...]
    """Each holds the words for what is absent; empty where the sentence does not name it ("None.")."""


_FLAGS = re.IGNORECASE
_QUOTED_QUESTION = re.compile(r"[“\"«']([^“”\"«»']*\?)\s*[”\"»']", _FLAGS)
_SHORT_NOT = re.compile(r"n't\b", _FLAGS)
_PASSED_OVER = re.compile(
    r"\b(?:not (?:only|just|merely|simply|otherwise specified|least|surprisingly)|(?:no|without(?: a| any)?)"
    r" doubt|no special type|no (?:more|fewer|less|later|wider|larger) than|without difficulty|if not"
    r"|not to mention|no matter|whether or not|not un(?:common|usual)(?:ly)?|not infrequent(?:ly)?"
    r"|no\.? ?\d+)",
    _FLAGS,
)
_NEGATIVE_WORD = (
    r"(?:absent|absence of|lacking|lack of|without|free (?:of|from)|devoid of|negative|benign|normal"
    r"|unremarkable|none|no|never)"
)
_TWICE = re.compile(
    rf"\b(?:not|never|no|nor|hardly) (?:(?:be|called|entirely|wholly|completely|quite|altogether|all|a|an|the"
    rf"|true that|case that|correct that|there|is|are) )*{_NEGATIVE_WORD}\b"
    r"|\bno (?:(?!and |or |but )\w+ ){1,2}(?:without|free (?:of|from)|lacking|devoid of)\b",
    _FLAGS,
)
_JUDGED = (
    r"(?:excluded?|ruled? out|assess\w*|determined?|evaluat\w+|judged?|graded|confirmed?|established|told"
    r"|decided?|interpretable|looked (?:at|for)|searched for|examined|sampled|conclusive|certain|clear|known)"
)
_OPEN = re.compile(
    rf"\b(?:not (?:\w+ly )?(?:(?:be|been) )?(?:\w+ly )?{_JUDGED}|inconclusive|indeterminate|equivocal|unclear"
    r"|uncertain|unknown|undecided|whether|if there (?:is|are))\b",
    _FLAGS,
)
_SEEN = (
    r"(?:seen|present|identified|found|visible|detected|observed|evident|apparent|noted|recogni[sz]ed|shown"
    r"|demonstrated|encountered|appreciated|there|discernible|detectable|conspicuous)"
)
_AFTER = re.compile(
    rf"\b(?:absent|nil|(?:is|are|was|were) lacking|not (?:be )?(?:\w+ly )?{_SEEN}|nowhere (?:to be )?{_SEEN}"
    r"|(?:were|was|is|are|been) (?:\w+ly )?(?:excluded|ruled out))\b|\bnone\W*$",
    _FLAGS,
)
_BEFORE = re.compile(
    r"\b(?:no|not|without|absence of|absent|lacks?|lacking|lack of|free (?:of|from)|negative for|devoid of"
    r"|never|none|neither|nor|nothing|nowhere|hardly any|scarcely any|fail(?:s|ed)? to show|excluding)\b",
    _FLAGS,
)
_NORMAL_WORD = r"(?:benign|normal|unremarkable|negative)\b"
_IS_NORMAL = re.compile(
    r"\b(?:is|are|was|were|appears?|looks?|seems?|remains?|being|as|all|entirely|only|histologically)"
    rf" (?:(?:\w+ly|of|a|an|within|quite|all) )*{_NORMAL_WORD}",
    _FLAGS,
)
_NORMAL = re.compile(rf"^\W*(?:the )?(?:\w+ly )?{_NORMAL_WORD}", _FLAGS)
"""Without a verb, as an answer is: "benign tissue"."""
_NON = re.compile(r"\bnon-?(?:neoplastic|malignant|cancerous|tumou?r\w*)", _FLAGS)
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|shows?|showed|contains?|displays?|forms?|lacks?|appears?|there|seen"
    r"|invades?|infiltrates?|consists?|exhibits?|suggests?|remains?|lies?|occupies)\b",
    _FLAGS,
)
_CLAUSE = re.compile(
    r"(?:[.!?](?=\s|$)|;|\s[–—]\s|,?\s+\b(?:but|however|although|though|whereas|while|yet|except|nevertheless"
    r"|because|so)\b,?|,\s+(?=(?:many|numerous|several|frequent|abundant|scattered|prominent|marked|extensive"
    r"|focal|increased|occasional|with)\b))\s*",
    _FLAGS,
)
_JOINT = re.compile(r",\s*(?:and\s+)?|\s+and\s+", _FLAGS)


def read(text: str) -> Reading:
    """What a text says is there, and what it says is not."""
    present: list[str] = []
    absent: list[str] = []
    plain = _QUOTED_QUESTION.sub(" ", text.replace("’", "'"))
    plain = _SHORT_NOT.sub(" not ", re.sub(r"\bcan'?t\b|\bcannot\b", "can not", plain, flags=_FLAGS))
    plain = _TWICE.sub(" ", _PASSED_OVER.sub(" ", " ".join(plain.split())))
    for part in _CLAUSE.split(plain):
        for clause in _statements(part or ""):
            _read_clause(clause, present, absent)
    return Reading(tuple(present), tuple(absent))


def says_absence(text: str) -> bool:
    """Whether a text says that something is not there."""
    return bool(read(text).absent)


def _read_clause(clause: str, present: list[str], absent: list[str]) -> None:
    if not clause or _OPEN.search(clause):
        return
    if after := _AFTER.search(clause):
        # "Mitoses are absent", but also "Absent mitoses": what has no word before it stands after.
        before, rest = clause[: after.start()], clause[after.end() :]
        absent.append(_named(before) or _named(rest))
    elif cue := _BEFORE.search(clause):
        before, rest = clause[: cue.start()], clause[cue.end() :]
        absent.append(_named(rest) or _named(before))
        if _named(rest) and _named(before):
            present.append(before)
    elif _IS_NORMAL.search(clause) or (_NORMAL.search(clause) and not _VERB.search(clause)):
        absent.append(clause)
    elif _NON.search(clause):
        absent.append("tumour")
    else:
        present.append(clause)


def _statements(clause: str) -> list[str]:
    """A clause cut where "and" or a comma joins two statements, not where it joins two things."""
    verbs = [verb.start() for verb in _VERB.finditer(clause)]
    cuts, start, verbs_before = [], 0, 0
    for joint in _JOINT.finditer(clause):
        before = bisect_left(verbs, joint.start())
        if verbs_before < before < len(verbs):
            cuts.append(clause[start : joint.start()])
            start, verbs_before = joint.end(), before
    return [part.strip() for part in [*cuts, clause[start:]] if part.strip()]


def _named(words: str) -> str:
    """The words, where any of them can name something."""
    return words.strip() if re.search(r"[a-z]{3}", words, _FLAGS) else ""
