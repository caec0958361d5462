"""From finished runs to the six sections of a report. Every sentence keeps what it rests on.

A local model answers one question per run, and each answer becomes a sentence. A chat model answers once,
and each claim of its answer is a sentence in the section that it names. Specimen and limits are written
from what was measured and counted, without any model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.batch.questions import ASKED_OF_MODELS, REPORT, SECTIONS, ReportQuestion, SectionName, section_of
from agent.batch.records import Cited, Finding, Overview, Section, Sentence, Specimen
from agent.evidence.check import claims_absence, placed
from agent.evidence.claims import unchecked
from agent.evidence.coverage import blurred_in_words, coverage_in_words
from agent.evidence.familiarity import unreadable
from agent.run.folder import read_answer, read_run, read_trace
from agent.run.records import Answer, Claim, RunRecord, Step
from agent.text import first_upper, human_length, human_share


@dataclass(frozen=True)
class QuestionRun:
    """One question with the run that answered it."""

    question: ReportQuestion
    record: RunRecord
    answer: Answer
    steps: Mapping[int, Step]

    @staticmethod
    def read(question: ReportQuestion, folder: Path) -> QuestionRun:
        """From a finished run folder. Raises `RunError`."""
        steps = {step.index: step for step in read_trace(folder)}
        return QuestionRun(question, read_run(folder), read_answer(folder), steps)

    @property
    def own_words(self) -> str | None:
        """The local model's own words on the whole slide; None where a chat model answered."""
        if self.record.settings.navigator == "chat":
            return None
        answers = (step.observation.data.get("answer") for step in self.steps.values())
        return next((str(answer) for answer in answers if answer), None)

    def cite(self, indices: Iterable[int]) -> list[Cited]:
        """Steps as evidence. Those that do not exist are left out: the check has marked their sentence."""
        findings = {item.step: item.finding for item in self.answer.evidence}
        return [
            citation(self.question.name, self.steps[index], findings.get(index))
            for index in dict.fromkeys(indices)
            if index in self.steps
        ]


def citation(run: str, step: Step, finding: str | None = None) -> Cited:
    """A step of a run as evidence of a sentence."""
    observation = step.observation
    return Cited(
        run=run,
        step=step.index,
        tool=step.action.tool,
        box=observation.box,
        mpp=observation.mpp,
        image=f"{run}/{observation.image}" if observation.image else None,
        finding=placed(finding or step.finding, step),
    )


def sections(runs: Sequence[QuestionRun], specimen: Specimen, coverage: Mapping[str, float]) -> list[Section]:
    """All six, in order."""
    parts: dict[SectionName, list[Sentence]] = {name: [] for name in SECTIONS}
    parts["specimen"] = _specimen(specimen, runs)
    parts["limits"] = [Sentence(text=text) for text in specimen.warnings] + _limits(runs, coverage)
    for run in runs:
        for section, sentence in _sentences(run):
            parts[section].append(sentence)
    for name in ASKED_OF_MODELS:
        parts[name] = parts[name] or [_nothing_said(runs)]
    parts["limits"] += _doubted(parts)
    return [Section(name=name, sentences=parts[name]) for name in SECTIONS]


def findings(runs: Sequence[QuestionRun]) -> list[Finding]:
    """The outcome of each question."""
    return [
        Finding(
            name=run.question.name,
            section=run.question.section,
            said=run.answer.choice or run.own_words or run.answer.answer,
            choice=run.answer.choice,
            confidence=run.answer.confidence,
            abstained=run.answer.abstained,
            reason=run.answer.reason,
        )
        for run in runs
    ]


def report_text(parts: Sequence[Section]) -> str:
    """The whole report as text."""
    texts = (f"{part.name.capitalize()}: {' '.join(s.whole for s in part.sentences)}" for part in parts)
    return "\n".join(texts)


