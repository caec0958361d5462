"""Composes the answer of a local model in words: the answer first, then why, then what was looked at.

    Grade 2, confidence 0.87.                    the answer
    It was the most probable answer for …        why: which places speak for it, which against
    Of the tissue, 47 % was shown at …           what was and was not looked at

Every figure in the text is taken from a step or from the pooled posterior; the sentences only join them. An
abstention has the same three parts and begins with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.evidence.check import cite, claims_absence, fault
from agent.evidence.coverage import coverage, coverage_in_words
from agent.evidence.familiarity import doubts, limits, unreadable
from agent.graph.state import Draft, steps_of
from agent.navigators.weigh import UNANIMOUS, Looks, Posterior, Ranked, ranked, spoken_answer
from agent.run.records import Claim, Evidence, Step
from agent.text import answer_sentence, first_upper, join_words, no_answer, steps_in_words

if TYPE_CHECKING:
    from agent.graph.state import AgentContext, AgentState

SINGLE_PASS = "a single pass was asked for"
UNKNOWN_TO_MODEL = "asking the model would mean nothing here"
STOPS_NOT_REPEATED = (SINGLE_PASS, UNANIMOUS, UNKNOWN_TO_MODEL)
"""Reasons to stop that the sentences before say already."""


def compose_answer(state: AgentState, context: AgentContext, problems: list[str]) -> Draft:
    """The answer, or the abstention with its reason. After a failed check, only sound citations are kept."""
    steps = steps_of(state)
    looks = Looks(steps, context.slide.box)
    familiarity = state.get("familiarity")
    reasons = doubts(familiarity, context.model.name) if familiarity else []
    posterior = state.get("posterior")
    if reasons:
        evidence = _cite_images(looks)
        draft = _abstain(reasons, 0.0, evidence, [_not_asked(evidence)], state, context)
    elif not posterior:
        draft = _abstain(_no_reply(state, steps), 0.0, _cite_images(looks), [], state, context)
    else:
        draft = _weighed(posterior, looks, state, context)
    if problems:
        by_index = {step.index: step for step in steps}
        sound = [item for item in draft.evidence if fault(item, by_index) is None]
        draft = draft._replace(evidence=sound)
    return draft


def confidence(winner: Ranked, state: AgentState) -> float:
    """Pooled posterior; for an open answer times the model's certainty of its own words."""
    return winner.p if state.get("options") else winner.p * state.get("said", {}).get(winner.name, 1.0)


def _weighed(posterior: Posterior, looks: Looks, state: AgentState, context: AgentContext) -> Draft:
    winner = ranked(posterior)[0]
    sure = confidence(winner, state)
    least = context.weights.abstain_below
    if sure < least:
        reason = (
            f"the leading answer, '{winner.name}', has confidence {sure:.2f}, below the {least:.2f} required"
        )
        support = _support(winner, looks, state)
        return _abstain([reason], sure, _cite_asked(winner, looks, state, False), support, state, context)
    sentences = [
        answer_sentence(winner.name, sure),
        *_pooled_in_words(winner, posterior, sure, looks, state),
        *_support(winner, looks, state),
        *_where(looks),
        *_looked_at(state, context, negative=claims_absence(winner.name)),
    ]
    familiarity = state.get("familiarity")
    return Draft(
        " ".join(sentences),
        winner.name if state.get("options") else None,
        sure,
        _cite_asked(winner, looks, state, True),
        reason=limits(familiarity) if familiarity else None,
        claims=_claims(winner, looks, state),
    )


def _abstain(
    reasons: list[str],
    sure: float,
    evidence: list[Evidence],
    sentences: list[str],
    state: AgentState,
    context: AgentContext,
) -> Draft:
    familiarity = state.get("familiarity")
    clause = "; ".join(reasons)
    reason = f"{first_upper(clause)}."
    tiles = unreadable(familiarity) if familiarity else None
    text = " ".join([no_answer(clause), *sentences, *_looked_at(state, context, negative=False)])
    return Draft(text, None, sure, evidence, True, f"{reason} {tiles}" if tiles else reason)


def _no_reply(state: AgentState, steps: list[Step]) -> list[str]:
    failures = [step for step in steps if step.action.tool == "ask_region" and not step.observation.ok]
    if failures:
        return [f"the model could not be asked ({failures[-1].observation.text.rstrip('. ')})"]
    return [state.get("stop") or "the model gave no answer"]


def _not_asked(evidence: list[Evidence]) -> str:
    if not evidence:
        return "The model was therefore not asked."
    steps = first_upper(steps_in_words([item.step for item in evidence]))
    return f"The model was therefore not asked. {steps} show{'s' * (len(evidence) == 1)} the slide."


def _pooled_in_words(
    winner: Ranked, posterior: Posterior, sure: float, looks: Looks, state: AgentState
) -> list[str]:
    """What the confidence is made of and which answer comes next, where answers were compared."""
    if len(posterior) < 2:
        return []
    second = ranked(posterior)[1]
    places = _counted(looks)
    if state.get("options"):
        text = f"This is its probability over {places}; the next answer is {second.name} ({second.p:.2f})."
        return [text]
    certainty = sure / winner.p if winner.p else 0.0
    return [
        f"This is its probability over {places} ({winner.p:.2f}) times the model's certainty of its own words"
        f" ({certainty:.2f}); the next answer is {second.name} ({second.p:.2f})."
    ]


