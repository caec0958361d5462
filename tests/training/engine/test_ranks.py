"""Processes of one training: alone nothing happens; together they see each other's rows and errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from core_model.errors import RunError
from training.engine import ranks

SCRIPT = """
import json, sys
import torch
from core_model.errors import RunError
from training.engine import ranks

def loss_of(rows, weight, scale):
    image = ranks.gather(rows @ weight)
    return (scale * image @ image.T).softmax(dim=-1).square().sum()

def refuse():
    raise RunError("refused", where="the folder", fix="ask again")

ranks.join()
draw = torch.Generator().manual_seed(0)
rows, weight = torch.randn(6, 4, generator=draw), torch.randn(4, 3, generator=draw).requires_grad_()
scale = torch.tensor(0.7, requires_grad=True)
loss = loss_of(rows.chunk(ranks.world())[ranks.rank()], weight, scale)
loss.backward()
for grad in (weight.grad, scale.grad) if ranks.world() > 1 else ():
    torch.distributed.all_reduce(grad)  # as DDP and ZeRO do: the mean over processes
    grad /= ranks.world()
try:
    ranks.from_main(refuse)
except RunError as error:
    message = str(error)
record = {"loss": loss.item(), "weight": weight.grad.tolist(), "scale": scale.grad.item()}
record |= {"rank": ranks.rank(), "main": ranks.from_main(lambda: 10 + ranks.rank())}
record |= {"is_main": ranks.is_main(), "message": message}
ranks.wait()
ranks.leave()
open(f"{sys.argv[1]}/{record['rank']}.json", "w").write(json.dumps(record))
"""
ROOT = Path(__file__).resolve().parents[3]


def records_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def in_two_processes(folder: Path) -> list[dict[str, object]]:
    folder.mkdir()
    script = folder / "script.py"
    script.write_text(SCRIPT)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = subprocess.run(
        [sys.executable, *launcher, str(script), str(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return records_of(folder)


def in_this_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    folder.mkdir()
    monkeypatch.setattr(sys, "argv", ["script.py", str(folder)])
    exec(compile(SCRIPT, "script.py", "exec"), {})
    return records_of(folder)


def test_two_processes_have_the_loss_and_gradients_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (expected,) = in_this_process(tmp_path / "one", monkeypatch)
    pair = in_two_processes(tmp_path / "two")
    assert [record["rank"] for record in pair] == [0, 1]
    assert [record["is_main"] for record in pair] == [True, False]
    for record in pair:
        for key in ("loss", "scale"):
            assert record[key] == pytest.approx(expected[key], rel=1e-6)
        assert torch.allclose(torch.tensor(record["weight"]), torch.tensor(expected["weight"]), atol=1e-6)
        assert record["main"] == 10
        assert record["message"] == "the folder: refused. ask again."


def test_alone_there_is_nobody_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks.join()
    assert not torch.distributed.is_initialized()
    assert (ranks.rank(), ranks.world(), ranks.is_main()) == (0, 1, True)
    ranks.wait()
    rows = torch.ones(2, 3)
    assert ranks.gather(rows) is rows

    def refuse() -> None:
        raise RunError("refused")

    with pytest.raises(RunError, match="refused"):
        ranks.from_main(refuse)


def test_what_one_process_does_alone_knows_of_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with ranks.alone():
        assert not {"RANK", "WORLD_SIZE", "LOCAL_RANK"} & set(os.environ)
    assert os.environ["WORLD_SIZE"] == "2"
