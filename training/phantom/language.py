"""From the truth of a slide or a box to the words about it: reports, captions, questions and answers.

All randomness comes from the generator passed in, so the same truth and seed give the same words. Every
text is British or American throughout, drawn per text. Source of the facts: `truth.BoxTruth`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.phantom import askings, phrases
from training.phantom.phrases import CATEGORIES, expand, spell
from training.phantom.truth import BENIGN, BoxTruth

__all__ = ["CATEGORIES", "QA", "benchmark_questions", "caption", "choice", "pathology_report", "questions"]

FAMILIES = tuple(CATEGORIES)


@dataclass(frozen=True)
class QA:
    """One question about one truth."""

    question: str
    """As a user would type it, without the options."""
    options: tuple[str, ...] | None
    """The choices, or None for an open question."""
    answer: str
    """One of the options word for word, or a short sentence that begins with the decisive words."""
    family: str
    """A key of CATEGORIES, or "describe"."""


def choice(t: BoxTruth, family: str) -> str:
    """The true option of CATEGORIES[family]."""
    if family == "diagnosis":
        return t.diagnosis
    if family == "grade":
        return f"grade {t.grade}" if t.tumour else "no tumour"
    if family == "presence":
        return "yes" if t.tumour else "no"
    return str(getattr(t, family))


def pathology_report(t: BoxTruth, rng: np.random.Generator) -> str:
    """Two to six sentences on a whole slide: what it is first, then the findings in any order.

    Every report tells the diagnosis, the grade, necrosis, lymphocytes, mitoses and the tumour's extent;
    of benign tissue "benign" says the grade and the extent.
    """
    place = str(rng.choice(["slide", "slide", "region"], p=[0.5, 0.4, 0.1]))
    first = _headline(t, place, rng)
    findings = _findings(t, place, rng)
    if t.tumour:
        findings.append(_filled(_one_of(phrases.EXTENT, rng), t, place))
    if rng.random() < 0.3:
        findings.append(phrases.GROWTH[t.diagnosis])
    findings = findings[:4]
    grammars = [findings[i] for i in rng.permutation(len(findings))]
    # The conclusion may close a report as well as open it.
    grammars.insert(len(grammars) if rng.random() < 0.25 else 0, first)
    if rng.random() < 0.25 and len(grammars) < 6:
        grammars.insert(0, _one_of(phrases.PREAMBLE, rng))
    return _written(grammars, rng)


def caption(t: BoxTruth, rng: np.random.Generator) -> str:
    """One or two sentences on a region: what it is, then its findings in one breath."""
    grammars = [_headline(t, "region", rng)]
    facts = [*_nouns(t, rng)][: int(rng.integers(0, 4))]
    if facts:
        grammars.append(_joined(facts, t, "region", rng))
    return _written(grammars, rng)


def questions(t: BoxTruth, rng: np.random.Generator) -> list[QA]:
    """About nine questions on `t` in random order: each family closed, half of them open too.

    Now and then a closed question offers only some of the options (the truth among them, at least two),
    asks whether necrosis or a certain diagnosis is present, or for benign or malignant; those are of the
    family presence.
    """
    items = [_closed(t, family, rng) for family in FAMILIES]
    items += [_open(t, family, rng) for family in FAMILIES if rng.random() < 0.5]
    if rng.random() < 0.2:
        answer = "no" if t.necrosis == "absent" else "yes"
        items.append(_asked(askings.NECROSIS_PRESENT, ("yes", "no"), answer, "presence", rng))
    if rng.random() < 0.3:
        guess = t.diagnosis if rng.random() < 0.5 else str(rng.choice(CATEGORIES["diagnosis"]))
        grammars = [grammar.replace("{value}", guess) for grammar in askings.IS_TYPE]
        items.append(
            _asked(grammars, ("yes", "no"), "yes" if guess == t.diagnosis else "no", "presence", rng)
        )
    if rng.random() < 0.15:
        answer = "malignant" if t.tumour else "benign"
        items.append(_asked(askings.NATURE, ("benign", "malignant"), answer, "presence", rng))
    if rng.random() < 0.4:
        description = pathology_report(t, rng) if rng.random() < 0.5 else caption(t, rng)
        items.append(QA(_typed(_one_of(askings.DESCRIBE, rng), rng, False), None, description, "describe"))
    return [items[i] for i in rng.permutation(len(items))]


def benchmark_questions(t: BoxTruth, rng: np.random.Generator) -> list[QA]:
    """One closed question per family over all its options, in canonical spelling.

    Presence is asked of about every third slide, of benign ones more often, so that yes and no are
    equally frequent where a quarter of the slides is benign; so neither guessing nor the best constant
    answer exceeds 0.35 over a balanced cohort.
    """
    presence = rng.random() < (2 / 9 if t.tumour else 2 / 3)
    families = [family for family in FAMILIES if family != "presence" or presence]
    return [
        _asked(askings.QUESTIONS[family], CATEGORIES[family], choice(t, family), family, rng, american=False)
        for family in families
    ]


def _headline(t: BoxTruth, place: str, rng: np.random.Generator) -> str:
    """What it is, and its grade."""
    return _filled(_one_of(phrases.MALIGNANT if t.tumour else phrases.BENIGN, rng), t, place)


def _findings(t: BoxTruth, place: str, rng: np.random.Generator) -> list[str]:
    """Necrosis, lymphocytes and mitoses: each in a sentence of its own, or two or three joined."""
    joint_count = int(rng.choice([0, 2, 3], p=[0.55, 0.2, 0.25]))
    nouns = list(_nouns(t, rng))
    if joint_count:
        names = [name for name, _ in nouns[joint_count:]]
        rest = [_one_of(phrases.SENTENCES[name][getattr(t, name)], rng) for name in names]
        return [_joined(nouns[:joint_count], t, place, rng), *rest]
    return [_one_of(phrases.SENTENCES[name][getattr(t, name)], rng) for name, _ in nouns]


def _nouns(t: BoxTruth, rng: np.random.Generator) -> list[tuple[str, str]]:
    """(finding, noun phrase) of each finding, in random order."""
    names = list(phrases.NOUNS)
    return [(names[i], phrases.NOUNS[names[i]][getattr(t, names[i])]) for i in rng.permutation(len(names))]


def _joined(facts: Sequence[tuple[str, str]], t: BoxTruth, place: str, rng: np.random.Generator) -> str:
    """One sentence that lists noun phrases."""
    nouns = [noun for _, noun in facts]
    enumeration = nouns[0] if len(nouns) == 1 else ", ".join(nouns[:-1]) + " and " + nouns[-1]
    grammar = _one_of(phrases.JOINED, rng).replace("{all}", enumeration)
    return _filled(grammar.replace("{Subject}", "the tumour" if t.tumour else "the tissue"), t, place)


def _filled(grammar: str, t: BoxTruth, place: str) -> str:
    """A grammar with the truth's words in its braces."""
    words = {"{Place}": phrases.PLACE[place], "{extent}": phrases.extent(t.tumour_share)}
    if t.grade is not None:
        words |= {"{grade}": phrases.GRADE[t.grade], "{tumour}": phrases.TUMOUR[t.diagnosis]}
    for brace, word in words.items():
        grammar = grammar.replace(brace, word)
    return grammar


