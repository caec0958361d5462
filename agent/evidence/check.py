"""The contract that every answer must meet, checked without any model.

An answer may cite only what was shown: the step exists, succeeded, and showed that box at that resolution.
What an answer says is absent must come with how much of the tissue was looked at, because "not seen" means
nothing without it. Each claim is held against the steps that it names (`claims.py`); what it says is read in
the languages of `words.toml`, and marked as not checked in any other. The same answer and the same steps
always give the same verdict.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from agent.evidence.claims import cited_steps, judged, says_absence, unchecked
from agent.run.records import Answer, Claim, Evidence, Step

_SHARE = re.compile(r"\d\s*%")
NOT_READ_TEXT = "The text of the answer was not checked"
MPP_TOLERANCE = 0.01
"""Relative difference at which two resolutions are still the same one, written with fewer digits."""


def check_answer(answer: Answer, steps: Sequence[Step]) -> list[str]:
    """What the steps do not support, one sentence each; empty where the answer stands."""
    by_index = {step.index: step for step in steps}
    problems = [problem for citation in answer.evidence if (problem := fault(citation, by_index)) is not None]
    problems += _numbers(answer)
    problems += [
        f"The text cites step {index}, which does not exist."
        for index in cited_steps(answer.answer)
        if index not in by_index
    ]
    problems += _claims(answer, steps)
    if answer.abstained:
        return problems + _abstention(answer)
    if not answer.evidence:
        problems.append("The answer cites no step.")
    if answer.options is not None and answer.choice not in answer.options:
        problems.append(f"The choice {answer.choice!r} is none of the options.")
    if claims_absence(answer.choice or answer.answer) and not _states_coverage(answer):
        problems.append("The answer says that something is absent without saying how much tissue was seen.")
    return problems


def fault(citation: Evidence, steps: Mapping[int, Step]) -> str | None:
    """Why a citation does not hold, or None where it does."""
    step = steps.get(citation.step)
    if step is None:
        return f"Step {citation.step} is cited and does not exist."
    observation = step.observation
    if not observation.ok:
        return f"Step {citation.step} is cited and did not succeed."
    if citation.tool != step.action.tool:
        return f"Step {citation.step} was a call of {step.action.tool}, not of {citation.tool}."
    if citation.box != observation.box:
        return f"Step {citation.step} showed box {_box(observation.box)}, not {_box(citation.box)}."
    if not _same_mpp(citation.mpp, observation.mpp):
        return f"Step {citation.step} showed {observation.mpp} µm/px, not {citation.mpp}."
    if citation.image != observation.image:
        return f"Step {citation.step} left the image {observation.image}, not {citation.image}."
    return None


def claims_absence(text: str) -> bool:
    """Whether an answer in words says that something is not there."""
    return says_absence(text)


def mark(answer: Answer, problems: Sequence[str], steps: Sequence[Step]) -> Answer:
    """The answer with a verdict on each of its claims, and with what is unsupported said in its text.

    Marking twice changes nothing. An impossible confidence becomes 0.
    """
    sound = math.isfinite(answer.confidence) and 0.0 <= answer.confidence <= 1.0
    untold = [problem for problem in problems if problem not in answer.answer]
    text = answer.answer + unsupported_note(untold)
    return answer.model_copy(
        update={
            "answer": text,
            "confidence": answer.confidence if sound else 0.0,
            "claims": _judged(answer, steps),
            "reason": _with_unread(answer),
        }
    )


def _with_unread(answer: Answer) -> str | None:
    """The reason of an answer; it limits the answer too where its own words are not read."""
    why = unchecked(answer.answer)
    note, reason = f"{NOT_READ_TEXT}: {why}.", answer.reason or ""
    return answer.reason if why is None or note in reason else f"{reason} {note}".strip()


def not_checked(answer: Answer) -> list[str]:
    """What of a marked answer was not checked, one sentence each."""
    why = unchecked(answer.answer)
    return [f"{NOT_READ_TEXT}: {why}."] * (why is not None) + [
        f"Claim {number} (“{_short(claim.text)}”) was not checked: {claim.unchecked}."
        for number, claim in enumerate(answer.claims, 1)
        if claim.unchecked is not None
    ]


def unsupported_note(problems: Sequence[str]) -> str:
    """What `mark` adds to an answer's text."""
    return f" Unsupported: {' '.join(problems)}" if problems else ""


def _judged(answer: Answer, steps: Sequence[Step]) -> list[Claim]:
    return judged(answer.claims, {step.index: step for step in steps}, answer.coverage)


def _claims(answer: Answer, steps: Sequence[Step]) -> list[str]:
    return [
        f"Claim {number} (“{_short(claim.text)}”) does not stand: {claim.unsupported}."
        for number, claim in enumerate(_judged(answer, steps), 1)
        if claim.unsupported is not None
    ]


def _short(text: str, most: int = 80) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def _numbers(answer: Answer) -> list[str]:
    values = {"confidence": answer.confidence} | {
        f"coverage at {mpp} µm/px": share for mpp, share in answer.coverage.items()
    }
    return [
        f"The {name} is {value}, outside 0 to 1."
        for name, value in values.items()
        if not (math.isfinite(value) and 0.0 <= value <= 1.0)
    ]


def _abstention(answer: Answer) -> list[str]:
    problems = []
    if answer.choice is not None:
        problems.append("The answer abstains and chooses an option.")
    if not answer.reason:
        problems.append("The answer abstains without a reason.")
    return problems


def _states_coverage(answer: Answer) -> bool:
    return bool(answer.coverage) and _SHARE.search(answer.answer) is not None


def _same_mpp(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=MPP_TOLERANCE)


def _box(box: Sequence[int] | None) -> str:
    return "none" if box is None else "(" + ", ".join(map(str, box)) + ")"


def cite(step: Step, finding: str | None = None) -> Evidence:
    """A step as evidence."""
    observation = step.observation
    return Evidence(
        step=step.index,
        tool=step.action.tool,
        box=observation.box,
        mpp=observation.mpp,
        finding=placed(finding or step.finding, step),
        image=observation.image,
    )


def placed(finding: str, step: Step) -> str:
    """A finding that says in which section or core of the slide it was made, where there are several."""
    part = step.observation.data.get("part")
    return f"In {part}: {finding}" if isinstance(part, str) and part not in finding else finding
