"""The contract that every answer must meet, checked without any model.

An answer may cite only what was shown: the step exists, succeeded, and showed that box at that resolution.
What an answer says is absent must come with how much of the tissue was looked at, because "not seen" means
nothing without it. The same answer and the same steps always give the same verdict.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from agent.records import Answer, Evidence, Step

_ABSENCE = re.compile(
    r"\b(no|not|none|nil|never|neither|without|absent|absence|negative|benign|normal|unremarkable"
    r"|lacks?|lacking|free of|non-?(?:neoplastic|malignant|tumou?r\w*))\b",
    re.IGNORECASE,
)
_STEPS = re.compile(r"\bsteps?\s+((?:\d+(?:\s*,\s*|\s+and\s+|\s*[-–]\s*)?)+)", re.IGNORECASE)
_SHARE = re.compile(r"\d\s*%")
MPP_TOLERANCE = 0.01
"""Relative difference at which two resolutions are still the same one, written with fewer digits."""


def check(answer: Answer, steps: Sequence[Step]) -> list[str]:
    """What the steps do not support, one sentence each; empty where the answer stands."""
    by_index = {step.index: step for step in steps}
    problems = [problem for cited in answer.evidence if (problem := fault(cited, by_index)) is not None]
    problems += _numbers(answer)
    problems += [
        f"The text cites step {index}, which does not exist."
        for index in cited_steps(answer.answer)
        if index not in by_index
    ]
    if answer.abstained:
        return problems + _abstention(answer)
    if not answer.evidence:
        problems.append("The answer cites no step.")
    if answer.options is not None and answer.choice not in answer.options:
        problems.append(f"The choice {answer.choice!r} is none of the options.")
    if claims_absence(answer.choice or answer.answer) and not _states_coverage(answer):
        problems.append("The answer says that something is absent without saying how much tissue was seen.")
    return problems


def fault(cited: Evidence, steps: Mapping[int, Step]) -> str | None:
    """Why a citation does not hold, or None where it does."""
    step = steps.get(cited.step)
    if step is None:
        return f"Step {cited.step} is cited and does not exist."
    seen = step.observation
    if not seen.ok:
        return f"Step {cited.step} is cited and did not succeed."
    if cited.tool != step.action.tool:
        return f"Step {cited.step} was a call of {step.action.tool}, not of {cited.tool}."
    if cited.box != seen.box:
        return f"Step {cited.step} showed box {_box(seen.box)}, not {_box(cited.box)}."
    if not _same_mpp(cited.mpp, seen.mpp):
        return f"Step {cited.step} showed {seen.mpp} µm/px, not {cited.mpp}."
    if cited.image != seen.image:
        return f"Step {cited.step} left the image {seen.image}, not {cited.image}."
    return None


def cited_steps(text: str) -> list[int]:
    """Step numbers that a text refers to: "step 3", "steps 2, 5 and 7"."""
    return sorted({int(n) for found in _STEPS.findall(text) for n in re.findall(r"\d+", found)})


def claims_absence(text: str) -> bool:
    """Whether a text says that something is not there."""
    return _ABSENCE.search(text) is not None


def mark(answer: Answer, problems: Sequence[str]) -> Answer:
    """The answer with what is unsupported said in its text; an impossible confidence becomes 0."""
    sound = math.isfinite(answer.confidence) and 0.0 <= answer.confidence <= 1.0
    text = f"{answer.answer} Unsupported: {' '.join(problems)}"
    return answer.model_copy(update={"answer": text, "confidence": answer.confidence if sound else 0.0})


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


def _same_mpp(cited: float | None, shown: float | None) -> bool:
    if cited is None or shown is None:
        return cited is shown
    return math.isclose(cited, shown, rel_tol=MPP_TOLERANCE)


def _box(box: Sequence[int] | None) -> str:
    return "none" if box is None else "(" + ", ".join(map(str, box)) + ")"
