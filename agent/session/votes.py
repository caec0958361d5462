"""Several independent runs of one question, and the answer of their majority.

    OUT/votes/1, 2, …    a whole run folder each
    OUT/run.json, trace.jsonl, answer.json, reports
                         of the whole: the steps are those of the winning vote that was most confident

Runs differ in their seed and, after the first, in the order in which the options are read, so that an answer
that hangs on the order shows itself. Everything here follows from the votes' folders alone, so a killed run
goes on with the vote it was at, and a replay comes to the same answer.
"""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.graph.follow import write_finished
from agent.run.folder import OVERBUDGET, VOTES, read_answer, read_run, read_trace
from agent.run.journal import Journal
from agent.run.records import Answer, Cost, RunRecord, Step, Vote
from agent.text import answer_words, same_words

if TYPE_CHECKING:
    from agent.session.request import Request


@dataclass(frozen=True)
class Ballot:
    """One vote that was cast."""

    run: str
    """Its folder, relative to that of the whole."""
    seed: int
    answer: Answer
    cut: bool
    """Whether the spending limit kept it from a call."""

    @property
    def counts(self) -> bool:
        """A vote that had no money to answer has no opinion."""
        return not (self.cut and self.answer.abstained)

    @property
    def vote(self) -> Vote:
        """The ballot as the answer of the whole lists it."""
        answer = self.answer
        return Vote(
            run=self.run,
            seed=self.seed,
            choice=answer.choice,
            answer=answer.choice or answer_words(answer.answer, answer.confidence),
            confidence=answer.confidence,
            abstained=answer.abstained,
        )


def cast(
    request: Request, record: RunRecord, folder: Path, run: Callable[[Request], Iterator[Any]]
) -> Iterator[Step | Vote | Answer]:
    """Make the votes that are not made yet by `run`, then write the whole. Ends early where a run is paused.

    The spending limit is that of all votes together: each may spend what those before it left.
    """
    for number in range(1, record.settings.votes + 1):
        budget = _left(request, folder, number)
        if budget is not None and budget <= 0 and number > 1:
            break
        ballot = read_ballot(folder, number)
        if ballot is None:
            request_of_vote = _single(request, record, folder, number, budget)
            yield from (item for item in run(request_of_vote) if isinstance(item, Step))
            ballot = read_ballot(folder, number)
        if ballot is None:  # paused
            return
        yield ballot.vote
        if ballot.cut:
            break
    yield write_whole(record, folder)


def write_whole(record: RunRecord, folder: Path, *, run_dir: str | None = None) -> Answer:
    """Write everything about the whole that follows from the votes' folders; returns its answer.

    `run_dir` is what the answer calls its folder, where that is another than this one.
    """
    ballots = read_ballots(folder, record.settings.votes)
    answer, leading = whole(record, run_dir or str(folder), ballots)
    leader = read_run(folder / leading.run)
    names = ("tiles", "unreadable", "out_of_focus", "blurred", "unsupported")
    of_leader = {name: getattr(leader, name) for name in names}
    notices = [notice for ballot in ballots for notice in read_run(folder / ballot.run).server_notices]
    record = record.model_copy(update={**of_leader, "server_notices": list(dict.fromkeys(notices))})
    write_finished(folder, record, steps_of_vote(folder, leading.run), answer)
    return answer


def read_ballots(folder: Path, votes: int) -> list[Ballot]:
    """The votes that were cast, in order."""
    ballots = (read_ballot(folder, number) for number in range(1, votes + 1))
    return [ballot for ballot in ballots if ballot is not None]


def read_ballot(folder: Path, number: int) -> Ballot | None:
    """A vote, once its run is finished."""
    name = f"{VOTES}/{number}"
    if not (folder / name / "run.json").exists():
        return None
    record = read_run(folder / name)
    if record.status != "finished":
        return None
    over_budget = Journal(folder / name).has(OVERBUDGET)
    return Ballot(run=name, seed=record.seed, answer=read_answer(folder / name), cut=over_budget)


def steps_of_vote(folder: Path, run: str) -> list[Step]:
    """The steps of a vote, with images as the whole's folder names them."""
    return [_step_elsewhere(step, run) for step in read_trace(folder / run)]


