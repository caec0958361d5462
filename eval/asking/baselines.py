"""The baseline that looks at no slide: the same answer to every question of a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from eval.asking.results import Result, question_fields
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
    answers = {question.key: text for members in tasks.values() for question, text in _answers(members)}
    return [
        Result(**question_fields(question, CONSTANT), said=answers[question.key]) for question in questions
    ]


def _answers(questions: Sequence[Question]) -> list[tuple[Question, str | None]]:
    truth = [question.answer for question in questions]
    if (
        questions[0].metric != "accuracy"
    ):  # by balanced accuracy every label that occurs is as good as another
        usual = Counter(truth).most_common(1)[0][0]
        return [(question, usual) for question in questions]
    name, _ = best_constant("accuracy", truth, [question.position for question in questions])
    if not name.startswith("option "):
        return [(question, name[1:-1]) for question in questions]
    place = int(name.removeprefix("option "))
    return [(q, q.options[place - 1] if q.options and place <= len(q.options) else None) for q in questions]