def overview_of(runs: Sequence[QuestionRun]) -> tuple[Overview, Cited] | None:
    """The first image of the whole slide that a run left; None where none looked at it."""
    for run in runs:
        for step in run.steps.values():
            look = step.observation
            if step.action.tool == "overview" and look.image and look.box:
                size = {side: int(look.data[side]) for side in ("width_px", "height_px")}
                name = run.question.name
                overview = Overview(image=f"{name}/{look.image}", box=look.box, **size)
                return overview, citation(name, step)
    return None


def _sentences(run: QuestionRun) -> list[tuple[SectionName, Sentence]]:
    if run.question == REPORT:
        return _claims(run)
    return [(run.question.section, _abstained(run) if run.answer.abstained else _answered(run))]


def _answered(run: QuestionRun) -> Sentence:
    """The answer to one question as one sentence."""
    answer = run.answer
    words = answer.choice or run.own_words or answer.answer
    text = run.question.says.get(words) or f"{words[:1].upper()}{words[1:].rstrip('.')}."
    return Sentence(
        text=text,
        seen=_seen(text, answer),
        run=run.question.name,
        confidence=answer.confidence,
        evidence=run.cite(e.step for e in answer.evidence),
        unsupported=" ".join(run.record.unsupported) or None,
        unchecked=unchecked(text),
    )


def _abstained(run: QuestionRun) -> Sentence:
    return Sentence(
        text=f"No answer on {_subject(run.question)}.",
        why=_reason(run),
        run=run.question.name,
        confidence=run.answer.confidence,
        evidence=run.cite(e.step for e in run.answer.evidence),
        abstained=True,
        unsupported=" ".join(run.record.unsupported) or None,
    )


def _claims(run: QuestionRun) -> list[tuple[SectionName, Sentence]]:
    """Each claim in its section. Of an abstention they are what was seen, never the diagnosis or grade."""
    sentences: list[tuple[SectionName, Sentence]] = []
    for claim in run.answer.claims:
        section = section_of(claim.section)
        if run.answer.abstained and section in ("diagnosis", "grade"):
            section = "microscopic description"
        sentences.append((section, _claimed(run, claim)))
    if run.answer.abstained:
        sentences.append(("diagnosis", _abstained(run)))
    elif all(section != "diagnosis" or sentence.against for section, sentence in sentences):
        sentences.append(("diagnosis", _answered(run)))
    return sentences


def _claimed(run: QuestionRun, claim: Claim) -> Sentence:
    return Sentence(
        text=claim.text,
        seen=_seen(claim.text, run.answer),
        run=run.question.name,
        confidence=run.answer.confidence,
        evidence=run.cite(claim.steps),
        against=claim.against,
        unsupported=claim.unsupported,
        unchecked=claim.unchecked,
    )


def _seen(text: str, answer: Answer) -> str | None:
    """The coverage, where a text says that something is not there: without it that means nothing."""
    return coverage_in_words(answer.coverage) if claims_absence(text) else None


def _nothing_said(runs: Sequence[QuestionRun]) -> Sentence:
    """For a section that no run said anything about."""
    reasons = dict.fromkeys(_reason(run) for run in runs if run.answer.abstained)
    why = " ".join(reasons) or "The model said nothing of it."
    return Sentence(text="No answer.", abstained=True, why=why)


def _reason(run: QuestionRun) -> str:
    """Why a question was not answered, or what limits its answer, but for what the slide's tiles limit."""
    return _own_reason(run) or "No reason was recorded."


def _own_reason(run: QuestionRun) -> str:
    """The reason without what every run on this slide says: its tiles, its focus."""
    reason = run.answer.reason or ""
    for common in filter(None, (_focus(run), _tiles(run))):
        before, found, after = reason.partition(common)
        reason = f"{before.rstrip()} {after.lstrip()}".strip() if found else reason
    return reason


def _focus(run: QuestionRun) -> str | None:
    """The sentence on tissue that is out of focus."""
    local = run.record.settings.navigator != "chat"
    return blurred_in_words(run.record.out_of_focus, asked=local)


