"""Reads what a sentence says is there and what it says is absent: rules for English, without any model.

After NegEx (Chapman et al. 2001, J Biomed Inform 34:301): cues before or after a finding negate it within the
clause. A cue that is itself negated ("not absent") says presence; a sentence that leaves the matter open
("cannot be excluded", "unclear whether") says neither, and neither does a question; phrases that only look
negative ("not only", "of no special type") are passed over. A count of zero is an absence. The same text
always gives the same reading.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import NamedTuple

from agent.evidence.language import names_any


class Reading(NamedTuple):
    """The parts of a text by what they say. What is left open is in neither."""

    present: tuple[str, ...]
    absent: tuple[str, ...]
    """Each holds the words for what is absent; empty where the sentence does not name it ("None.")."""


class ZeroCount(NamedTuple):
    """A clause around its zero."""

    before: str
    after: str
    counts_before: bool
    """Whether what is counted stands before the zero: "mitoses: 0 per 10 HPF"; else "0 mitoses"."""


_FLAGS = re.IGNORECASE
_PLACES = re.compile(
    r"\(\s*-?\d+(?:\s*,\s*-?\d+)+\s*\)|\b[xywh]\s*[=:]?\s*\d+\b|\b(?:level|step|day|tile|box|core|slide"
    r"|block|page|section|item|row)s?\s*[#:=-]?\s*0\b|\b\d+\s?% was shown at\b|(?:>|(?:more|greater"
    r"|higher) than|above|over|exceed\w*|not(?: equal to)?|non-?)\s*(?:0|zero)\b",
    re.IGNORECASE,
)
"""Numbers of places, and what lies above zero."""
_ZERO = (
    r"(?<![\w.,/+*×x%−–-])0+(?:[.,]0+)?(?![\w]|[.,]\d|\s*(?:[-–—−]|to|bis|à|a|or|oder|ou|до|至|~|～)\s*[1-9])"
    r"|(?:<|＜|\b(?:less|fewer|lower) than|\bunder|\bbelow)\s*(?:1|one"
    r"|0?[.,]\d+)(?![.,]?\d)(?!\s*(?:[mcµμun]m\b|h\b|hour|day|week|month|year|mg|ml|times?\b|x\b))"
)
_UNITS = re.compile(
    r"^[\s)\]]*(?:$|[%％/:.,;)]|per\b|in\b|out\b|of \d|hpf|pro\b|por\b|par\b|на\b|из\b|/|個|个|each|at\b|mm)",
    re.IGNORECASE,
)
ENGLISH_ZERO = "zero|nought"
QUESTION = re.compile(r"[“\"«']([^“”\"«»']*\?)\s*[”\"»']|[^.!?;。！？；]*[?？](?=\s|$)", _FLAGS)
_SHORT_NOT = re.compile(r"n't\b", _FLAGS)
_PASSED_OVER = re.compile(
    r"\b(?:not (?:only|just|merely|simply|(?:otherwise|further) specified|hard|difficult|least|surprisingly"
    r"|(?:limited|restricted|confined) to|all|every|each|everywhere|entirely|exclusively|solely|purely"
    r"|wholly|completely|totally|uniformly|always|so much|a (?:few|little)|rare(?:ly)?|seldom|scarce(?:ly)?"
    r"|negligible|insignificant|inconsiderable|unexpected(?:ly)?|unlike(?:ly)?|infrequent(?:ly)?"
    r"|un(?:common|usual)(?:ly)?|few(?! if)"
    r"|(?:be|to be) (?:missed|overlooked|ignored|denied|forgotten|doubted"
    r"|mistaken|disputed|questioned)|to mention)|(?:no|not a|without(?: a| any)?|beyond(?: any| all)?"
    r"|not in(?: any)?) (?:shadow of (?:a )?)?(?:doubt|question|mistaking|denying|mistake|difficulty)"
    r"|no (?:special type|wonder|rarity|small|little|mean|minor|matter|stranger|sooner)|whether or not|if not"
    r"|no(?:t)? (?:more|fewer|less|later|wider|larger|smaller) than|(?:not|never) fails? to|no (?:other"
    r"|different)(?: \w+){0,3} (?:than|but)|none other than|nothing (?:but|else than|other than|short of"
    r"|less than)|no (?:evidence|argument|reason|sign)s? against|no\.? ?\d+)(?!\w)",
    _FLAGS,
)
_NEGATIVE_WORD = (
    r"(?:absent|absence of|lack(?:ing|s)?|lack of|without|(?:tumou?r-|necrosis-|\w+-)?free(?: (?:of|from))?"
    r"|devoid of|negative|benign|normal|missing|unremarkable|none|no|never|clear of|zero|nil)"
)
_TWICE = re.compile(
    rf"\b(?:not|never|no|nor|hardly|by no means|in no way|far from|anything but) (?:(?:be|being|called"
    rf"|entirely|wholly|completely|totally|quite|altogether|all|a|an|the|true that|case that|correct that"
    rf"|there|is|are) )*{_NEGATIVE_WORD}(?!\w)"
    r"|\bno (?:(?:(?!and |or |but )\w+ ){1,6}?(?:is|are|was|were) |\w+ )(?:without|free (?:of|from)|lacking"
    r"|devoid of|[\w-]+-free)\b",
    _FLAGS,
)
_DENIED = re.compile(
    r"\b(?:false|untrue|incorrect|wrong|mistaken)\b.*\b(?:that|to (?:say|claim|state|think))\b"
    r"|\bnot (?:true that|correct that|the case that|(?:say|claim|think|believe|agree)(?: that)?)"
    r" (?:\w+ ){1,3}(?:is|are) (?:absent|lacking|missing|negative)\b",
    _FLAGS,
)
"""It is false that … : what follows is denied."""
_CONTRAST = re.compile(
    r"(\b(?:is|are|was|were) [^,;.]{0,200}), (?:and )?not (?:an? |just |merely |only )?(?:few|rare|scarce"
    r"|sparse|focal|diffuse|extensive|patchy|mild|minimal|moderate|severe|marked|small|large|(?:low|high)"
    r"(?:[- ]grade)?|lytic|coagulative|art[ei]fact|normal|typical|atypical|single|old|recent)(?=\W*$|[.;])",
    _FLAGS,
)
"""Of two degrees the one that is not meant: "frequent, not few"."""
_RUN_ON = re.compile(
    r"(\b(?:no|without|absent) [\w -]+), (?=(?:(?!(?:and|or|nor|any|no|not)\b)[\w-]+ ){1,3}"
    r"(?:is|are|was|were) (?:\w+ly )?(?:seen|present|identified|found|visible|evident|noted|numerous|frequent"
    r"|extensive|prominent)\W*(?:$|[.;]))",
    _FLAGS,
)
"""Two statements with a comma between them: "No glands, necrosis is seen." A list has "or" or "and"."""
_NOT_TICKED = re.compile(r"(?:[☐□]|\[ \])\s*\w+")
_TICKED = re.compile(r"[☒☑✅✓✔]|\[[xX]\]")
_CROSS = re.compile(r"[❌✗✘]")
_JUDGED = (
    r"(?:excluded?|ruled? out|assess\w*|determined?|evaluat\w+|evaluable|judged?|graded|gradable|scor(?:ed"
    r"|able)|confirmed?|established|told|decided?|interpretable|looked (?:at|for)|searched for|examined"
    r"|sampled|counted|quantified|measured|performed|done|applicable|available|reported|specified|provided"
    r"|stated|conclusive|certain|sure|clear(?! of)|known|possible)"
)
_OPEN = re.compile(
    rf"\b(?:not (?:\w+ly )?(?:(?:be|been) )?(?:\w+ly )?{_JUDGED}|inconclusive|indeterminate|equivocal"
    rf"|unclear"
    r"|uncertain|unknown|undecided|whether|if there (?:is|are)|may or may not|(?:unable|impossible"
    r"|difficult|hard|insufficient) to (?:exclude|rule out|tell|say|assess|judge|determine|evaluate)|(?:not"
    r"|to|fails? to|must|should) (?:be )?(?:exclude|rule out)|no (?:information|data|comment|statement"
    r"|conclusion|assessment|opinion)\b)\b",
    _FLAGS,
)
_SEEN = (
    r"(?:seen|present|identified|identifiable|found|visible|visuali[sz]ed|detected|observed|evident"
    r"|apparent|noted|noticed|recogni[sz]ed|recogni[sz]able|shown|demonstrated|demonstrable|encountered"
    r"|appreciated|discovered|there|discernible|detectable|conspicuous|existent|in evidence|revealed"
    r"|documented|located|spotted|to be found|to be seen|feature|component|exist|occur|appear|show up)"
)
_CLAIMED = (
    r"(?:tumou?r|carcinoma|cancer|necrosis|mitos[ie]s|disease|invasion|inflammation|metastas[ie]s|gland"
    r"|lesion|malignancy|melanoma|lymphoma|sarcoma|fat|atypia|dysplasia|neoplasm)"
)
_AFTER = re.compile(
    r"\b(?:absent|nil|missing|unseen|undetected|undetectable|unidentified|non-?existent|(?:in|by) (?:its"
    r"|their) absence|(?:is|are|was|were|entirely|completely|wholly) (?:lacking|wanting)"
    rf"|not (?:(?:\w+ly|be|been|a|an|any|yet|even|ever) ){{0,3}}{_SEEN}|nowhere (?:to be )?{_SEEN}"
    rf"|(?:hardly|scarcely|barely) ever {_SEEN}|without success|in vain|to no avail"
    r"|(?:is|are|was|were|remains?|been) (?:\w+ly )?(?:spared|uninvolved|unaffected)|ruled out|excluded"
    r"|margins? (?:is|are|was|were|appears?) (?:\w+ly )?clear|clear (?:resection |surgical )?margins?)\b"
    rf"|\b{_CLAIMED}(?:s|es)?[- ](?:free|negative)\b|\bnone(?: {_SEEN})?\W*$|(?<!-)\bnegative\W*$"
    r"|[:(|]\s*[-–−]\s*\)?\W*$|[:|]\s*n(?:eg)?\W*$",
    _FLAGS,
)
_BEFORE = re.compile(
    r"\b(?:no|not|without|sans|absence of|absent|lacks?|lacking|lack of|free (?:of|from)|clear of"
    r"|negative for|nary|(?:uninvolved|unaffected|spared) by|(?:devoid|bare|void|bereft) of"
    r"|never|none|neither|nor|nothing|nowhere"
    r"|(?:hardly|scarcely|barely) (?:any|a)|(?:almost|virtually|practically|next to) no(?:ne)?|few,? if any"
    r"|fail(?:s|ed|ing)? to|failure to|unable to (?:find|see|identify|detect)|excluding|excludes"
    r"|rul(?:es|ing) out|rather than|instead of|as opposed to)\b|\bw/o\b",
    _FLAGS,
)
_TAKES_OBJECT = re.compile(r"^(?!not\b|never\b|nowhere\b|fail)", _FLAGS)
_NORMAL_WORD = r"(?:benign|normal|unremarkable|negative|bland)\b"
_IS_NORMAL = re.compile(
    r"\b(?:is|are|was|were|appears?|looks?|seems?|remains?|being|as|all|entirely|only|histologically)"
    rf" (?:(?:\w+ly|of|a|an|within|quite|all) )*{_NORMAL_WORD}",
    _FLAGS,
)
_NORMAL = re.compile(rf"^\W*(?:the )?(?:\w+ly )?{_NORMAL_WORD}", _FLAGS)
"""Without a verb, as an answer is: "benign tissue"."""
_NON = re.compile(
    r"\b(?:non-?(neoplastic|malignant|cancerous|tumou?r\w*|necrotic|mitotic|dysplastic|inflamed)|a(mitotic)"
    r"|(mitotic)ally (?:inactive|quiescent))",
    _FLAGS,
)
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|shows?|showed|contains?|displays?|forms?|lacks?|appears?|there|seen"
    r"|invades?|infiltrates?|consists?|exhibits?|suggests?|remains?|lies?|occupies)\b",
    _FLAGS,
)
_CLAUSE = re.compile(
    r"(?:[.!?](?=\s|$)|;|\s[–—]\s|,?\s+\b(?:but|however|although|though|whereas|while|yet|except"
    r"|nevertheless|because|so)\b,?|,\s+(?=(?:many|numerous|several|frequent|abundant|scattered|prominent"
    r"|marked|extensive|focal|increased|occasional|with)\b)|,\s+(?=[\w /-]{3,30}:\s))\s*",
    _FLAGS,
)
_JOINT = re.compile(r",\s*(?:and\s+)?|\s+and\s+", _FLAGS)
_FILLER = re.compile(
    rf"\b(?:{_SEEN}|at all|here|anywhere|whatsoever|is|are|was|were|be|been|to|per|hpfs?|fields?"
    rf"|high[- ]power|any"
    r"|the|this|these|in|on|of|and|or|all|whole|entire|slide|sections?|images?|view|definite|convincing)\b",
    _FLAGS,
)


def read(text: str) -> Reading:
    """What an English text says is there, and what it says is not."""
    present: list[str] = []
    absent: list[str] = []
    plain = _spelt_out(QUESTION.sub(" ", text.replace("’", "'")))
    plain = _SHORT_NOT.sub(" not ", re.sub(r"\bcan'?t\b|\bcannot\b", "can not", plain, flags=_FLAGS))
    plain = " ".join(without_places(plain).split())
    plain = _RUN_ON.sub(r"\1; ", _CONTRAST.sub(r"\1", plain))
    plain = _PASSED_OVER.sub(" ", _TWICE.sub(" ", plain))
    for part in _CLAUSE.split(plain):
        for clause in _statements(part or ""):
            _read_clause(" ".join(clause.split()), present, absent)
    return Reading(tuple(present), named_by_others(absent, present, text))


def _spelt_out(text: str) -> str:
    """The text with crosses as words, and of boxes to tick only those that are."""
    if _TICKED.search(text):
        text = _TICKED.sub(" ", _NOT_TICKED.sub(" ", text))
    return _CROSS.sub(" absent ", text)


def named_by_others(absent: list[str], present: list[str], text: str) -> tuple[str, ...]:
    """What is absent; where a clause does not name it, the one before or the question does.

    "Mitoses – none." "Are there mitoses? No."
    """
    asked = " ".join(match.group(0) for match in QUESTION.finditer(text))
    return tuple(part or (present[-1] if present else asked) for part in absent)


def without_places(text: str) -> str:
    """The text without numbers that count nothing: boxes, levels, steps."""
    return _PLACES.sub(" ", text)


def zero_count(clause: str, words: str = ENGLISH_ZERO) -> ZeroCount | None:
    """The zero that a clause counts, in figures or as one of `words`; None where it counts none."""
    zero = re.search(rf"{_ZERO}|(?<!\w)(?:{words})(?!\w)", clause, re.IGNORECASE)
    if zero is None:
        return None
    before, after = clause[: zero.start()], clause[zero.end() :]
    return ZeroCount(before, after, _UNITS.match(after) is not None)


def _read_clause(clause: str, present: list[str], absent: list[str]) -> None:
    if not clause:
        return
    if _OPEN.search(clause):
        for part in _JOINT.split(clause):  # "No mitoses, and necrosis cannot be excluded."
            if not _OPEN.search(part) and (zero_count(part) or _AFTER.search(part) or _BEFORE.search(part)):
                _read_clause(part, present, absent)
        return
    if _DENIED.search(clause):
        present.append(clause)
    elif zero := zero_count(clause):
        _add_zero(zero.before, zero.after, zero.counts_before, clause, present, absent)
    elif after := _AFTER.search(clause):
        # "Mitoses are absent", but also "Absent mitoses": what has no word before it stands after.
        before, rest = clause[: after.start()], clause[after.end() :]
        found = _CLAIMED_PART.match(after.group(0))
        absent.append(clause if found else _named(before) or _named(rest))
    elif cue := _BEFORE.search(clause):
        _add_denied(clause[: cue.start()], cue.group(0), clause[cue.end() :], present, absent)
    elif _IS_NORMAL.search(clause) or (_NORMAL.search(clause) and not _VERB.search(clause)):
        absent.append(clause)
    elif non := _NON.search(clause):
        absent.append(_NON_MEANS.get(next(filter(None, non.groups())).casefold(), "tumour"))
    else:
        present.append(clause)


_CLAIMED_PART = re.compile(rf"{_CLAIMED}|clear|margin", _FLAGS)
"""A cue that names what is absent itself: "tumour-free"."""
_NON_MEANS = {
    "necrotic": "necrosis",
    "mitotic": "mitoses",
    "dysplastic": "dysplasia",
    "inflamed": "inflammation",
}


def _add_zero(
    before: str, after: str, counts_before: bool, clause: str, present: list[str], absent: list[str]
) -> None:
    if counts_before or not _named(after) or (names_any(before) and not names_any(after)):
        absent.append(_named(clause))
        return
    absent.append(after.strip())
    if _named(before):
        present.append(before.strip())


def _add_denied(before: str, cue: str, rest: str, present: list[str], absent: list[str]) -> None:
    """What a cue denies stands behind it: "no necrosis"; or before it: "mitoses do not happen to be seen"."""
    if not _named(rest):
        absent.append(_named(before))
        return
    absent.append(rest.strip())
    if not _TAKES_OBJECT.search(cue) and names_any(before) and not names_any(rest):
        absent.append(before.strip())
    elif _named(before):
        present.append(before.strip())


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
    return words.strip() if re.search(r"[a-z]{3}", _FILLER.sub(" ", words), _FLAGS) else ""
