"""Training in general: resuming is exact, the log is whole, divergence is told."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from core_model.errors import GiantError, RunError
from training.engine.fit import Trainable, fit, last_whole_checkpoint, read_log
from training.engine.resume import CheckpointLayout
from training.engine.step_log import StepLog, quiet
from training.engine.zero import twin
from training.settings import Schedule

SCHEDULE = Schedule(steps=8, batch=4, learning_rate=0.05, save_every=3)


class Line(Trainable):
    """A line through points, with dropout so that randomness matters, and a frozen part."""

    def __init__(self, dropout: float = 0.3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dropout = dropout
        self.slope = torch.nn.Linear(3, 1)
        self.frozen = torch.nn.Linear(3, 3).requires_grad_(False)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        noisy = torch.nn.functional.dropout(self.frozen(x), self.dropout, self.training)
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
    with (tmp_path / "broken/log.jsonl").open("a") as log:
        log.write('{"step": 6, "lo')  # and a line of the log
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


def test_the_trained_tensors_come_back_in_float32(tmp_path: Path) -> None:
    line = Line().bfloat16()
    trained = fit(line, points_bf16, SCHEDULE, tmp_path / "line", seed=1)
    assert {name: (value.dtype, value.device.type) for name, value in trained.items()} == {
        "slope.weight": (torch.float32, "cpu"),
        "slope.bias": (torch.float32, "cpu"),
    }
    assert torch.equal(trained["slope.weight"], line.slope.weight)
    assert line.frozen.weight.dtype == torch.bfloat16  # as it was given


def points_bf16(step: int) -> dict[str, Any]:
    return {key: value.bfloat16() for key, value in points(step).items()}


def test_micro_batches_make_the_step_of_the_whole_batch(tmp_path: Path) -> None:
    """Each part's loss is scaled so that the mean over parts is the loss of the step."""

    def halves(number: int) -> dict[str, Any]:
        step, part = divmod(number, 2)
        return {key: value[2 * part : 2 * part + 2] for key, value in points(step).items()}

    schedule = SCHEDULE.model_copy(update={"precision": "float32"})
    one = fit(Line(0.0), points, schedule, tmp_path / "whole", seed=1)
    two = fit(Line(0.0), halves, schedule, tmp_path / "parted", seed=1, parts=2)
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-6)
    losses = [[row["loss"] for row in read_log(tmp_path / name)] for name in ("whole", "parted")]
    assert losses[0] == pytest.approx(losses[1], abs=2e-6)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", "float32"), ("bfloat16", "bfloat16")])
def test_precision_is_obeyed(tmp_path: Path, precision: str, dtype: str) -> None:
    line, seen = Line(), set()
    line.slope.register_forward_hook(lambda module, inputs, output: seen.add(str(output.dtype)))
    schedule = SCHEDULE.model_copy(update={"precision": precision, "steps": 1})
    fit(line, points, schedule, tmp_path / "line", seed=1)
    assert seen == {f"torch.{dtype}"}


def test_the_log_tells_throughput_and_memory_and_draws_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def counted(step: int) -> dict[str, Any]:
        return points(step) | {"counts": {"samples": 4, "tokens": 400}}

    def until_step_5(step: int) -> dict[str, Any]:
        if step == 5:
            raise KilledError
        return counted(step)

    with pytest.raises(KilledError):
        fit(Line(), until_step_5, SCHEDULE, tmp_path, seed=1)
    fit(Line(), counted, SCHEDULE, tmp_path, seed=1, resume=True)
    rows = read_log(tmp_path)
    assert all(row["memory_gb"] > 0 for row in rows)
    assert all(row["tokens_per_s"] == pytest.approx(100 * row["samples_per_s"], rel=1e-4) for row in rows)
    curves = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    drawn = curves.Scalars("loss")
    assert [point.step for point in drawn] == list(range(1, 9))
    assert [point.value for point in drawn] == pytest.approx([row["loss"] for row in rows], abs=1e-5)
    assert {"tokens_per_s", "memory_gb", "learning_rate", "grad_norm"} <= set(curves.Tags()["scalars"])


def test_rates_are_told_however_slow_or_fast_a_step_is(tmp_path: Path) -> None:
    times = iter([0.0, 1000.0, 1000.001])  # the start, a step of a quarter of an hour, one of a millisecond
    log = StepLog(tmp_path, 0, quiet, clock=lambda: next(times))
    log.write(1, 2, {"loss": 2.5e-7, "learning_rate": 1.25e-9}, {"samples": 4})
    log.write(2, 2, {"loss": 12.5}, {"samples": 4})
    log.close()
    slow, fast = read_log(tmp_path)
    assert slow["seconds"] == 1000
    assert slow["samples_per_s"] == pytest.approx(0.004)
    assert (slow["loss"], slow["learning_rate"]) == (2.5e-7, 1.25e-9)
    assert fast["samples_per_s"] == pytest.approx(4000, rel=1e-4)


