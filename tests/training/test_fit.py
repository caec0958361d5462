"""Training in general: resuming is exact, the log is whole, divergence is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from core_model.errors import RunError
from training.fit import Trainable, fit, last_whole_checkpoint, read_log
from training.recipes import Schedule

SCHEDULE = Schedule(steps=8, batch=4, learning_rate=0.05, save_every=3)


class Line(Trainable):
    """A line through points, with dropout so that randomness matters, and a frozen part."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.slope = torch.nn.Linear(3, 1)
        self.frozen = torch.nn.Linear(3, 3).requires_grad_(False)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        noisy = torch.nn.functional.dropout(self.frozen(x), 0.3, self.training)
        return {"loss": (self.slope(noisy)[:, 0] - y).square().mean()}


def points(step: int) -> dict[str, Any]:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
    return {"x": x, "y": x.sum(dim=1)}


class KilledError(Exception):
    """Stands for the end of the process."""


def test_an_interrupted_training_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    whole, broken = Line(), Line()
    fit(whole, points, SCHEDULE, tmp_path / "whole", seed=1)

    def until_step_5(step: int) -> dict[str, Any]:
        if step == 5:
            raise KilledError
        return points(step)

    with pytest.raises(KilledError):
        fit(broken, until_step_5, SCHEDULE, tmp_path / "broken", seed=1)
    torn = tmp_path / "broken/trainer/checkpoint-4"
    torn.mkdir()  # a checkpoint that was being written when the power went
    (torn / "trainer_state.json").write_text('{"global_s')
    asked = []
    resumed = Line()
    fit(
        resumed,
        lambda step: asked.append(step) or points(step),  # type: ignore[func-returns-value]
        SCHEDULE,
        tmp_path / "broken",
        seed=1,
        resume=True,
    )
    assert min(asked) == 3  # went on after the last whole checkpoint
    for name, value in whole.named_parameters():
        assert torch.equal(value, dict(resumed.named_parameters())[name]), name
    losses = [[row["loss"] for row in read_log(tmp_path / name)] for name in ("whole", "broken")]
    assert losses[0] == losses[1]
    assert [row["step"] for row in read_log(tmp_path / "broken")] == list(range(1, 9))


def test_only_what_is_trained_is_saved_and_changed(tmp_path: Path) -> None:
    line = Line()
    before = {name: value.clone() for name, value in line.named_parameters()}
    fit(line, points, SCHEDULE, tmp_path / "line", seed=1)
    changed = {name for name, value in line.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"slope.weight", "slope.bias"} == set(line.state_dict())


def test_without_resume_it_starts_again(tmp_path: Path) -> None:
    fit(Line(), points, SCHEDULE, tmp_path / "line", seed=1)
    fit(Line(), points, SCHEDULE, tmp_path / "line", seed=1)
    assert len(read_log(tmp_path / "line")) == SCHEDULE.steps
    assert last_whole_checkpoint(tmp_path / "line/trainer") is None  # finished: nothing to resume from


def test_a_loss_that_is_no_number_is_an_error(tmp_path: Path) -> None:
    def poisoned(step: int) -> dict[str, Any]:
        return points(step) | ({"y": torch.full((4,), float("nan"))} if step == 2 else {})

    with pytest.raises(RunError, match="learning_rate"):
        fit(Line(), poisoned, SCHEDULE, tmp_path / "line", seed=1)


def test_parts_learn_at_their_own_rates(tmp_path: Path) -> None:
    slow, fast = Line(), Line()
    start = slow.slope.weight.clone()
    for line, rate in ((slow, 1e-6), (fast, 1e-1)):
        fit(line, points, SCHEDULE, tmp_path / f"{rate}", seed=1, rates={"slope.": rate})
    assert (slow.slope.weight - start).abs().max() < 1e-4 < (fast.slope.weight - start).abs().max()


def test_every_line_of_the_log_is_json(tmp_path: Path) -> None:
    fit(Line(), points, SCHEDULE, tmp_path / "line", seed=1)
    rows = [json.loads(line) for line in (tmp_path / "line/log.jsonl").read_text().splitlines()]
    assert all({"step", "loss", "learning_rate", "grad_norm", "seconds"} <= set(row) for row in rows)
