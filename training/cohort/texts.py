"""Texts for stage 1 and what each of them claims, so that no text is pushed away from a region it fits.

A report or caption fits every region with the same attributes. A short phrase ("focal necrosis",
"adenocarcinoma") or a question ("any necrosis?") claims one thing and fits every region where it holds;
these make single tiles findable by the words a user types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from training.phantom import askings, phrases
from training.phantom.language import CATEGORIES, caption, choice, pathology_report

if TYPE_CHECKING:
    from training.phantom.truth import BoxTruth

Attributes = Mapping[str, str]
"""Attribute -> value of a region, for instance necrosis -> focal."""


@dataclass(frozen=True)
class Text:
    """A text and the regions it fits."""

    words: str
    """The text."""
    claims: Mapping[str, frozenset[str]]
    """Attribute -> values with which the text is true. Attributes that are not named may be anything."""

    def fits(self, attributes: Attributes) -> bool:
        """Whether every claim holds for a region with these attributes."""
        return all(attributes.get(name) in values for name, values in self.claims.items())


def attributes_of(truth: BoxTruth) -> dict[str, str]:
    """The value of every family of questions for a box or slide."""
    return {family: choice(truth, family) for family in CATEGORIES}


def told_in_full(words: str, attributes: Attributes) -> Text:
    """A text that tells all attributes: it fits only regions that share them all."""
    return Text(words, {name: frozenset([value]) for name, value in attributes.items()})


def long_text(truth: BoxTruth, whole: bool, rng: np.random.Generator) -> Text:
    """A report (always of a whole slide, half the time of a region) or a caption."""
    words = pathology_report(truth, rng) if whole or rng.random() < 0.5 else caption(truth, rng)
    return told_in_full(words, attributes_of(truth))


ABOUT: dict[str, Mapping[str, frozenset[str]]] = {
    "diagnosis": {"presence": frozenset(["yes"])},
    "grade": {"presence": frozenset(["yes"])},
    "presence": {"presence": frozenset(["yes"])},
    "necrosis": {"necrosis": frozenset(["focal", "extensive"])},
    "lymphocytes": {"lymphocytes": frozenset(["moderate", "dense"])},
    "mitoses": {"mitoses": frozenset(["moderate", "high"])},
}
"""Where to look for the answer to a question of each family: the regions that a question text fits."""

NAMES: dict[str, tuple[str, ...]] = {
    "presence": ("[tumour|tumor|cancer|carcinoma|malignant tumour]",),
    "necrosis": ("[necrosis|necrotic tissue|tumour necrosis]",),
    "lymphocytes": ("[lymphocytes|inflammation|lymphocytic infiltrate]",),
    "mitoses": ("[mitoses|mitotic figures|mitotic activity]",),
}
"""The bare name of a finding, which fits where it is present."""


def short_text(truth: BoxTruth, rng: np.random.Generator) -> Text:
    """A phrase true of the region, or a name or question about something present in it."""
    attributes = attributes_of(truth)
    if rng.random() < 0.4:
        family = str(rng.choice([f for f, c in ABOUT.items() if Text("", c).fits(attributes)] or ["none"]))
        if family != "none":
            grammars = NAMES.get(family, ()) if rng.random() < 0.5 else ()
            grammar = _one_of(grammars or askings.QUESTIONS[family], rng)
            return Text(_typed(grammar, rng), ABOUT[family])
    family = str(rng.choice(list(CATEGORIES)))
    words = _typed(_statement(family, truth, rng), rng)
    if rng.random() < 0.4:  # as the agent searches: a question with a hypothesis as its answer
        words = f"{_typed(_one_of(askings.QUESTIONS[family], rng), rng).rstrip('?:. ')}: {attributes[family]}"
    return Text(words, {family: frozenset([attributes[family]])})


def _statement(family: str, truth: BoxTruth, rng: np.random.Generator) -> str:
    """A grammar that states the region's value of one family."""
    if family in phrases.NOUNS:
        value = getattr(truth, family)
        if rng.random() < 0.6:
            return phrases.NOUNS[family][value]
        return _one_of(phrases.SENTENCES[family][value], rng)
    if not truth.tumour:
        return "[benign tissue|no tumour|benign|no malignancy|normal tissue]"
    if family == "grade" and truth.grade is not None:
        return phrases.GRADE[truth.grade] + "[| tumour| carcinoma]"
    return phrases.TUMOUR[truth.diagnosis] if family == "diagnosis" else NAMES["presence"][0]


def _typed(grammar: str, rng: np.random.Generator) -> str:
    words = phrases.spell(phrases.expand(grammar, rng), bool(rng.random() < 0.3))
    return words[0].upper() + words[1:] if rng.random() < 0.4 else words


def _one_of(grammars: Sequence[str], rng: np.random.Generator) -> str:
    return grammars[int(rng.integers(len(grammars)))]


def fitting(regions: Sequence[Attributes], texts: Sequence[Text]) -> npt.NDArray[np.bool_]:
    """(regions, texts): whether the text fits the region."""
    return np.array([[text.fits(region) for text in texts] for region in regions], dtype=bool)
