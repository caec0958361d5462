"""An answer in words from what was seen: what leads, how surely, what speaks for it and what against.

Every figure in the text is taken from a step or from the pooled posterior; the sentences only join them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.evidence.check import cite, claims_absence, fault
from agent.evidence.coverage import coverage, coverage_in_words
from agent.evidence.familiarity import doubts, limits, unreadable
from agent.graph.state import Draft, steps_of
from agent.navigators.weigh import Looks, Posterior, Ranked, ranked
from agent.run.records import Claim, Evidence, Step

if TYPE_CHECKING:
    from agent.graph.state import AgentContext, AgentState

STEPS_TOLD = 4
"""Steps told in words for and against; the evidence list has them all."""


def compose(state: AgentState, context: AgentContext, problems: list[str]) -> Draft:
    """The answer, or the abstention with its reason. After a failed check, only sound citations are kept."""
    steps = steps_of(state)
    looks = Looks(steps, context.slide.box)
    known = state.get("familiarity")
    why = doubts(known, context.model.name) if known else []
    posterior = state.get("posterior")
    if why:
        draft = _abstain(why, 0.0, _cite_shown(looks), state, context)
    elif not posterior:
        draft = _abstain(_nothing_heard(state, steps), 0.0, _cite_shown(looks), state, context)
    else:
        draft = _weighed(posterior, looks, state, context)
    if problems:
        by_index = {step.index: step for step in steps}
        sound = [cited for cited in draft.evidence if fault(cited, by_index) is None]
        draft = draft._replace(evidence=sound)
    return draft


def confidence(winner: Ranked, state: AgentState) -> float:
    """Pooled posterior; for an open answer times the model's certainty of its own words."""
    return winner.p if state.get("options") else winner.p * state.get("said", {}).get(winner.name, 1.0)


def _weighed(posterior: Posterior, looks: Looks, state: AgentState, context: AgentContext) -> Draft:
    winner = ranked(posterior)[0]
    sure = confidence(winner, state)
    evidence = _cite_asked(looks, state)
    least = context.weights.abstain_below
    if sure < least:
        why = (
            f"the leading answer, '{winner.name}', has confidence {sure:.2f}, below the {least:.2f} required"
        )
        return _abstain([why], sure, evidence, state, context)
    parts = [
        f"{_sentence(winner.name)}.",
        _how_sure(winner, posterior, sure, looks, state),
        *_for_and_against(winner, looks, state),
        *_limits(state, context, negative=claims_absence(winner.name)),
    ]
    choice = winner.name if state.get("options") else None
    known = state.get("familiarity")
    limit = limits(known) if known else None
    return Draft(" ".join(parts), choice, sure, evidence, reason=limit, claims=_claims(winner, looks, state))


def _abstain(
    why: list[str], sure: float, evidence: list[Evidence], state: AgentState, context: AgentContext
) -> Draft:
    known = state.get("familiarity")
    reason = "; ".join(why)
    reason = reason[:1].upper() + reason[1:] + "."
    missing = unreadable(known) if known else None
    told = f" Shown: {_list_steps(evidence)}." if evidence else ""
    text = " ".join([f"No answer is given (abstained). {reason}{told}", *_limits(state, context, False)])
    return Draft(text, None, sure, evidence, True, f"{reason} {missing}" if missing else reason)


def _nothing_heard(state: AgentState, steps: list[Step]) -> list[str]:
    failed = [step for step in steps if step.action.tool == "ask_region" and not step.observation.ok]
    if failed:
        return [failed[-1].finding.rstrip(".")]
    return [state.get("stop") or "the model gave no answer"]


def _how_sure(winner: Ranked, posterior: Posterior, sure: float, looks: Looks, state: AgentState) -> str:
    n = len(looks.regions)
    over = f"the whole slide and {n} region{'s' if n != 1 else ''}" if n else "the whole slide"
    others = ranked(posterior)[1:]
    if others:
        text = f"Pooled probability {winner.p:.2f} over {over}; next is {others[0].name} ({others[0].p:.2f})."
    else:
        text = f"The only answer the model gave over {over}."
    return text if state.get("options") else f"{text} Confidence {sure:.2f} with the certainty of its words."


