"""From finished runs to the six sections of a report. Every sentence keeps what it rests on.

A local model answers one question per run, and each answer becomes a sentence. A chat model answers once,
and each claim of its answer is a sentence in the section that it names. Specimen and limits are written
from what was measured and counted, without any model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.batch.questions import ASKED_OF_MODELS, REPORT, SECTIONS, Asked, SectionName, section_of
from agent.batch.records import Cited, Finding, Overview, Section, Sentence, Specimen
from agent.evidence.check import claims_absence
from agent.evidence.coverage import coverage_in_words
from agent.evidence.familiarity import unreadable
from agent.run.folder import read_answer, read_run, read_trace
from agent.run.records import Answer, Claim, RunRecord, Step
from agent.text import human_length, human_share


@dataclass(frozen=True)
class Told:
    """One question with the run that answered it."""

    asked: Asked
    run: RunRecord
    answer: Answer
    steps: Mapping[int, Step]

    @staticmethod
    def read(asked: Asked, folder: Path) -> Told:
        """From a finished run folder. Raises `RunError`."""
        steps = {step.index: step for step in read_trace(folder)}
        return Told(asked, read_run(folder), read_answer(folder), steps)

    @property
    def own_words(self) -> str | None:
        """What a local model said of the whole slide, without what the agent says about it."""
        if self.run.settings.navigator == "chat":
            return None
        said = (step.observation.data.get("answer") for step in self.steps.values())
        return next((str(words) for words in said if words), None)

    def cite(self, indices: Iterable[int]) -> list[Cited]:
        """Steps as evidence. Those that do not exist are left out: the check has marked their sentence."""
        findings = {cited.step: cited.finding for cited in self.answer.evidence}
        return [
            cited(self.asked.name, self.steps[index], findings.get(index))
            for index in dict.fromkeys(indices)
            if index in self.steps
        ]


def cited(run: str, step: Step, finding: str | None = None) -> Cited:
    """A step of a run as evidence of a sentence."""
    seen = step.observation
    return Cited(
        run=run,
        step=step.index,
        tool=step.action.tool,
        box=seen.box,
        mpp=seen.mpp,
        image=f"{run}/{seen.image}" if seen.image else None,
        finding=finding or step.finding,
    )


def sections(told: Sequence[Told], specimen: Specimen, coverage: Mapping[str, float]) -> list[Section]:
    """All six, in order."""
    made: dict[SectionName, list[Sentence]] = {name: [] for name in SECTIONS}
    made["specimen"] = _specimen(specimen, told)
    made["limits"] = _limits(told, coverage)
    for one in told:
        for section, sentence in _sentences(one):
            made[section].append(sentence)
    for name in ASKED_OF_MODELS:
        made[name] = made[name] or [_nothing_said(told)]
    made["limits"] += _doubted(made)
    return [Section(name=name, sentences=made[name]) for name in SECTIONS]


def findings(told: Sequence[Told]) -> list[Finding]:
    """What each question came to."""
    return [
        Finding(
            name=one.asked.name,
            section=one.asked.section,
            said=one.answer.choice or one.own_words or one.answer.answer,
            choice=one.answer.choice,
            confidence=one.answer.confidence,
            abstained=one.answer.abstained,
            reason=one.answer.reason,
        )
        for one in told
    ]


def in_words(parts: Sequence[Section]) -> str:
    """The whole report as text."""
    told = (f"{part.name.capitalize()}: {' '.join(s.whole for s in part.sentences)}" for part in parts)
    return "\n".join(told)


def overview_of(told: Sequence[Told]) -> tuple[Overview, Cited] | None:
    """The first image of the whole slide that a run left; None where none looked at it."""
    for one in told:
        for step in one.steps.values():
            seen = step.observation
            if step.action.tool == "overview" and seen.image:
                size = {side: int(seen.data[side]) for side in ("width_px", "height_px")}
                return Overview(image=f"{one.asked.name}/{seen.image}", **size), cited(one.asked.name, step)
    return None


def _sentences(one: Told) -> list[tuple[SectionName, Sentence]]:
    if one.asked == REPORT:
        return _claims(one)
    return [(one.asked.section, _abstained(one) if one.answer.abstained else _answered(one))]


def _answered(one: Told) -> Sentence:
    """The answer to one question as one sentence."""
    answer = one.answer
    said = answer.choice or one.own_words or answer.answer
    text = one.asked.says.get(said) or f"{said[:1].upper()}{said[1:].rstrip('.')}."
    return Sentence(
        text=text,
        seen=_seen(text, answer),
        run=one.asked.name,
        confidence=answer.confidence,
        evidence=one.cite(e.step for e in answer.evidence),
        unsupported=" ".join(one.run.unsupported) or None,
    )


def _abstained(one: Told) -> Sentence:
    return Sentence(
        text=f"No answer on {_subject(one.asked)}.",
        why=_reason(one),
        run=one.asked.name,
        confidence=one.answer.confidence,
        evidence=one.cite(e.step for e in one.answer.evidence),
        abstained=True,
        unsupported=" ".join(one.run.unsupported) or None,
    )


def _claims(one: Told) -> list[tuple[SectionName, Sentence]]:
    """Each claim in its section. Of an abstention they are what was seen, never the diagnosis or grade."""
    made: list[tuple[SectionName, Sentence]] = []
    for claim in one.answer.claims:
        section = section_of(claim.section)
        if one.answer.abstained and section in ("diagnosis", "grade"):
            section = "microscopic description"
        made.append((section, _claimed(one, claim)))
    if one.answer.abstained:
        made.append(("diagnosis", _abstained(one)))
    elif all(section != "diagnosis" or sentence.against for section, sentence in made):
        made.append(("diagnosis", _answered(one)))
    return made


def _claimed(one: Told, claim: Claim) -> Sentence:
    return Sentence(
        text=claim.text,
        seen=_seen(claim.text, one.answer),
        run=one.asked.name,
        confidence=one.answer.confidence,
        evidence=one.cite(claim.steps),
        against=claim.against,
        unsupported=claim.unsupported,
    )


def _seen(text: str, answer: Answer) -> str | None:
    """The coverage, where a text says that something is not there: without it that means nothing."""
    return coverage_in_words(answer.coverage) if claims_absence(text) else None


def _nothing_said(told: Sequence[Told]) -> Sentence:
    """For a section that no run said anything about."""
    reasons = dict.fromkeys(_reason(one) for one in told if one.answer.abstained)
    why = " ".join(reasons) or "The model said nothing of it."
    return Sentence(text="No answer.", abstained=True, why=why)


def _reason(one: Told) -> str:
    """Why a question was not answered, or what limits its answer, but for what the slide's tiles limit."""
    return _without_tiles(one) or "No reason was recorded."


