"""The nodes of the graph: look → decide → act → weigh → … → answer → check → review.

Each takes the state and the runtime context and returns the fields that change. A node that is killed runs
again from its start when the run resumes, and everything it depends on is in the state, so it does the same.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from langgraph.types import interrupt

from agent.evidence import check as evidence
from agent.evidence.coverage import blurred_in_words, coverage
from agent.evidence.familiarity import LEAST_TILES, FamiliarityRecord, unread_language
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

BUDGET = "budget"
"""Kind of the journal's entries of budgets that were changed."""
ENDED = "a person ended the search"


def look(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """Step 1: the whole slide at low power, unless the budget is a single step, kept for the question."""
    context = runtime.context
    if state["max_steps"] < 2 or not context.navigator.starts_wide:
        return {"spent": context.meter.lap()}
    action = Action(tool="overview", reason="Start from the whole slide at low power.")
    observation, seconds = _call(context, action)
    finding = first_sentences(observation.text)
    step = _step(state, action, observation, Weighed(finding, {}), seconds)
    return {"steps": [step.model_dump(mode="json")], "spent": context.meter.lap()}


def decide(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """Ask the navigator for the next look, or for the reason to stop."""
    context = runtime.context
    if context.control is not None and context.control.paused:
        interrupt({"pause": True})  # the run ends here, and resumes with this node
    updates: Updates = {}
    if state.get("familiarity") is None and context.navigator.reads_features:
        record = familiarity(context, state["question"], state.get("options"))
        updates["familiarity"] = record
        state = {**state, "familiarity": record}
    budget = _budget(state, context)
    updates |= budget
    state = {**state, **budget}  # type: ignore[typeddict-item]
    persons_decision, changes = _heard(state, context)
    updates |= changes
    state = {**state, **changes}  # type: ignore[typeddict-item]
    decision = persons_decision or context.navigator.decide(state, context)
    updates |= decision.updates
    if isinstance(decision.next, Stop):
        updates |= {"stop": decision.next.why, "pending": None}
    else:
        updates |= {"pending": decision.next.model_dump(mode="json")}
    return {**updates, "spent": context.meter.lap()}


def confirm(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """Let the person approve the look decided on, choose another, give a hint, or end the search.

    The run waits here. Nothing comes before the wait, because LangGraph runs the node again from its start.
    """
    context, action, moment = runtime.context, pending_of(state), state.get("moments", 0)
    messages = people.heard(context.journal, moment, people.CONFIRM)
    if not messages and (context.control is None or context.control.confirm is None):
        return {}  # confirmed before, and now resumed without a person
    if not messages:
        number = len(state.get("steps", [])) + 1
        reply = interrupt({"action": action.model_dump(mode="json"), "step": number})
        messages = [people.Said.model_validate(reply)]
        people.keep(context.journal, moment, messages, people.CONFIRM)
    return {**_obeyed(messages[-1], state, context), "spent": context.meter.lap()}


def person_takes_part(context: AgentContext) -> bool:
    """Whether a person confirms looks, now or (in a replay) when the run was made."""
    confirms = context.control is not None and context.control.confirm is not None
    return confirms or context.journal.has(people.CONFIRM)


def _heard(state: AgentState, context: AgentContext) -> tuple[Decided | None, Updates]:
    """What a person said before this decision: a decision of theirs, the last one, and hints."""
    moment, decision = state.get("moments", 0), None
    if context.control is not None:
        people.keep(context.journal, moment, context.control.take())
    hints = list(state.get("hints", []))
    for message in people.heard(context.journal, moment):
        if message.do == "hint":
            hints.append(message.text)
        elif message.do == "look":
            decision = Decided(_look(message, context))
        elif message.do == "stop":
            decision = Decided(Stop(ENDED))
    return decision, {"moments": moment + 1, "hints": hints}


def _budget(state: AgentState, context: AgentContext) -> Updates:
    """The budget of steps from this decision on, where somebody changed it while the run was interrupted.

    It is kept in the journal under this moment, so that a replay has it from the same decision on.
    """
    key = f"{state.get('moments', 0):04d}"
    kept = context.journal.get(BUDGET, key)
    if kept is None and context.max_steps not in (None, state["max_steps"]):
        kept = context.max_steps
        context.journal.put(BUDGET, key, kept)
    return {} if kept is None else {"max_steps": kept}


def _obeyed(message: people.Said, state: AgentState, context: AgentContext) -> Updates:
    if message.do == "look" and message.box is not None:
        return {"pending": _look(message, context).model_dump(mode="json")}
    if message.do == "hint":
        return {"pending": None, "queue": [], "hints": [*state.get("hints", []), message.text]}
    if message.do == "stop":
        return {"pending": None, "queue": [], "stop": ENDED}
    return {}


def _look(message: people.Said, context: AgentContext) -> Action:
    assert message.box is not None
    args = {"box": list(message.box), "mpp": message.mpp or context.slide.mpp}
    return Action(tool="zoom", args=args, reason="A person asked to look here.", by="person")


def act(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """Make the call that was decided on. A call that fails gives an observation that says so.

    A navigator may have answered the call itself, with a refusal: then there is nothing to do.
    """
    if state.get("observed"):
        return {}
    observation, seconds = _call(runtime.context, pending_of(state))
    result = {"observation": observation.model_dump(mode="json"), "seconds": seconds}
    return {"observed": result, "spent": runtime.context.meter.lap()}


def weigh(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """Record the call as a step, with what it amounts to."""
    context, action, result = runtime.context, pending_of(state), state["observed"] or {}
    observation = Observation.model_validate(result["observation"])
    finding = context.navigator.weigh(state, context, action, observation)
    step = _step(state, action, observation, finding, result["seconds"])
    return {
        **finding.updates,
        "steps": [step.model_dump(mode="json")],
        "pending": None,
        "observed": None,
        "spent": context.meter.lap(),
    }


def answer(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """Compose the answer, knowing what the check found wrong with the one before, if any."""
    context, steps = runtime.context, steps_of(state)
    draft = context.navigator.compose(state, context, state.get("problems", []))
    full_answer = Answer(
        question=state["question"],
        answer=draft.text,
        choice=draft.choice,
        options=state.get("options"),
        confidence=draft.confidence,
        abstained=draft.abstained,
        reason=_with_focus(draft.reason, steps, context),
        evidence=draft.evidence,
        claims=list(draft.claims),
        coverage=coverage(context.tissue, steps),
        steps=len(steps),
        model=context.name,
        mode=context.mode,
        slide=slide_facts(context),
        run_dir=context.shown_folder,
    )
    return {**draft.updates, "answer": full_answer.model_dump(mode="json"), "spent": context.meter.lap()}


def _with_focus(reason: str | None, steps: list[Step], context: AgentContext) -> str | None:
    """What limits an answer, with how much of the tissue is out of focus, where anything was looked at."""
    quality = context.quality if steps else None
    words = blurred_in_words(quality.blurred_share, asked=context.chat is None) if quality else None
    return " ".join(filter(None, (reason, words))) or None


def check(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """Hold the answer against the steps; send it back once, then mark what stays unsupported."""
    draft, steps = Answer.model_validate(state["answer"]), steps_of(state)
    problems = evidence.check_answer(draft, steps)
    updates: Updates = {"problems": problems, "spent": runtime.context.meter.lap()}
    if problems and not state.get("revisions", 0):
        return {**updates, "revisions": 1}
    draft = evidence.mark(draft, problems, steps)
    return {**updates, "answer": draft.model_dump(mode="json"), "revisions": state.get("revisions", 0) + 1}


def review(state: AgentState, runtime: Runtime[AgentContext]) -> Updates:
    """A last look at the answer with fresh eyes, where the navigator has any; it is checked once more."""
    context = runtime.context
    before = Answer.model_validate(state["answer"])
    second = context.navigator.review(state, context, before)
    updates: Updates = {"reviewed": True, "spent": context.meter.lap()}
    if second == before:
        return updates
    steps = steps_of(state)
    problems = evidence.check_answer(second, steps)
    second = evidence.mark(second, problems, steps)
    return {**updates, "problems": problems, "answer": second.model_dump(mode="json")}


def cost(state: AgentState, context: AgentContext) -> Cost:
    """What the run used, from the state."""
    usage, regions, pixels = state["spent"], 0, 0
    bill = context.chat.spent(context.journal) if context.chat is not None else None
    for step in steps_of(state):
        observation = step.observation
        if observation.image is not None and observation.box is not None and observation.mpp is not None:
            regions += 1
            scale = context.slide.mpp / observation.mpp
            pixels += max(1, round(observation.box.w * scale)) * max(1, round(observation.box.h * scale))
    return Cost(
        seconds=round(usage["seconds"], 3),
        regions=regions,
        pixels=pixels,
        tokens_in=usage["tokens_in"] + (bill.tokens_in if bill else 0),
        tokens_out=usage["tokens_out"] + (bill.tokens_out if bill else 0),
        calls=bill.calls if bill else 0,
        usd=bill.usd if bill else None,
    )


def slide_facts(context: AgentContext) -> SlideFacts:
    """The slide as an answer names it."""
    slide = context.slide
    return SlideFacts(
        id=slide.id,
        width=slide.width,
        height=slide.height,
        mpp=slide.mpp,
        mpp_source=slide.mpp_source,
        warnings=list(slide.warnings),
    )


def _call(context: AgentContext, action: Action) -> tuple[Observation, float]:
    start = time.perf_counter()
    observation = context.toolbox.call(action.tool, action.args)
    return observation, round(time.perf_counter() - start, 4)


def _step(
    state: AgentState, action: Action, observation: Observation, finding: Weighed, seconds: float
) -> Step:
    return Step(
        index=len(state.get("steps", [])) + 1,
        action=action,
        observation=observation,
        finding=finding.finding,
        posterior=finding.updates.get("posterior", state.get("posterior")),
        seconds=seconds,
    )


def familiarity(context: AgentContext, question: str, options: list[str] | None) -> FamiliarityRecord:
    """What was found once and is kept in the journal; `_compared` finds it."""
    record: FamiliarityRecord = context.journal.once(
        "familiarity", "slide", lambda: _compared(context, question, options)
    )
    return record


def _compared(context: AgentContext, question: str, options: list[str] | None) -> FamiliarityRecord:
    """Compute the slide's features where they are not cached, and compare with what training saw."""
    features = context.toolbox.features
    enough = len(features) >= LEAST_TILES
    question_value, words = context.model.question_unfamiliarity(question, options)
    return FamiliarityRecord(
        tiles=len(features),
        failed=[[[int(v) for v in box], str(why)] for box, why in features.failed],
        slide_unfamiliarity=float(context.model.slide_unfamiliarity(features)) if enough else None,
        question_unfamiliarity=float(question_value),
        unknown_words=[str(word) for word in words],
        option_words=content_words(" ".join(options or [])),
        language=unread_language(question, question_value, words),
    )
