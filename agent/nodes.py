"""The nodes of the graph: look → decide → act → weigh → … → answer → check.

Each takes the state and the runtime context and returns the fields that change. A node that is killed runs
again from its start when the run resumes, and everything it depends on is in the state, so it does the same.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from agent import evidence
from agent.coverage import coverage
from agent.familiarity import familiarity
from agent.navigators.base import Stop, Weighed
from agent.navigators.weighing import first_sentences
from agent.records import Action, Answer, Cost, SlideFacts, Step
from agent.state import AgentContext, AgentState, pending_of, steps_of
from tools.records import Observation

if TYPE_CHECKING:
    from langgraph.runtime import Runtime

Updates = dict[str, Any]


def look(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """Step 1: the whole slide at low power, unless the budget is a single step, kept for the question."""
    context = runtime.context
    if state["max_steps"] < 2:
        return {"spent": context.meter.lap()}
    action = Action(tool="overview", reason="Start from the whole slide at low power.")
    observation, seconds = _call(context, action)
    said = first_sentences(observation.text)
    step = _step(state, action, observation, Weighed(said, {}), seconds)
    return {"steps": [step.model_dump(mode="json")], "spent": context.meter.lap()}


def decide(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """Ask the navigator for the next look, or for the reason to stop."""
    context = runtime.context
    updates: Updates = {}
    if state.get("familiarity") is None:
        known = familiarity(context, state["question"], state.get("options"))
        updates["familiarity"] = known
        state = {**state, "familiarity": known}
    decision = context.navigator.decide(state, context)
    if isinstance(decision, Stop):
        updates |= {"stop": decision.why, "pending": None}
    else:
        updates |= {"pending": decision.model_dump(mode="json")}
    return {**updates, "spent": context.meter.lap()}


def act(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """Make the call that was decided on. A call that fails gives an observation that says so."""
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
        coverage=coverage(context, steps),
        steps=len(steps),
        model=context.model.name,
        mode=context.mode,
        slide=slide_facts(context),
        run_dir=str(context.folder),
    )
    return {"answer": made.model_dump(mode="json"), "spent": context.meter.lap()}


def check(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """Hold the answer against the steps; send it back once, then mark what stays unsupported."""
    made, steps = Answer.model_validate(state["answer"]), steps_of(state)
    problems = evidence.check(made, steps)
    updates: Updates = {"problems": problems, "spent": runtime.context.meter.lap()}
    if problems and not state.get("revisions", 0):
        return {**updates, "revisions": 1}
    if problems:
        made = evidence.mark(made, problems)
    return {**updates, "answer": made.model_dump(mode="json"), "revisions": state.get("revisions", 0) + 1}


def cost(state: AgentState, context: AgentContext) -> Cost:
    """What the run used, from the state."""
    spent, regions, pixels = state["spent"], 0, 0
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
        tokens_in=spent["tokens_in"],
        tokens_out=spent["tokens_out"],
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