def _for_and_against(winner: Ranked, looks: Looks, state: AgentState) -> list[str]:
    scores = state.get("scores", {})
    supporting: list[tuple[Step, Ranked]] = []
    opposing: list[tuple[Step, Ranked]] = []
    for step in looks.answered():
        here = ranked(scores[str(step.index)])[0]
        (supporting if here.name == winner.name else opposing).append((step, here))
    parts = []
    if supporting:
        parts.append(f"For it: {_tell(supporting, looks)}.")
    parts.append(f"Against it: {_tell(opposing, looks)}." if opposing else "Nowhere did another answer lead.")
    return parts


def _claims(winner: Ranked, looks: Looks, state: AgentState) -> list[Claim]:
    """The answer with the looks where it led, and each other answer with the looks where that one did."""
    led: dict[str, list[int]] = {}
    for step in looks.answered():
        here = ranked(state.get("scores", {})[str(step.index)])[0]
        led.setdefault(here.name, []).append(step.index)
    total = sum(map(len, led.values()))
    # Where pooling alone brought it to the top, it rests on all looks.
    mine = led.pop(winner.name, sorted(index for steps in led.values() for index in steps))
    others = sorted(led.items(), key=lambda item: (-len(item[1]), item[1]))
    return [Claim(text=f"{_sentence(winner.name)}.", steps=mine)] + [
        Claim(text=f"{_sentence(name)}: leads in {len(steps)} of {total} looks.", steps=steps, against=True)
        for name, steps in others
    ]


def _sentence(name: str) -> str:
    return name[:1].upper() + name[1:]


def _tell(items: list[tuple[Step, Ranked]], looks: Looks) -> str:
    strongest = sorted(items, key=lambda item: (item[0] != looks.whole, -item[1].p))[:STEPS_TOLD]
    told = []
    for step, here in strongest:
        box = step.observation.box
        place = "the whole slide" if step is looks.whole or box is None else f"x {box.x}, y {box.y}"
        told.append(
            f"step {step.index} ({place}: {here.name} {here.p:.2f})"
            if here.p < 1
            else f"step {step.index} ({place})"
        )
    more = len(items) - len(strongest)
    return "; ".join(told) + (f"; and {more} more" if more else "")


def _limits(state: AgentState, context: AgentContext, negative: bool) -> list[str]:
    share = coverage(context.tissue, steps_of(state))
    parts = [coverage_in_words(share)]
    known = state.get("familiarity")
    if known and not known["failed"]:
        parts.append(f"The slide model read all {known['tiles']} tiles.")
    elif known:
        failed = len(known["failed"])
        parts.append(f"The slide model read {known['tiles']} of {known['tiles'] + failed} tiles.")
    if negative:
        parts.append("What was not looked at may differ: this speaks of absence within what was seen.")
    if state.get("stop"):
        parts.append(f"The search ended because {state['stop']}.")
    return parts


def _list_steps(evidence: list[Evidence]) -> str:
    numbers = [str(cited.step) for cited in evidence]
    return f"step{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"


def _cite_shown(looks: Looks) -> list[Evidence]:
    """What was put before the reader, where nothing may be concluded from it."""
    return [cite(step) for step in looks.steps if step.observation.ok and step.observation.image is not None]


def _cite_asked(looks: Looks, state: AgentState) -> list[Evidence]:
    """Every place that was asked, and whether it speaks for the winner or against."""
    winner = ranked(state.get("posterior") or {})[0]
    cited = []
    for step in looks.answered():
        leads = ranked(state.get("scores", {})[str(step.index)])[0]
        side = "Supports" if leads.name == winner.name else "Speaks against"
        cited.append(cite(step, f"{side} {winner.name}. {step.finding}"))
    return cited