def test_a_stage_is_clipped_adamw_under_a_warm_up_and_a_cosine(tmp_path: Path) -> None:
    """The same numbers as a plain loop of PyTorch's gives."""

    def steep(step: int) -> dict[str, Any]:
        return points(step) | {"y": points(step)["y"] * 10}  # gradients longer than 1

    changes = {"precision": "float32", "warmup": 0.25, "weight_decay": 0.1, "beta2": 0.9}
    schedule = SCHEDULE.model_copy(update=changes)
    plain = Line(0.0)
    optimizer = torch.optim.AdamW(
        [
            {"params": [plain.slope.weight], "weight_decay": 0.1},
            {"params": [plain.slope.bias], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.9),
    )
    for step in range(8):
        share = step / 2 if step < 2 else 0.5 * (1 + math.cos(math.pi * (step - 2) / 6))
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * share
        optimizer.zero_grad()
        plain(**steep(step))["loss"].backward()
        torch.nn.utils.clip_grad_norm_(plain.slope.parameters(), 1.0)
        optimizer.step()
    tensors = fit(Line(0.0), steep, schedule, tmp_path, seed=1)
    for name, value in plain.slope.named_parameters():
        assert torch.allclose(tensors[f"slope.{name}"], value, atol=1e-5), name


@pytest.mark.parametrize("rate", [0.05, 0.0])
def test_weights_decay_and_biases_and_norms_do_not(tmp_path: Path, rate: float) -> None:
    """Where nothing is to be learned, AdamW moves a tensor by its decay alone."""

    class Still(Trainable):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.norm = torch.nn.Linear(3, 2), torch.nn.LayerNorm(3)
            self.scale = torch.nn.Parameter(torch.tensor(1.0))
            for parameter in self.parameters():
                parameter.data.fill_(1.0)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": sum(parameter.sum() * 0 for parameter in self.parameters())}

    schedule = SCHEDULE.model_copy(update={"weight_decay": rate, "warmup": 0.0, "steps": 1})
    tensors = fit(Still(), points, schedule, tmp_path, seed=1)
    assert torch.allclose(tensors.pop("linear.weight"), torch.tensor(1 - schedule.learning_rate * rate))
    assert len(tensors) == 4
    for name, value in tensors.items():
        assert torch.equal(value, torch.ones_like(value)), name


def left_by(folder: Path, layout: CheckpointLayout) -> Path:
    """A checkpoint as these processes write it."""
    checkpoint = folder / "trainer/checkpoint-3"
    shards = checkpoint / "global_step3"
    shards.mkdir(parents=True)
    layout.write(checkpoint)
    for rank in range(layout.world):
        name = f"rng_state_{rank}.pth" if layout.world > 1 else "rng_state.pth"
        (checkpoint / name).touch()
        if layout.zero:
            (shards / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").touch()
        if layout.zero == 3 or rank == 0:
            (shards / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt").touch()
    (checkpoint / "latest").write_text(shards.name)
    if not layout.zero:
        (checkpoint / "optimizer.pt").touch()
    (checkpoint / "trainer_state.json").write_text("{}")
    return checkpoint


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (CheckpointLayout(2, 0), "2 processes without ZeRO"),
        (CheckpointLayout(2, 3), "2 processes under ZeRO-3"),
        (CheckpointLayout(1, 2), "1 process under ZeRO-2"),
    ],
)
def test_other_processes_cannot_go_on(tmp_path: Path, layout: CheckpointLayout, said: str) -> None:
    left_by(tmp_path, layout)
    with pytest.raises(RunError, match=f"written by {said}") as error:
        fit(Line(), points, SCHEDULE, tmp_path, seed=1, resume=True)
    assert "\n" not in str(error.value)
    assert (tmp_path / "trainer/checkpoint-3").is_dir()  # nothing was lost


@pytest.mark.parametrize(
    "layout", [CheckpointLayout(1, 0), CheckpointLayout(2, 0), CheckpointLayout(2, 2), CheckpointLayout(2, 3)]
)
def test_a_checkpoint_is_whole_with_the_files_of_every_process(
    tmp_path: Path, layout: CheckpointLayout
) -> None:
    checkpoint = left_by(tmp_path, layout)
    assert last_whole_checkpoint(tmp_path / "trainer") == checkpoint
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    for number, file in enumerate(files):
        if layout.zero == 0 and ("global_step" in str(file) or file.name == "latest"):
            continue
        other = tmp_path / str(number)
        torn = left_by(other, layout)
        (torn / file.relative_to(checkpoint)).unlink()
        assert last_whole_checkpoint(other / "trainer") is None, file


def test_zero_without_deepspeed_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "deepspeed" else found(name, *more)
    )
    schedule = SCHEDULE.model_copy(update={"zero": 2})
    with pytest.raises(GiantError, match=r"giant-pathology\[train\]"):
        fit(Line(), points, schedule, tmp_path, seed=1)


def test_finished_but_not_yet_saved_it_trains_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: StepLog) -> None:
        raise KilledError

    whole = fit(Line(), points, SCHEDULE, tmp_path / "whole", seed=1)
    monkeypatch.setattr(StepLog, "close", killed)
    with pytest.raises(KilledError):
        fit(Line(), points, SCHEDULE, tmp_path / "line", seed=1)
    monkeypatch.undo()
    again = fit(Line(), never, SCHEDULE, tmp_path / "line", seed=1, resume=True)
    assert all(torch.equal(again[name], value) for name, value in whole.items())
    assert len(read_log(tmp_path / "line")) == SCHEDULE.steps


def never(step: int) -> dict[str, Any]:
    raise AssertionError("a finished step was done again")


def test_the_twin_for_deepspeed_shares_tensors_and_nothing_else() -> None:
    line = Line()
    line.scale = torch.nn.Parameter(torch.tensor(2.0))
    other = twin(line)
    assert other.slope is not line.slope
    assert other.slope.weight.data_ptr() == line.slope.weight.data_ptr()
    assert other.scale.shape == (1,)  # DeepSpeed takes no scalars
    other.slope.weight.data = torch.zeros(0)  # cut up
    assert line.slope.weight.shape == (1, 3)
    assert set(other.trained()) == set(line.trained())


def test_workers_prepare_the_same_batches(tmp_path: Path) -> None:
    for name, workers in (("none", 0), ("two", 2)):
        schedule = SCHEDULE.model_copy(update={"workers": workers})
        fit(Line(), points, schedule, tmp_path / name, seed=1)
    none, two = ([row["loss"] for row in read_log(tmp_path / name)] for name in ("none", "two"))
    assert none == two
