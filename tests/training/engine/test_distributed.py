"""The three stages under ZeRO and in two processes: the losses of one process, whole models, resuming.

Short forms run the engines in this process alone; the slow ones start two and kill them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from training.engine import ranks, zero
from training.engine.fit import read_log
from training.stages.conversations import SampleBatches

SCRIPT = Path(__file__).with_name("several.py")
ROOT = Path(__file__).resolve().parents[3]
STAGES = ("stage1", "stage2", "stage3")
PATIENCE = 300
"""Seconds after which processes count as stuck."""
State = dict[str, torch.Tensor]
Job = dict[str, Any]

if os.environ.get("CI") != "true":
    pytest.importorskip("deepspeed")


def command(out: Path, *jobs: Job) -> list[str]:
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*run, str(SCRIPT), str(out), json.dumps(jobs)]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}


def launch(out: Path, *jobs: Job) -> None:
    done = subprocess.run(
        command(out, *jobs), env=environment(), capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr


def launch_and_kill(out: Path, job: Job) -> None:
    """Kill all processes with SIGKILL once a checkpoint of the last stage is on disk."""
    (stage,) = job["stages"]
    written = out / job["name"] / stage / "trainer/checkpoint-2/trainer_state.json"
    with (out / "killed.txt").open("w") as told:
        started = subprocess.Popen(command(out, job), env=environment(), stdout=told, stderr=told)
    give_up = time.monotonic() + PATIENCE
    while not written.is_file():
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(timeout=0.1)
        assert started.returncode is None, (out / "killed.txt").read_text()
        assert time.monotonic() < give_up, (out / "killed.txt").read_text()
    everybody = psutil.Process(started.pid)
    for process in (everybody, *everybody.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # it died with the one before
            process.kill()
    started.wait()
    log = out / job["name"] / stage / "log.jsonl"
    shutil.copy(log, log.with_name("killed.jsonl"))


def load_script() -> Any:
    """several.py as a module."""
    spec = importlib.util.spec_from_file_location("several", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    several = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(several)
    return several


def run_here(world: Any, out: Path, job: Job) -> Path:
    """Do a job of several.py in this process."""
    load_script().run(job, world, out)
    return out / job["name"]


SHORT = {"zero2": "stage1", "zero3": "stage3"}
"""The stage that each engine trains in the short form."""


@pytest.fixture(scope="module")
def engines(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A stage under each engine, which divides nothing here, but does to a model all else that it does."""
    out, variables = tmp_path_factory.mktemp("engines"), dict(os.environ)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zero, "SMALL", 500)  # else ZeRO-3 would leave a tiny model whole
        patch.setenv("DS_ACCELERATOR", "cpu")
        for engine, stage in SHORT.items():
            run_here(world, out, {"name": f"none-{engine}", "stages": [stage]})
            run_here(world, out, {"name": engine, "zero": int(engine[-1]), "stages": [stage]})
    yield out
    ranks.leave()
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)  # else a later training of this process would look for the group
    for name in set(os.environ) - set(variables):  # RANK and its like, as DeepSpeed leaves them
        del os.environ[name]


@pytest.mark.parametrize("engine", SHORT)
def test_an_engine_reaches_the_losses_of_none(engines: Path, engine: str) -> None:
    stage = SHORT[engine]
    assert losses(engines / engine / stage) == pytest.approx(
        losses(engines / f"none-{engine}" / stage), abs=1e-4
    )


@pytest.mark.parametrize("engine", SHORT)
def test_an_engine_leaves_the_model_whole(engines: Path, engine: str) -> None:
    expected = state(engines / f"none-{engine}", SHORT[engine], 0)
    tensors = state(engines / engine, SHORT[engine], 0)
    assert set(tensors) == set(expected)
    for name, value in expected.items():
        assert torch.allclose(tensors[name].float(), value.float(), atol=1e-3), name


def test_an_engine_leaves_torch_as_it_was(engines: Path) -> None:
    """ZeRO-3 puts a `linear` of its own in torch's place, which rounds otherwise under autocast."""
    assert inspect.isbuiltin(torch.nn.functional.linear)


def test_stopped_under_zero_3_it_goes_on_bit_for_bit(
    world: Any, engines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zero, "SMALL", 500)
    job: Job = {"name": "whole", "zero": 3, "stages": ["stage2"], "dropout": True}
    whole = run_here(world, tmp_path, job)
    whole_batch = SampleBatches.batch

    def until_4(self: SampleBatches, number: int) -> Any:
        if number == 4:
            raise KilledError
        return whole_batch(self, number)

    monkeypatch.setattr(SampleBatches, "batch", until_4)
    with pytest.raises(KilledError):
        run_here(world, tmp_path, job | {"name": "broken"})
    assert inspect.isbuiltin(torch.nn.functional.linear), "also after a death, nothing of DeepSpeed is left"
    monkeypatch.setattr(SampleBatches, "batch", whole_batch)
    broken = run_here(world, tmp_path, job | {"name": "broken", "resume": True})
    assert losses(broken / "stage2") == losses(whole / "stage2")
    assert not changed(state(whole, "stage2", 0), state(broken, "stage2", 0))