def _without_tiles(one: Told) -> str:
    reason, tiles = one.answer.reason or "", _tiles(one)
    return reason.removesuffix(tiles).strip() if tiles else reason


def _tiles(one: Told) -> str | None:
    """What a run says of tiles that could not be read, with the place of each; the same in every run."""
    failed = [[list(bad.box), bad.why] for bad in one.run.unreadable]
    return unreadable({"failed": failed, "tiles": one.run.tiles or 0})  # type: ignore[typeddict-item]


def _subject(asked: Asked) -> str:
    """What a question is about, in words."""
    return asked.section if asked == REPORT else asked.name.replace("_", " ")


def _specimen(specimen: Specimen, told: Sequence[Told]) -> list[Sentence]:
    size = " × ".join(human_length(px * specimen.mpp) for px in (specimen.width, specimen.height))
    found, pieces = overview_of(told), specimen.pieces
    seen = [found[1]] if found else []
    made = [
        Sentence(
            text=f"The scan measures {size}: {specimen.width:,} × {specimen.height:,} px at"
            f" {specimen.mpp:.3g} µm/px."
        ),
        Sentence(
            text=f"Tissue covers {specimen.tissue_mm2:.3g} mm² in {pieces} piece{'s' * (pieces != 1)}.",
            evidence=seen,
        ),
    ]
    if specimen.unreadable:
        text = f"{human_share(specimen.unreadable)} of the scan cannot be read."
        made.append(Sentence(text=text[:1].upper() + text[1:], evidence=seen))
    return made


def _limits(told: Sequence[Told], coverage: Mapping[str, float]) -> list[Sentence]:
    """How much was seen, and what narrows the answers or keeps them back; the same reason is told once."""
    made = [Sentence(text=coverage_in_words(coverage))]
    most = max(told, key=lambda one: len(one.run.unreadable))
    if bad := len(most.run.unreadable):
        total = bad + (most.run.tiles or 0)
        text = f"{bad} of {total} tiles could not be read and were left out; run.json lists them."
        made.append(Sentence(text=text, run=most.asked.name))
    for abstained in (False, True):
        reasons: dict[str, list[str]] = {}
        for one in told:
            if one.answer.abstained is abstained and (_without_tiles(one) or abstained):
                reasons.setdefault(_reason(one), []).append(_subject(one.asked))
        for reason, names in reasons.items():
            if abstained:
                made.append(Sentence(text=f"Not answered: {', '.join(names)}. {reason}"))
            else:
                about = "" if len(names) == len(told) else f"{', '.join(names).capitalize()}: "
                made.append(Sentence(text=f"{about}{reason}"))
    return made


def _doubted(made: Mapping[SectionName, Sequence[Sentence]]) -> list[Sentence]:
    """How many sentences the evidence check marked."""
    count = sum(1 for part in made.values() for sentence in part if sentence.unsupported)
    if not count:
        return []
    what = "1 sentence is" if count == 1 else f"{count} sentences are"
    return [Sentence(text=f"{what} not supported by what was seen, and marked.")]