def _tiles(run: QuestionRun) -> str | None:
    """The sentence on tiles that could not be read, with the place of each; every run has the same."""
    failures = [[list(bad.box), bad.why] for bad in run.record.unreadable]
    return unreadable({"failed": failures, "tiles": run.record.tiles or 0})  # type: ignore[typeddict-item]


def _subject(question: ReportQuestion) -> str:
    """The subject of a question, in words."""
    return question.section if question == REPORT else question.name.replace("_", " ")


def _specimen(specimen: Specimen, runs: Sequence[QuestionRun]) -> list[Sentence]:
    pixels = (specimen.width, specimen.height)
    size = " × ".join(human_length(px * um) for px, um in zip(pixels, specimen.sides, strict=True))
    overview, pieces = overview_of(runs), specimen.pieces
    evidence = [overview[1]] if overview else []
    sentences = [
        Sentence(
            text=f"The scan measures {size}: {specimen.width:,} × {specimen.height:,} px at"
            f" {specimen.mpp:.3g} µm/px."
        ),
        Sentence(
            text=f"Tissue covers {specimen.tissue_mm2:.3g} mm² in {pieces} piece{'s' * (pieces != 1)}"
            f"{_formed(specimen)}.",
            evidence=evidence,
        ),
    ]
    if specimen.folded:
        text = f"{human_share(specimen.folded)} of the tissue is folded."
        sentences.append(Sentence(text=first_upper(text)))
    if specimen.unreadable:
        text = f"{human_share(specimen.unreadable)} of the scan cannot be read."
        sentences.append(Sentence(text=text[:1].upper() + text[1:], evidence=evidence))
    return sentences


def _formed(specimen: Specimen) -> str:
    """What the pieces of tissue form, where that is more than one section."""
    if specimen.cores:
        return f", {specimen.cores} cores of a tissue microarray"
    return f", which form {specimen.sections} sections" if specimen.sections > 1 else ""


def _limits(runs: Sequence[QuestionRun], coverage: Mapping[str, float]) -> list[Sentence]:
    """Sentences on how much was seen and on what limits the answers; equal reasons are given once."""
    sentences = [Sentence(text=coverage_in_words(coverage))]
    worst = max(runs, key=lambda run: len(run.record.unreadable))
    if bad := len(worst.record.unreadable):
        total = bad + (worst.record.tiles or 0)
        text = f"{bad} of {total} tiles could not be read and were left out; run.json lists them."
        sentences.append(Sentence(text=text, run=worst.question.name))
    blurred = [words for words in map(_focus, runs) if words]
    sentences += [Sentence(text=words) for words in blurred[:1]]
    for abstains in (False, True):
        reasons: dict[str, list[str]] = {}
        for run in runs:
            if run.answer.abstained is abstains and (_own_reason(run) or abstains):
                reasons.setdefault(_reason(run), []).append(_subject(run.question))
        for reason, names in reasons.items():
            if abstains:
                sentences.append(Sentence(text=f"Not answered: {', '.join(names)}. {reason}"))
            else:
                subject = "" if len(names) == len(runs) else f"{', '.join(names).capitalize()}: "
                sentences.append(Sentence(text=f"{subject}{reason}"))
    return sentences


def _doubted(parts: Mapping[SectionName, Sequence[Sentence]]) -> list[Sentence]:
    """Sentences that count those which the evidence check marked."""
    marks = [(sentence.unsupported, sentence.unchecked) for part in parts.values() for sentence in part]
    counts = {
        "not supported by what was seen": sum(unsupported is not None for unsupported, _ in marks),
        "in a language in which claims are not checked": sum(unchecked is not None for _, unchecked in marks),
    }
    return [
        Sentence(text=f"{'1 sentence is' if count == 1 else f'{count} sentences are'} {fault}, and marked.")
        for fault, count in counts.items()
        if count
    ]