class KilledError(Exception):
    """Stands for the end of the process."""


def losses(folder: Path) -> list[float]:
    rows = read_log(folder)
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["loss"] for row in rows]


def state(folder: Path, stage: str, rank: int) -> State:
    found: State = torch.load(folder / f"{stage}_{rank}.pt", weights_only=True)
    return found


def changed(before: State, after: State) -> set[str]:
    assert set(before) == set(after)
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.fixture(scope="module")
def alone(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_here(world, tmp_path_factory.mktemp("alone"), {"name": "one"})


UNBROKEN: Job = {"name": "unbroken", "zero": 3, "stages": ["stage3"], "dropout": True}
BROKEN = UNBROKEN | {"name": "broken"}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything in two processes, in few launches: each costs seconds before it begins."""
    out = tmp_path_factory.mktemp("together")
    launch_and_kill(out, BROKEN | {"stuck_at": 4})
    engines = ({"name": "zero2", "zero": 2}, {"name": "zero3", "zero": 3})
    launch(out, *engines, UNBROKEN, BROKEN | {"resume": True})
    return out


@pytest.mark.slow  # launches of two processes, shared by all that read them
@pytest.mark.parametrize("engine", ["zero2", "zero3"])
@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_reach_the_losses_of_one(alone: Path, together: Path, engine: str, stage: str) -> None:
    assert losses(together / engine / stage) == pytest.approx(losses(alone / stage), abs=1e-4)


@pytest.mark.slow  # launches of two processes, shared by all that read them
@pytest.mark.parametrize("engine", ["zero2", "zero3"])
def test_every_process_is_left_with_the_whole_model(alone: Path, together: Path, engine: str) -> None:
    for stage in STAGES:
        first, second = (state(together / engine, stage, rank) for rank in (0, 1))
        assert not changed(first, second)
        for name, value in state(alone, stage, 0).items():
            assert torch.allclose(first[name].float(), value.float(), atol=1e-3), name


@pytest.mark.slow  # launches of two processes, shared by all that read them
def test_under_zero_3_a_stage_changes_what_is_its_to_change(together: Path) -> None:
    one, two, three = (state(together / "zero3", stage, 0) for stage in STAGES)
    assert changed(one, two) == {name for name in one if name.startswith("projector.")}
    linear = {
        name
        for name, value in one.items()
        if name.startswith("language_model.") and value.ndim == 2 and "embed" not in name
    }
    assert changed(two, three) == linear | {name for name in one if name.startswith("projector.")}


def goes_on(out: Path, stage: str, broken: str, unbroken: str) -> None:
    """What was killed and resumed is what was never broken, bit for bit."""
    before = (out / broken / stage / "killed.jsonl").read_text().splitlines()
    assert 2 <= len(before) < 6
    after = (out / broken / stage / "log.jsonl").read_text().splitlines()
    assert after[:2] == before[:2]  # not done again
    assert losses(out / broken / stage) == losses(out / unbroken / stage)
    assert not changed(state(out / unbroken, stage, 1), state(out / broken, stage, 1))


@pytest.mark.slow  # launches of two processes, shared by all that read them
def test_killed_under_zero_3_it_goes_on_bit_for_bit(together: Path) -> None:
    goes_on(together, "stage3", "broken", "unbroken")


@pytest.mark.slow  # a launch of two processes for each stage and engine
@pytest.mark.parametrize("zero", [0, 2, 3])
def test_every_stage_goes_on_after_a_kill_under_every_engine(tmp_path: Path, zero: int) -> None:
    common: Job = {"zero": zero, "dropout": True, "micro_batch": 2}
    jobs: list[Job] = []
    for stage in STAGES:
        job = common | {"name": f"broken-{stage}", "stages": [stage]}
        launch_and_kill(tmp_path, job | {"stuck_at": 4 if stage == "stage1" else 8})
        jobs += [job | {"resume": True}, job | {"name": f"unbroken-{stage}"}]
    launch(tmp_path, *jobs)
    for stage in STAGES:
        goes_on(tmp_path, stage, f"broken-{stage}", f"unbroken-{stage}")


@pytest.mark.slow  # all stages four times in two processes
def test_engines_agree_whatever_is_computed_at_a_time(alone: Path, tmp_path: Path) -> None:
    jobs: list[Job] = [
        {"name": f"{zero}-{micro}", "zero": zero, "micro_batch": micro, "recompute": micro == 1}
        for zero, micro in ((0, 1), (0, 3), (2, 1), (3, 3))
    ]
    launch(tmp_path, *jobs)
    for job in jobs:
        for stage in STAGES:
            found = losses(tmp_path / job["name"] / stage)
            assert found == pytest.approx(losses(alone / stage), abs=1e-4), job