def _written(grammars: Sequence[str], rng: np.random.Generator) -> str:
    """Sentences drawn from grammars, capitalised, in one spelling."""
    american = rng.random() < 0.5
    sentences = [spell(expand(grammar, rng), american) for grammar in grammars]
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)


def _closed(t: BoxTruth, family: str, rng: np.random.Generator) -> QA:
    """A question with all options of the family, or (one time in four) with some of them."""
    truth, options = choice(t, family), CATEGORIES[family]
    if rng.random() < 0.25 and len(options) > 2:
        wrong = [option for option in options if option != truth]
        picks = rng.permutation(len(wrong))[: int(rng.integers(1, len(wrong)))]
        options = (truth, *(wrong[i] for i in picks))
    return _asked(askings.QUESTIONS[family], options, truth, family, rng)


def _open(t: BoxTruth, family: str, rng: np.random.Generator) -> QA:
    """A question without options; the answer begins with the decisive words."""
    american = bool(rng.random() < 0.5)
    truth = choice(t, family)
    key = family
    if family in ("diagnosis", "grade") and t.diagnosis == BENIGN:
        key = f"{family} benign"
    elif family == "presence":
        key = f"presence {truth}"
    words = {"value": truth, "grade": f"grade {t.grade}", "diagnosis": t.diagnosis}
    if t.grade is not None:
        words["differentiated"] = askings.DIFFERENTIATED[t.grade]
    answer = askings.ANSWERS[key]
    for name, word in words.items():
        answer = answer.replace("{" + name + "}", word)
    answer = spell(expand(answer, rng), american)
    question = _typed(_one_of(askings.QUESTIONS[family], rng), rng, american)
    return QA(question, None, answer[0].upper() + answer[1:], family)


def _asked(
    grammars: Sequence[str],
    options: Sequence[str],
    answer: str,
    family: str,
    rng: np.random.Generator,
    american: bool | None = None,
) -> QA:
    """A closed question: one wording of it, its options shuffled, both in one spelling."""
    american = bool(rng.random() < 0.3) if american is None else american
    shown_options = tuple(spell(options[i], american) for i in rng.permutation(len(options)))
    return QA(_typed(_one_of(grammars, rng), rng, american), shown_options, spell(answer, american), family)


def _typed(grammar: str, rng: np.random.Generator, american: bool) -> str:
    """A question as people type it: often capitalised, sometimes without its question mark."""
    question = spell(expand(grammar, rng), american)
    if rng.random() < 0.1:
        question = question.rstrip("?. ")
    return question[0].upper() + question[1:] if rng.random() < 0.7 else question


def _one_of(grammars: Sequence[str], rng: np.random.Generator) -> str:
    return grammars[int(rng.integers(len(grammars)))]
