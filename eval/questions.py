"""One question of a benchmark, whatever file it came from."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Metric = Literal["accuracy", "balanced_accuracy"]


class Question(BaseModel):
    """What is asked of which slide, and what the answer should be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    benchmark: str
    """The task within the benchmark: results are reported for each."""
    id: str
    """Unique within its task."""
    slide: str
    """File name as the benchmark gives it; suffix and folder may differ on disk."""
    question: str
    """The question alone, as `giant ask` takes it."""
    prompt: str
    """The benchmark's whole prompt, options and form of the answer filled in."""
    options: tuple[str, ...] | None = None
    """None where the benchmark offers none."""
    answer: str
    """The right answer: an option word for word, else a label."""
    metric: Metric

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from every other question of the benchmark."""
        return self.benchmark, self.id

    @property
    def position(self) -> int | None:
        """1-based place of the right answer among the options; None without options."""
        return self.options.index(self.answer) + 1 if self.options else None
