"""A second look at an answer, by the same model in a fresh conversation that does not know the answer.

It is shown what the answer rests on, for and against, and says what that supports. Agreement keeps the lower
of the two confidences; a conflict in the evidence, or another answer held to be likelier, ends in an
abstention. A verdict that cannot be read leaves the answer as it is and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from agent.answers.options import none_of
from agent.chat import prompts
from agent.chat.conclude import ABSTAINED
from agent.chat.final import confidence_of, option_of
from agent.chat.reading import ParsedReply, parse_reply
from agent.chat.regions import has_own_finding, image_block, profile_of, region_line
from agent.chat.schemas import VerdictArgs, faults, verdict_tool
from agent.chat.talk import ask_chat_model
from agent.chat.turns import turns_of
from agent.graph.state import steps_of
from agent.llm.client import OverBudget
from agent.servers.manner import Manner
from agent.text import same_words

if TYPE_CHECKING:
    from agent.graph.state import AgentContext, AgentState
    from agent.run.records import Answer

LIKELIER = 0.5
"""Confidence in another answer from which the first is withdrawn."""
MOST_CANDIDATES = 8
MOST_WORDS = 300
"""Characters of the reviewer's words that are repeated."""


class ReviewVerdict(NamedTuple):
    """The outcome of the second look."""

    choice: str
    confidence: float
    conflict: bool
    reason: str


def reviewed(state: AgentState, context: AgentContext, answer: Answer) -> Answer:
    """The answer after a second look. Raises `ProviderError`."""
    first_answer = answer.choice or short_answer(state, answer)
    candidates = candidate_answers(state, first_answer)
    try:
        verdict, why = _verdict_on(state, context, answer, candidates)
    except OverBudget:
        verdict, why = None, "there was no money left for it"
    if verdict is None:
        return _noted(answer, f"No second look confirmed it: {why}")
    if verdict.conflict:
        return _withdrawn(answer, "a second look found that the evidence conflicts", verdict)
    if same_words(verdict.choice, first_answer):
        return answer.model_copy(update={"confidence": min(answer.confidence, verdict.confidence)})
    other_answer = (
        f"a second look held another answer to be likelier, {verdict.choice} ({verdict.confidence:.2f})"
    )
    if verdict.confidence >= LIKELIER:
        return _withdrawn(answer, other_answer, verdict)
    less_sure = answer.model_copy(update={"confidence": min(answer.confidence, 1 - verdict.confidence)})
    return _noted(less_sure, f"A second look leaned to {verdict.choice} ({verdict.confidence:.2f})")


def short_answer(state: AgentState, answer: Answer) -> str:
    """An open answer in a few words: the model's own short form, else its text."""
    finals = [turn.final for turn in turns_of(state) if turn.final is not None]
    choice = finals[-1].get("choice") if finals else None
    return choice.strip() if isinstance(choice, str) and choice.strip() else answer.answer[: 2 * MOST_WORDS]


def candidate_answers(state: AgentState, first_answer: str) -> list[str]:
    """The answers to weigh: the options, or the likeliest thought of, in an order that says nothing."""
    options = state.get("options")
    if options:
        return list(options)
    leaning = state.get("posterior") or {}
    other_names = (name for name in leaning if not same_words(name, first_answer))
    likeliest = sorted(other_names, key=lambda name: -leaning[name])
    return sorted([first_answer, *likeliest[: MOST_CANDIDATES - 1]])


def _verdict_on(
    state: AgentState, context: AgentContext, answer: Answer, candidates: list[str]
) -> tuple[ReviewVerdict | None, str]:
    """The verdict, else None and what was wrong with it; asked for once more where it is faulty."""
    from langchain_core.messages import HumanMessage

    def write(manner: Manner) -> list[Any]:
        most = manner.most_images(profile_of(context))
        return [*_messages(state, context, answer, candidates, most), *more]

    more: list[Any] = []
    tools = [verdict_tool([*candidates, prompts.NONE_OF_THESE])]
    problem = ""
    for kind in ("review", "review-repair"):
        turn = f"{len(state.get('turns', [])):03d}-{kind}"
        reply = ask_chat_model(context, turn, write, tools, steps_of(state), force="verdict", last=True)
        verdict, problem = _read_verdict(parse_reply(reply, "verdict"), candidates, state["question"])
        if verdict is not None:
            return verdict, ""
        more = [*more, HumanMessage(prompts.REVIEW_REPAIR.format(faults=problem))]
    return None, f"its verdict could not be used ({problem.rstrip('.')})"


def _messages(
    state: AgentState, context: AgentContext, answer: Answer, candidates: list[str], most: int
) -> list[Any]:
    from langchain_core.messages import HumanMessage, SystemMessage

    options = "\n".join(f"- {name}" for name in [*candidates, prompts.NONE_OF_THESE])
    text = prompts.REVIEW.format(
        question=state["question"],
        options=prompts.CANDIDATES.format(options=options),
        coverage=prompts.coverage_text(answer.coverage),
    )
    blocks: list[str | dict[str, Any]] = [{"type": "text", "text": text}]
    indices = {evidence.step for evidence in answer.evidence}
    regions = [step for step in steps_of(state) if step.index in indices]
    with_image = [step for step in regions if step.observation.image][-most:]
    for step in regions:
        finding = f"\nA colleague saw: {step.finding}" if has_own_finding(step) else ""
        blocks.append({"type": "text", "text": region_line(step) + finding})
        if step in with_image and step.observation.image is not None:
            blocks.append(image_block(context.folder / step.observation.image))
    return [SystemMessage(prompts.REVIEW_SYSTEM.format(data=prompts.DATA)), HumanMessage(blocks)]


def _read_verdict(
    reading: ParsedReply, candidates: Sequence[str], question: str
) -> tuple[ReviewVerdict | None, str]:
    if reading.final is None:
        return None, " ".join(reading.faults) or "It gives no verdict."
    try:
        args = VerdictArgs.model_validate(reading.final)
    except ValidationError as error:
        return None, f"{faults(error)}."
    confidence = confidence_of(args.confidence)
    if confidence is None:
        return None, "confidence is no number from 0 to 1."
    choice = _candidate_of(args.choice, candidates, question)
    if choice is None and not args.conflict:
        return None, "choice is none of the answers."
    words = " ".join(part for part in (args.reason, args.evidence_for, args.evidence_against) if part.strip())
    return ReviewVerdict(choice or prompts.NONE_OF_THESE, confidence, args.conflict, words[:MOST_WORDS]), ""


def _candidate_of(words: str, candidates: Sequence[str], question: str) -> str | None:
    """The candidate that is meant; "none of these" is the one that says so itself, where there is one."""
    own = none_of(candidates)
    names = candidates if own is not None else [*candidates, prompts.NONE_OF_THESE]
    return option_of(words, names, question)


def _noted(answer: Answer, note: str) -> Answer:
    reason = f"{answer.reason.rstrip('. ')}. {note}." if answer.reason else f"{note}."
    return answer.model_copy(update={"reason": reason})


def _withdrawn(answer: Answer, why: str, verdict: ReviewVerdict) -> Answer:
    words = f": {verdict.reason.rstrip('. ')}" if verdict.reason.strip() else ""
    reason = f"{why[:1].upper()}{why[1:]}{words}."
    first_words = f"Before it the answer was: {answer.choice or answer.answer} ({answer.confidence:.2f})."
    return answer.model_copy(
        update={
            "answer": f"{ABSTAINED} {reason} {first_words}",
            "choice": None,
            "confidence": min(answer.confidence, verdict.confidence),
            "abstained": True,
            "reason": reason,
        }
    )
