"""Judges claims: steps that were taken, looks fine enough, and for an absence how much tissue was seen.

To see that something is there takes one good look at it; to say that it is nowhere takes looks as fine as the
thing needs, and how much of the tissue they showed stands beside the claim. Nothing depends on the order of
claims, steps or evidence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent.evidence.coverage import SAME
from agent.evidence.language import ENGLISH, Need, need, need_of_absence, passages
from agent.evidence.negation import read
from agent.evidence.translated import read_in
from agent.run.records import Claim, Step
from agent.text import human_share

HIGH_POWER = 0.5
"""Things that need this are not believed either where they are said to be there on coarse looks alone."""
PRESENCE_FACTOR = 2.0
"""That something is there may be seen at twice the µm/px at which its absence can be told (10x for 20x)."""
LEAST_SEEN = 0.5
"""An absence claimed with a smaller share of the tissue seen is marked as limited."""


class Said(NamedTuple):
    """What a text says, by what a look must show for it."""

    present: tuple[Need, ...]
    absent: tuple[Need, ...]
    unread: tuple[str, ...]
    """Sentences in languages that are not read."""


class ClaimVerdict(NamedTuple):
    """What a claim is worth."""

    unsupported: str | None
    """Why it does not stand; None where it does."""
    seen: str | None
    """Of a claim of absence: how much of the tissue was seen finely enough, in words."""
    limited: bool
    """Whether that is less than `LEAST_SEEN`."""


NOT_READ = "it is in a language in which claims are not checked"
"""Of a claim in another language than those of `words.toml`."""


_STEPS = re.compile(r"\bsteps?\s+((?:\d+(?:\s*,\s*|\s+and\s+|\s*[-–]\s*)?)+)", re.IGNORECASE)


def cited_steps(text: str) -> list[int]:
    """Step numbers that a text refers to: "step 3", "steps 2, 5 and 7"."""
    return sorted({int(n) for numbers in _STEPS.findall(text) for n in re.findall(r"\d+", numbers)})


def said(text: str) -> Said:
    """What a text asks for. Nothing is asked for what is left open."""
    present: list[Need] = []
    absent: list[Need] = []
    unread: list[str] = []
    for passage in passages(text):
        if passage.language is None:
            unread.append(passage.text)
            continue
        language = passage.language
        reading = read(passage.text) if language == ENGLISH else read_in(passage.text, language)
        present += [need(part, language) for part in reading.present]
        absent += [need_of_absence(part, language) for part in reading.absent]
    return Said(tuple(present), tuple(absent), tuple(unread))


def says_absence(text: str) -> bool:
    """Whether a text says, in a language that is read, that something is not there."""
    return bool(said(text).absent)


def judge(claim: Claim, steps: Mapping[int, Step], coverage: Mapping[str, float]) -> ClaimVerdict:
    """The verdict on a claim, from the steps by index and the answer's coverage."""
    if not claim.text.strip():
        return _no("it says nothing")
    indices = {*claim.steps, *cited_steps(claim.text)}
    missing = sorted(index for index in indices if index not in steps)
    if missing:
        return _no(f"it cites step {missing[0]}, which does not exist")
    if not claim.steps:
        return _no("it cites no step")
    finest = [mpp for index in claim.steps if (mpp := resolution(steps[index])) is not None]
    if not finest:
        return _no("none of the steps it cites showed pixels or a model's answer")
    words = said(claim.text)
    for scope in words.present:
        if scope.mpp <= HIGH_POWER and min(finest) > scope.mpp * PRESENCE_FACTOR * SAME:
            return _no(f"“{scope.word}” cannot be told at {min(finest):.3g} µm/px, the finest look it cites")
    if not words.absent:
        return ClaimVerdict(None, None, False)
    return _absence(min(words.absent, key=lambda scope: scope.mpp), min(finest), coverage)


def unchecked(text: str) -> str | None:
    """Why what a text says cannot be checked, though the steps it cites can; None where it can."""
    return NOT_READ if said(text).unread else None


def resolution(step: Step) -> float | None:
    """The finest µm/px at which a step showed pixels, or a model read them; None where neither happened."""
    observation = step.observation
    if not observation.ok:
        return None
    values: list[float | None] = [observation.mpp] if observation.image is not None else []
    if step.action.tool == "ask_region":
        values.append(observation.data.get("read_mpp", observation.mpp))
    return min((float(mpp) for mpp in values if mpp is not None), default=None)


def judged(claims: Sequence[Claim], steps: Mapping[int, Step], coverage: Mapping[str, float]) -> list[Claim]:
    """The claims with their verdicts written into them."""
    return [
        claim.model_copy(
            update=judge(claim, steps, coverage)._asdict() | {"unchecked": unchecked(claim.text)}
        )
        for claim in claims
    ]


def _absence(scope: Need, finest: float, coverage: Mapping[str, float]) -> ClaimVerdict:
    subject = f"the absence of “{scope.word}”" if scope.word else "an absence"
    if finest > scope.mpp * SAME:
        return _no(
            f"{subject} needs {scope.mpp:g} µm/px or finer, and the finest look it cites has {finest:.3g}"
        )
    share_by_mpp = {float(level): share for level, share in coverage.items() if float(level) <= scope.mpp}
    if not share_by_mpp:
        return _no(f"{subject} is claimed without saying how much tissue was seen")
    share = share_by_mpp[max(share_by_mpp)]
    seen_text = f"{human_share(share)} of the tissue was seen at ≤ {max(share_by_mpp):g} µm/px"
    return ClaimVerdict(None, seen_text, share < LEAST_SEEN)


def _no(why: str) -> ClaimVerdict:
    return ClaimVerdict(why, None, False)
