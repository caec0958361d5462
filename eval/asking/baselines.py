"""What no look at any slide would reach: the same answer to every question of a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from eval.asking.results import Result, common
from eval.benchmarks.questions import Question
from eval.metrics.classification import best_constant

CONSTANT = "constant"


def constant_results(questions: Sequence[Question]) -> list[Result]:
    """Every question answered by the best constant answer of its task, chosen with the right answers known.

    That is a label, or a place among the options where the task is scored by plain accuracy; of open
    questions the reference that is given most often. Neither slides nor a model take part.
    """
    tasks: dict[str, list[Question]] = {}
    for question in questions:
        tasks.setdefault(question.benchmark, []).append(question)
    said = {question.key: text for asked in tasks.values() for question, text in _answers(asked)}
    return [Result(**common(question, CONSTANT), said=said[question.key]) for question in questions]


def _answers(asked: Sequence[Question]) -> list[tuple[Question, str | None]]:
    truth = [question.answer for question in asked]
    if asked[0].metric != "accuracy":  # by balanced accuracy every label that occurs is as good as another
        usual = Counter(truth).most_common(1)[0][0]
        return [(question, usual) for question in asked]
    name, _ = best_constant("accuracy", truth, [question.position for question in asked])
    if not name.startswith("option "):
        return [(question, name[1:-1]) for question in asked]
    place = int(name.removeprefix("option "))
    return [(q, q.options[place - 1] if q.options and place <= len(q.options) else None) for q in asked]