def _support(winner: Ranked, looks: Looks, state: AgentState) -> list[str]:
    """For which places the winner came first, and what came first elsewhere."""
    scores = state.get("scores", {})
    asked = looks.answered()
    leaders = {step.index: ranked(scores[str(step.index)])[0] for step in asked}
    first = [step for step in asked if leaders[step.index].name == winner.name]
    steps = steps_in_words([step.index for step in first])
    if not state.get("options") and len(state.get("hypotheses", [])) == 1:
        silent = [step for step in asked if not spoken_answer(step.observation)[0]]
        speaking = [step for step in first if step not in silent]
        text = f"The model gave this answer for {_places(speaking, looks)}"
        text += f" ({steps_in_words([step.index for step in speaking])})"
        if silent:
            return [f"{text}; for {_places(silent, looks)} it gave none."]
        return [f"{text}; no other answer came first anywhere."] if len(asked) > 1 else [f"{text}."]
    parts = ["It leads when all places are taken together"]
    if first:
        parts = [f"The model found it the most probable answer for {_places(first, looks)} ({steps})"]
    opposing: dict[str, list[str]] = {}
    for step in asked:
        leader = leaders[step.index]
        if leader.name != winner.name:
            opposing.setdefault(leader.name, []).append(f"step {step.index} ({leader.p:.2f})")
    parts += [f"{name} came first at {join_words(places)}" for name, places in opposing.items()]
    if not opposing and len(asked) > 1:
        parts.append("no other answer came first anywhere")
    return [f"{first_upper('; '.join(parts))}."]


def _where(looks: Looks) -> list[str]:
    """The sections or cores of the regions asked about, where the slide has several."""
    parts = dict.fromkeys(step.observation.data.get("part") for step in looks.regions)
    names = [str(part) for part in parts if part]
    return [f"The regions it was asked about lie in {join_words(names)}."] if names else []


def _places(steps: Sequence[Step], looks: Looks) -> str:
    """Places that were asked about: "the whole slide and for 2 of the 3 regions it was asked about"."""
    asked = len(looks.regions)
    regions = sum(step in looks.regions for step in steps)
    parts = ["the whole slide"] if looks.whole in steps else []
    if regions:
        share = f"all {asked}" if regions == asked > 1 else f"{regions} of the {asked}"
        words = "the only region" if asked == 1 else f"{share} regions"
        parts.append(f"{words} it was asked about")
    return " and for ".join(parts)


def _counted(looks: Looks) -> str:
    """How many places were asked about: "the whole slide and 3 regions"."""
    count = len(looks.regions)
    regions = [f"{count} region{'s' * (count != 1)}"] if count else []
    whole = looks.whole is not None and looks.whole.observation.ok
    return join_words([*(["the whole slide"] if whole else []), *regions])


def _claims(winner: Ranked, looks: Looks, state: AgentState) -> list[Claim]:
    """The answer with the looks where it led, and each other answer with the looks where that one did."""
    steps_by_leader: dict[str, list[int]] = {}
    for step in looks.answered():
        leader = ranked(state.get("scores", {})[str(step.index)])[0]
        steps_by_leader.setdefault(leader.name, []).append(step.index)
    total = sum(map(len, steps_by_leader.values()))
    # Where pooling alone brought it to the top, it rests on all looks.
    all_steps = sorted(index for steps in steps_by_leader.values() for index in steps)
    steps_for = steps_by_leader.pop(winner.name, all_steps)
    opposing = sorted(steps_by_leader.items(), key=lambda item: (-len(item[1]), item[1]))
    return [Claim(text=f"{first_upper(winner.name)}.", steps=steps_for)] + [
        Claim(text=f"{first_upper(name)}: leads in {len(steps)} of {total} looks.", steps=steps, against=True)
        for name, steps in opposing
    ]


def _looked_at(state: AgentState, context: AgentContext, negative: bool) -> list[str]:
    """How much of the tissue was shown and read, what that means for an absence, and why the search ended."""
    sentences = seen_in_words(state, context)
    if negative:
        sentences.append("Absence is claimed for the tissue that was seen; the rest may differ.")
    stop = state.get("stop")
    if stop and stop not in STOPS_NOT_REPEATED:
        sentences.append(f"The search ended because {stop}.")
    return sentences


def seen_in_words(state: AgentState, context: AgentContext) -> list[str]:
    """How much of the tissue was shown to the reader, and how many tiles the slide model read."""
    sentences = [coverage_in_words(coverage(context.tissue, steps_of(state)))]
    familiarity = state.get("familiarity")
    if familiarity:
        tiles, failures = familiarity["tiles"], len(familiarity["failed"])
        share = f"All {tiles}" if not failures else f"{tiles} of {tiles + failures}"
        sentences.append(f"{share} tiles were read by the slide model.")
    return sentences


def _cite_images(looks: Looks) -> list[Evidence]:
    """What was put before the reader, where nothing may be concluded from it."""
    return [cite(step) for step in looks.steps if step.observation.ok and step.observation.image is not None]


def _cite_asked(winner: Ranked, looks: Looks, state: AgentState, answered: bool) -> list[Evidence]:
    """Every place that was asked, and whether it speaks for the winner or against."""
    subject = "the answer" if answered else f"the leading answer, {winner.name}"
    evidence = []
    for step in looks.answered():
        leader = ranked(state.get("scores", {})[str(step.index)])[0]
        side = "Supports" if leader.name == winner.name else "Speaks against"
        evidence.append(cite(step, f"{side} {subject}. {step.finding}"))
    return evidence
