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
    said = str(error)
found = {"loss": loss.item(), "weight": weight.grad.tolist(), "scale": scale.grad.item()}
found |= {"rank": ranks.rank(), "main": ranks.from_main(lambda: 10 + ranks.rank())}
found |= {"is_main": ranks.is_main(), "said": said}
ranks.wait()
ranks.leave()
open(f"{sys.argv[1]}/{found['rank']}.json", "w").write(json.dumps(found))
"""
ROOT = Path(__file__).resolve().parents[3]


def outcome(folder: Path, *launcher: str) -> list[dict[str, object]]:
    folder.mkdir()
    script = folder / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, *launcher, str(script), str(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def test_two_processes_have_the_loss_and_gradients_of_one(tmp_path: Path) -> None:
    (one,) = outcome(tmp_path / "one")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    two = outcome(tmp_path / "two", *launcher)
    assert [found["rank"] for found in two] == [0, 1]
    assert [found["is_main"] for found in two] == [True, False]
    for found in two:
        for key in ("loss", "scale"):
            assert found[key] == pytest.approx(one[key], rel=1e-6)
        assert torch.allclose(torch.tensor(found["weight"]), torch.tensor(one["weight"]), atol=1e-6)
        assert found["main"] == 10
        assert found["said"] == "the folder: refused. ask again."


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