def whole(record: RunRecord, run_dir: str, ballots: Sequence[Ballot]) -> tuple[Answer, Ballot]:
    """The majority's answer, and the vote whose words and evidence it takes. Reads and writes nothing.

    The majority is among the votes that gave an answer, by the larger sum of confidences where equal numbers
    did, then by the given order; where more than half abstained, so does the whole. Open answers are the same
    where their first sentences differ only in case and punctuation.

    The confidence is the winners' mean times their share of the votes. Either alone claims too much: a run
    does not know that others came to another answer, and votes that agree may each be unsure.
    """
    valid = [ballot for ballot in ballots if ballot.counts] or list(ballots[:1])
    winners = _winners(valid, record.options)
    leading = max(winners, key=lambda ballot: ballot.answer.confidence)
    agreement = len(winners) / len(valid)
    mean = math.fsum(ballot.answer.confidence for ballot in winners) / len(winners)
    words = leading.answer
    answer = words.model_copy(
        update={
            "options": record.options,
            "confidence": mean * agreement,
            "reason": _reason(record, valid, winners, words),
            "evidence": [
                item.model_copy(update={"image": _elsewhere(item.image, leading.run)})
                for item in words.evidence
            ],
            "agreement": agreement,
            "votes": [ballot.vote for ballot in valid],
            "cost": Cost.total([ballot.answer.cost for ballot in ballots]),
            "run_dir": run_dir,
        }
    )
    return answer, leading


def options_of_vote(options: list[str] | None, seed: int, number: int) -> list[str] | None:
    """The order in which a vote reads the options: as given for the first, else by its seed."""
    if options is None or number == 1:
        return options
    return random.Random(f"options:{seed}").sample(options, len(options))


def _single(request: Request, record: RunRecord, folder: Path, number: int, budget: float | None) -> Request:
    """The request of one vote."""
    seed = record.seed + number - 1
    return replace(
        request,
        options=options_of_vote(record.options, seed, number),
        settings=record.settings.model_copy(update={"votes": 1, "max_cost": budget}),
        seed=seed,
        out=folder / VOTES / str(number),
        resume=True,
    )


def _left(request: Request, folder: Path, number: int) -> float | None:
    """The part of the spending limit that earlier votes did not use, at least 0; None without a limit."""
    limit = request.settings.max_cost
    if limit is None or not request.chats:
        return limit
    runs = (Journal(folder / VOTES / str(earlier)) for earlier in range(1, number))
    bills = [request.model.spent(journal) for journal in runs]
    return max(0.0, limit - math.fsum((bill.usd or 0.0) + bill.lost_usd for bill in bills))


def _winners(ballots: Sequence[Ballot], options: list[str] | None) -> list[Ballot]:
    """The ballots of the majority."""
    silent = [ballot for ballot in ballots if ballot.answer.abstained]
    answers = [ballot for ballot in ballots if not ballot.answer.abstained]
    if 2 * len(silent) > len(ballots):
        return silent
    groups: list[list[Ballot]] = []
    agree = operator.eq if options else same_words
    for ballot in answers:
        group = next((group for group in groups if agree(group[0].vote.answer, ballot.vote.answer)), None)
        if group is None:
            groups.append([ballot])
        else:
            group.append(ballot)

    def rank(group: list[Ballot]) -> tuple[int, float, int]:
        order = options.index(group[0].answer.choice or "") if options else groups.index(group)
        return len(group), math.fsum(ballot.answer.confidence for ballot in group), -order

    return max(groups, key=rank)


def _reason(
    record: RunRecord, valid: Sequence[Ballot], winners: Sequence[Ballot], answer: Answer
) -> str | None:
    parts = []
    if answer.abstained:
        parts.append(f"{len(winners)} of {len(valid)} votes abstained.")
    if len(valid) < record.settings.votes:
        n = len(valid)
        parts.append(f"The spending limit was reached after {n} of {record.settings.votes} votes.")
    if answer.reason:
        parts.append(answer.reason)
    return " ".join(parts) or None


def _step_elsewhere(step: Step, run: str) -> Step:
    original = step.observation
    observation = original.model_copy(update={"image": _elsewhere(original.image, run)})
    return step.model_copy(update={"observation": observation})


def _elsewhere(image: str | None, run: str) -> str | None:
    return None if image is None else f"{run}/{image}"
