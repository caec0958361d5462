"""Open answers scored: words against words for all of them, claims by a judge where one is given.

`judgements.jsonl` beside the results keeps every judgement with its claims. A judgement counts again as long
as question, reference, answer, judge and the judge's rules are the same; so a second run asks nothing, and
without a judge the figures of the last one stand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core_model.errors import UsageError
from core_model.records import Record
from eval.asking.jsonl import append_line, read_lines, write_lines
from eval.asking.results import Result
from eval.metrics.resampling import draws
from eval.metrics.text import text_metrics
from eval.scores.judge import ClaimScores, EntityOverlap, Judge, JudgeStopped, ScoredClaim, judge_answer

JUDGEMENTS, JUDGES = "judgements.jsonl", "judge"
METRICS = ("precision", "relevance")
Tell = Callable[[int, int], None]
"""Told how many of how many answers are judged."""


class Judgement(Record):
    """One answer as a judge saw it."""

    version: Literal[1] = 1
    judge: str
    rules: str
    benchmark: str
    id: str
    mode: str
    about: str
    """Digest of question, reference and answer."""
    precision: float | None
    relevance: float | None
    failures: tuple[str, ...] = ()
    wanted: tuple[ScoredClaim, ...] = ()
    said: tuple[ScoredClaim, ...] = ()

    @property
    def key(self) -> tuple[str, str, str, str]:
        """The answer that this judges: task, question, mode and digest."""
        return self.benchmark, self.id, self.mode, self.about


def add_texts(
    summary: dict[str, Any], results: Sequence[Result], folder: Path, judge: Judge | None = None,
    workers: int = 1, tell: Tell | None = None,
) -> None:  # fmt: skip
    """Put the scores of open answers into `summary["tasks"][task][mode]["text"]`; see `score_texts`."""
    for task, modes in score_texts(results, judge, folder, workers, tell).items():
        for mode, scores in modes.items():
            summary["tasks"][task][mode]["text"] = scores


def score_texts(
    results: Sequence[Result], judge: Judge | None, folder: Path, workers: int = 1, tell: Tell | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """`{task: {mode: scores}}` of the tasks whose metric is "text".

    Abstentions and failures are empty texts.
    `n` answers; `bleu_1` … `meteor` over all of them. With a judge also its name, `wsi_precision` and
    `wsi_relevance` (means over the answers judged, with `_n`, `_sd`, `_low`, `_high`), `judge_failures`
    (answers that it could not judge one way or both, also when asked again) and `not_judged` (answers that
    were not put to it). Raises `GiantError` where a library is missing, `RunError`, `ProviderError`.
    """
    texts = [result for result in results if result.metric == "text"]
    if not texts:
        return {}
    judgements = _judge_all(texts, judge, folder, workers, tell)
    groups: dict[str, dict[str, list[Result]]] = {}
    for result in texts:
        groups.setdefault(result.benchmark, {}).setdefault(result.mode, []).append(result)
    return {
        task: {mode: _scores(members, judgements) for mode, members in modes.items()}
        for task, modes in groups.items()
    }


def open_judge(
    name: str, folder: Path, *, base_url: str | None = None, prices: Path | None = None,
    max_cost: float | None = None,
) -> Judge:  # fmt: skip
    """The judge `entity-overlap`, or a chat model `provider:name` whose replies are kept below `folder`.

    Raises `UsageError` for another name, and what `open_chat` raises.
    """
    if name == EntityOverlap.name:
        if base_url is not None or prices is not None or max_cost is not None:
            raise UsageError(
                f"the judge {name} is not a chat model and costs nothing",
                fix="Leave out the options of chat models",
            )
        return EntityOverlap()
    if ":" not in name:
        raise UsageError(f"there is no judge '{name}'", fix=f"Give {EntityOverlap.name} or provider:name")
    from agent.llm.client import open_chat
    from eval.scores.chat_judge import ChatJudge

    safe = "".join(sign if sign.isalnum() or sign in "._-" else "_" for sign in name)
    client = open_chat(name, base_url=base_url, prices=prices, max_cost=max_cost)
    return ChatJudge(client, folder / JUDGES / safe)


def words(result: Result) -> str:
    """The answer to an open question in words; empty for an abstention or a failure."""
    return "" if result.said is None or result.abstained or result.error is not None else result.said


def read_judgements(folder: Path) -> list[Judgement]:
    """The judgements kept in a folder, in the order they were made. Raises `RunError` as `read_lines`."""
    return read_lines(folder / JUDGEMENTS, Judgement, fix="Delete it")


def _judge_all(
    texts: Sequence[Result], judge: Judge | None, folder: Path, workers: int, tell: Tell | None
) -> dict[tuple[str, str, str, str], Judgement]:
    """The judgement of each answer that has one."""
    before = read_judgements(folder)
    if judge is None and not before:
        return {}
    name, rules = (judge.name, judge.rules) if judge else (before[-1].judge, before[-1].rules)
    judgements = {j.key: j for j in before if (j.judge, j.rules) == (name, rules)}
    if judge is None:
        return judgements
    write_lines(folder / JUDGEMENTS, before)  # a line that a kill cut must not get another behind it
    todo = [result for result in texts if _key(result) not in judgements]
    for count, judgement in enumerate(_made(todo, judge, workers), 1):
        judgements[judgement.key] = judgement
        append_line(folder / JUDGEMENTS, judgement)
        if tell is not None:
            tell(count, len(todo))
    current = [judgements[key] for result in texts if (key := _key(result)) in judgements]
    write_lines(folder / JUDGEMENTS, [j for j in before if (j.judge, j.rules) != (name, rules)] + current)
    return judgements


def _made(todo: Sequence[Result], judge: Judge, workers: int) -> Iterable[Judgement]:
    """A judgement of each, in order, until the judge may not be asked any more."""
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="judge") as pool:
        waiting = [pool.submit(_judgement, result, judge) for result in todo]
        out_of_money = False
        try:
            for future in waiting:
                try:
                    if not (out_of_money and future.cancel()):
                        yield future.result()
                except JudgeStopped:
                    out_of_money = True
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _judgement(result: Result, judge: Judge) -> Judgement:
    claim_scores: ClaimScores = judge_answer(judge, result.question, result.truth, words(result))
    task, id, mode, digest = _key(result)
    return Judgement(
        judge=judge.name,
        rules=judge.rules,
        benchmark=task,
        id=id,
        mode=mode,
        about=digest,
        **vars(claim_scores),
    )


def _scores(
    members: Sequence[Result], judgements: dict[tuple[str, str, str, str], Judgement]
) -> dict[str, Any]:
    figures: dict[str, Any] = {"n": len(members)}
    figures |= text_metrics([result.truth for result in members], [words(result) for result in members])
    entries = [judgements[key] for result in members if (key := _key(result)) in judgements]
    if not entries:
        return figures
    figures["judge"] = entries[0].judge
    for name in METRICS:
        values = [value for entry in entries if (value := getattr(entry, name)) is not None]
        figures |= _mean(f"wsi_{name}", values)
    figures["judge_failures"] = sum(bool(entry.failures) for entry in entries)
    figures["not_judged"] = len(members) - len(entries)
    return figures


def _mean(name: str, values: Sequence[float]) -> dict[str, Any]:
    """A mean with its bootstrap over answers; of no answers the number alone."""
    if not values:
        return {f"{name}_n": 0}
    over = draws(len(values)) @ np.array(values) / len(values)  # (R,)
    low, high = np.percentile(over, [2.5, 97.5])
    spread = {"": np.mean(values), "_sd": over.std(ddof=1), "_low": low, "_high": high}
    return {f"{name}{end}": float(value) for end, value in spread.items()} | {f"{name}_n": len(values)}


def _key(result: Result) -> tuple[str, str, str, str]:
    text = json.dumps([result.question, result.truth, words(result)])
    return result.benchmark, result.id, result.mode, hashlib.sha256(text.encode()).hexdigest()[:16]
