"""Makes the answer of the model's last words: asked for where missing, put right once, else abstained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.chat import prompts
from agent.chat.final import Final, read_final
from agent.chat.schemas import answer_tool
from agent.evidence.check import cite, claims_absence
from agent.evidence.coverage import coverage, coverage_in_words
from agent.graph.state import Draft
from agent.llm.client import OverBudget

if TYPE_CHECKING:
    from agent.chat.talk import Talk
    from agent.chat.turns import ChatTurn
    from agent.run.records import Evidence

ABSTAINED = "No answer:"
LIMIT = "the spending limit of ${limit:g} is reached"
DECLINED, UNUSABLE = "the model declined to answer", "the model gave no usable answer"
MOST_DECLINED = 2
"""Refusals after which the model is not asked again."""


def conclude(talk: Talk, problems: Sequence[str], why: str) -> Draft:
    """The draft. `problems` is what the evidence check found in the one before, `why` why no more is looked.

    Raises `ProviderError`.
    """
    final, faults = read_final(talk.last.final if talk.last else None, talk.options, talk.question)
    if problems and final is None:  # it ended in an abstention for want of an answer: nothing to put right
        return _failed(talk, faults)
    try:
        if problems:
            corrected_final, _ = _ask_again(talk, problems)
            final = corrected_final or final
        elif final is None:
            final, faults = _ask_for_answer(talk, why, faults)
    except OverBudget:
        if final is None:
            return _abstained(talk, limit_reached(talk))
    if final is None:
        return _failed(talk, faults)
    return _draft(talk, final)


def limit_reached(talk: Talk) -> str:
    """Why no further call is made."""
    return LIMIT.format(limit=talk.context.max_cost or 0)


def _ask_for_answer(talk: Talk, why: str, faults: list[str]) -> tuple[Final | None, list[str]]:
    """Ask for the answer where the turn before gave none, then for a better one where that one is faulty."""
    last = talk.last
    if len(talk.declined) >= MOST_DECLINED:
        return None, faults
    if last is None or last.final is None:
        turn = _ask_to_answer(talk, "answer", prompts.FINAL.format(why=_sentence(why)))
        final, faults = read_final(turn.final, talk.options, talk.question)
        if final is not None or len(talk.declined) >= MOST_DECLINED:
            return final, faults
    return _ask_again(talk, faults)


def _ask_again(talk: Talk, problems: Sequence[str]) -> tuple[Final | None, list[str]]:
    problem_list = "\n".join(f"- {problem}" for problem in problems)
    turn = _ask_to_answer(talk, "repair", prompts.REPAIR_ANSWER.format(problems=problem_list))
    return read_final(turn.final, talk.options, talk.question)


def _ask_to_answer(talk: Talk, kind: str, ending: str) -> ChatTurn:
    tools = [answer_tool(talk.options, talk.survey)]
    return talk.say(kind, ending, tools, force="answer", last=True)


def _draft(talk: Talk, final: Final) -> Draft:
    evidence = _evidence(talk, final)
    if final.abstain:
        reason = final.reason or final.text or "The model gave no reason."
        return Draft(
            f"{ABSTAINED} {reason}",
            None,
            final.confidence,
            evidence,
            abstained=True,
            reason=reason,
            claims=final.claims,
            updates=talk.updates,
        )
    text, choice = final.text, final.choice if talk.options else None
    if any(claims_absence(words) for words in (text, choice or "", *(claim.text for claim in final.claims))):
        text = f"{text} {coverage_in_words(coverage(talk.context.tissue, talk.steps))}"
    return Draft(
        text,
        choice,
        final.confidence,
        evidence,
        reason=final.reason or None,
        claims=final.claims,
        updates=talk.updates,
    )


def _evidence(talk: Talk, final: Final) -> list[Evidence]:
    """Each step that a claim rests on and that showed something, with what it showed where."""
    indices = {index for claim in final.claims for index in claim.steps}
    return [cite(step) for step in talk.steps if step.index in indices and step.observation.ok]


def _failed(talk: Talk, faults: Sequence[str]) -> Draft:
    if len(talk.declined) >= MOST_DECLINED:
        return _abstained(talk, f"{DECLINED}: “{talk.declined[-1]}”")
    return _abstained(talk, f"{UNUSABLE}: {' '.join(faults)}")


def _abstained(talk: Talk, why: str) -> Draft:
    """An abstention for want of an answer; what was shown is cited for whoever goes on from it."""
    images = [step for step in talk.steps if step.observation.ok and step.observation.image is not None]
    return Draft(
        f"{ABSTAINED} {_sentence(why)}",
        None,
        0.0,
        [cite(step) for step in images],
        abstained=True,
        reason=_sentence(why),
        updates=talk.updates,
    )


def _sentence(clause: str) -> str:
    return clause[:1].upper() + clause[1:].rstrip(".") + "."
