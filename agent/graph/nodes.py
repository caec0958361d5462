"""The nodes of the graph: look → decide → act → weigh → … → answer → check → review.

Each takes the state and the runtime context and returns the fields that change. A node that is killed runs
again from its start when the run resumes, and everything it depends on is in the state, so it does the same.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from langgraph.types import interrupt

from agent.evidence import check as evidence
from agent.evidence.coverage import coverage
from agent.evidence.familiarity import LEAST_TILES, Familiarity
from agent.graph import control as people
from agent.graph.state import AgentContext, AgentState, Decided, Stop, Weighed, pending_of, steps_of
from agent.run.records import Action, Answer, Cost, SlideFacts, Step
from agent.text import first_sentences
from core_model.words import content_words
from tools.records import Observation

if TYPE_CHECKING:
    from langgraph.runtime import Runtime

    from agent.graph.state import AgentContext

Updates = dict[str, Any]

ENDED = "a person ended the search"


def look(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """Step 1: the whole slide at low power, unless the budget is a single step, kept for the question."""
    context = runtime.context
    if state["max_steps"] < 2 or not context.navigator.starts_wide:
        return {"spent": context.meter.lap()}
    action = Action(tool="overview", reason="Start from the whole slide at low power.")
    observation, seconds = _call(context, action)
    said = first_sentences(observation.text)
    step = _step(state, action, observation, Weighed(said, {}), seconds)
    return {"steps": [step.model_dump(mode="json")], "spent": context.meter.lap()}


def decide(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """Ask the navigator for the next look, or for the reason to stop."""
    context = runtime.context
    if context.control is not None and context.control.paused:
        interrupt({"pause": True})  # the run ends here, and resumes with this node
    updates: Updates = {}
    if state.get("familiarity") is None and context.navigator.reads_features:
        known = familiarity(context, state["question"], state.get("options"))
        updates["familiarity"] = known
        state = {**state, "familiarity": known}
    said, spoken = _heard(state, context)
    updates |= spoken
    state = {**state, **spoken}  # type: ignore[typeddict-item]
    decided = said or context.navigator.decide(state, context)
    updates |= decided.updates
    if isinstance(decided.next, Stop):
        updates |= {"stop": decided.next.why, "pending": None}
    else:
        updates |= {"pending": decided.next.model_dump(mode="json")}
    return {**updates, "spent": context.meter.lap()}


def confirm(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """Let the person approve the look decided on, choose another, give a hint, or end the search.

    The run waits here. Nothing comes before the wait, because LangGraph runs the node again from its start.
    """
    context, action, moment = runtime.context, pending_of(state), state.get("moments", 0)
    said = people.heard(context.journal, moment, people.CONFIRM)
    if not said and (context.control is None or context.control.confirm is None):
        return {}  # confirmed before, and now resumed without a person
    if not said:
        number = len(state.get("steps", [])) + 1
        reply = interrupt({"action": action.model_dump(mode="json"), "step": number})
        said = [people.Said.model_validate(reply)]
        people.keep(context.journal, moment, said, people.CONFIRM)
    return {**_obeyed(said[-1], state, context), "spent": context.meter.lap()}


def person_takes_part(context: AgentContext) -> bool:
    """Whether a person confirms looks, now or (in a replay) when the run was made."""
    asked = context.control is not None and context.control.confirm is not None
    return asked or context.journal.has(people.CONFIRM)


def _heard(state: AgentState, context: AgentContext) -> tuple[Decided | None, Updates]:
    """What a person said before this decision: a decision of theirs, the last one, and hints."""
    moment, decided = state.get("moments", 0), None
    if context.control is not None:
        people.keep(context.journal, moment, context.control.take())
    hints = list(state.get("hints", []))
    for said in people.heard(context.journal, moment):
        if said.do == "hint":
            hints.append(said.text)
        elif said.do == "look":
            decided = Decided(_look(said, context))
        elif said.do == "stop":
            decided = Decided(Stop(ENDED))
    return decided, {"moments": moment + 1, "hints": hints}


def _obeyed(said: people.Said, state: AgentState, context: AgentContext) -> Updates:
    if said.do == "look" and said.box is not None:
        return {"pending": _look(said, context).model_dump(mode="json")}
    if said.do == "hint":
        return {"pending": None, "queue": [], "hints": [*state.get("hints", []), said.text]}
    if said.do == "stop":
        return {"pending": None, "queue": [], "stop": ENDED}
    return {}


def _look(said: people.Said, context: AgentContext) -> Action:
    assert said.box is not None
    args = {"box": list(said.box), "mpp": said.mpp or context.slide.mpp}
    return Action(tool="zoom", args=args, reason="A person asked to look here.", by="person")


def act(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """Make the call that was decided on. A call that fails gives an observation that says so.

    A navigator may have answered the call itself, with a refusal: then there is nothing to do.
    """
    if state.get("observed"):
        return {}
    observation, seconds = _call(runtime.context, pending_of(state))
    observed = {"observation": observation.model_dump(mode="json"), "seconds": seconds}
    return {"observed": observed, "spent": runtime.context.meter.lap()}


def weigh(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """Record the call as a step, with what it amounts to."""
    context, action, observed = runtime.context, pending_of(state), state["observed"] or {}
    observation = Observation.model_validate(observed["observation"])
    weighed = context.navigator.weigh(state, context, action, observation)
    step = _step(state, action, observation, weighed, observed["seconds"])
    return {
        **weighed.updates,
        "steps": [step.model_dump(mode="json")],
        "pending": None,
        "observed": None,
        "spent": context.meter.lap(),
    }


def answer(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """Compose the answer, knowing what the check found wrong with the one before, if any."""
    context, steps = runtime.context, steps_of(state)
    draft = context.navigator.compose(state, context, state.get("problems", []))
    made = Answer(
        question=state["question"],
        answer=draft.text,
        choice=draft.choice,
        options=state.get("options"),
        confidence=draft.confidence,
        abstained=draft.abstained,
        reason=draft.reason,
        evidence=draft.evidence,
        claims=list(draft.claims),
        coverage=coverage(context.tissue, steps),
        steps=len(steps),
        model=context.name,
        mode=context.mode,
        slide=slide_facts(context),
        run_dir=str(context.folder),
    )
    return {**draft.updates, "answer": made.model_dump(mode="json"), "spent": context.meter.lap()}


def check(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """Hold the answer against the steps; send it back once, then mark what stays unsupported."""
    made, steps = Answer.model_validate(state["answer"]), steps_of(state)
    problems = evidence.check(made, steps)
    updates: Updates = {"problems": problems, "spent": runtime.context.meter.lap()}
    if problems and not state.get("revisions", 0):
        return {**updates, "revisions": 1}
    made = evidence.mark(made, problems, steps)
    return {**updates, "answer": made.model_dump(mode="json"), "revisions": state.get("revisions", 0) + 1}


def review(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """A last look at the answer with fresh eyes, where the navigator has any; it is checked once more."""
    context = runtime.context
    before = Answer.model_validate(state["answer"])
    made = context.navigator.review(state, context, before)
    updates: Updates = {"reviewed": True, "spent": context.meter.lap()}
    if made == before:
        return updates
    steps = steps_of(state)
    problems = evidence.check(made, steps)
    made = evidence.mark(made, problems, steps)
    return {**updates, "problems": problems, "answer": made.model_dump(mode="json")}


def cost(state: AgentState, context: AgentContext) -> Cost:
    """What the run used, from the state."""
    spent, regions, pixels = state["spent"], 0, 0
    asked = context.chat.spent(context.journal) if context.chat is not None else None
    for step in steps_of(state):
        seen = step.observation
        if seen.image is not None and seen.box is not None and seen.mpp is not None:
            regions += 1
            scale = context.slide.mpp / seen.mpp
            pixels += max(1, round(seen.box.w * scale)) * max(1, round(seen.box.h * scale))
    return Cost(
        seconds=round(spent["seconds"], 3),
        regions=regions,
        pixels=pixels,
        tokens_in=spent["tokens_in"] + (asked.tokens_in if asked else 0),
        tokens_out=spent["tokens_out"] + (asked.tokens_out if asked else 0),
        calls=asked.calls if asked else 0,
        usd=asked.usd if asked else None,
    )


def slide_facts(context: AgentContext) -> SlideFacts:
    """The slide as an answer names it."""
    slide = context.slide
    return SlideFacts(id=slide.id, width=slide.width, height=slide.height, mpp=slide.mpp)


def _call(context: AgentContext, action: Action) -> tuple[Observation, float]:
    start = time.perf_counter()
    observation = context.toolbox.call(action.tool, action.args)
    return observation, round(time.perf_counter() - start, 4)


def _step(
    state: AgentState, action: Action, observation: Observation, weighed: Weighed, seconds: float
) -> Step:
    return Step(
        index=len(state.get("steps", [])) + 1,
        action=action,
        observation=observation,
        finding=weighed.finding,
        posterior=weighed.updates.get("posterior", state.get("posterior")),
        seconds=seconds,
    )


def familiarity(context: AgentContext, question: str, options: list[str] | None) -> Familiarity:
    """What was found once and is kept in the journal; `_compared` finds it."""
    known: Familiarity = context.journal.once(
        "familiarity", "slide", lambda: _compared(context, question, options)
    )
    return known


def _compared(context: AgentContext, question: str, options: list[str] | None) -> Familiarity:
    """Compute the slide's features where they are not cached, and compare with what training saw."""
    features = context.toolbox.features
    known = len(features) >= LEAST_TILES
    question_value, words = context.model.question_unfamiliarity(question, options)
    return Familiarity(
        tiles=len(features),
        failed=[[[int(v) for v in box], str(why)] for box, why in features.failed],
        slide_unfamiliarity=float(context.model.slide_unfamiliarity(features)) if known else None,
        question_unfamiliarity=float(question_value),
        unknown_words=[str(word) for word in words],
        option_words=content_words(" ".join(options or [])),
    )
