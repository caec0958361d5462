"""Reads the answer to a benchmark's question from a model's words, by the reader that the agent goes by.

A reply that names one option is that option; one that names none or more than one is None, which is counted
as unread and as wrong: guessing what was meant would flatter some modes more than others.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.answers.choices import READER, read_option
from agent.answers.grades import read_grade
from eval.benchmarks.questions import Question

__all__ = ["READER", "read_answer", "read_choice", "read_label"]


def read_answer(reply: str, question: Question) -> str | None:
    """The answer that a reply gives to a question; the reply itself where the question is open."""
    if question.options:
        return read_choice(reply, question.options, question.question)
    if question.labels:
        return read_label(reply, question.labels, question.answer_key)
    return reply or None


def read_choice(text: str, options: Sequence[str], question: str = "") -> str | None:
    """The option that a reply chooses, word for word; None where it chooses none for sure."""
    return read_option(text, options, question)


def read_label(text: str, labels: Sequence[str], key: str = "answer") -> str | None:
    """The label that a reply to a question without options gives, such as an ISUP grade, if any for sure.

    `key` is the key that the prompt asked for.
    """
    return read_grade(text, labels, key)
