"""Many slides are indexed side by side: what comes out, and what a failing slide costs the others."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path
from typing import Any

import index_jobs as jobs
import pytest
from batch_jobs import Watched, dab
from cli_fakes import PaintEncoder, giant, one_line
from PIL import Image

from agent.batch import indexing
from agent.batch.indexing import IndexBatch
from agent.batch.workers import Ended, in_processes
from core_model import machine
from core_model.errors import FeatureStoreError, UsageError
from core_model.models import tile_encoders
from tools.index import TileIndex
from tools.indexing import Indexed, Indexer, IndexPlan, SlideFailed, SlideJob


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tile_encoders, "load_tile_encoder", lambda *_, **__: PaintEncoder())
    for name, share in (("a", 0.9), ("b", 0.1), ("c", 0.5)):
        dab(tmp_path / f"{name}.png", share)


def plan(out: str, **more: Any) -> IndexPlan:
    return IndexPlan(out=Path(out), mpp=2.0, isolate=False, **more)


def content(folder: str) -> dict[str, bytes]:
    """Every file of a store but locks; places in H5 files say which folder they lie in."""
    name = os.path.abspath(folder).encode()
    return {
        path.name: path.read_bytes().replace(name, b"*" * len(name))
        for path in Path(folder).rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


def test_workers_make_what_one_process_does_and_a_bad_slide_stops_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = list(IndexBatch(plan("store1")).run([Path("a.png"), Path("b.png")]))
    assert [type(one) for one in alone] == [Indexed] * 2
    again = list(IndexBatch(plan("store1")).run([Path("a.png"), Path("b.png")]))
    assert [str(one) for one in again] == [f"complete already, {one.tiles} tiles" for one in alone]

    Path("bad.png").write_bytes(b"no image")
    dab(Path("killer.png"))
    dab(Path("bug.png"))
    monkeypatch.setattr(indexing, "index_slide", jobs.painted)
    slides, watched = [Path(f"{name}.png") for name in ("bad", "killer", "a", "bug", "b")], Watched()
    made = {one.path.name: one for one in IndexBatch(plan("store2"), workers=2).run(slides, watched)}
    failed = {name: one.error for name, one in made.items() if isinstance(one, SlideFailed)}
    assert set(made) - set(failed) == {"a.tile.safetensors", "b.tile.safetensors"}
    assert set(failed) == {"bad.png", "killer.png", "bug.png"}
    assert content("store1") == content("store2")
    assert sorted(watched.ends) == ["a", "b", "bad", "bug", "killer"]
    assert "SIGKILL" in failed["killer.png"]
    assert "bug: ZeroDivisionError: division by zero" in failed["bug.png"]
    for name, line in failed.items():
        assert name in line
        assert "\n" not in line


def test_the_command_tells_of_each_slide_and_fails_where_one_did() -> None:
    Path("bad.png").write_bytes(b"no image")
    result = giant("index", "a.png", "bad.png", "b.png", "--mpp", "2", "--out", "store", "--no-isolate")
    assert result.exit_code == 1
    assert [Path(line).name for line in result.stdout.split()] == ["a.tile.safetensors", "b.tile.safetensors"]
    lines = result.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == ["1/3 a", "2/3 bad", "3/3 b", "giant"]
    assert "tiles" in lines[0]
    assert "1 of 3 slides failed" in lines[-1]
    quiet = giant("index", "a.png", "bad.png", "--mpp", "2", "--out", "store", "--quiet", "--no-isolate")
    assert [line.split(":")[0] for line in quiet.stderr.splitlines()] == ["giant"] * 2
    assert giant("index", "a.png", "--mpp", "2", "--out", "store", "--quiet", "--no-isolate").exit_code == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [(("--workers", "0"), "at least 1"), (("--batch", "0"), "--batch"), (("--readers", "-1"), "--readers"),
     (("--stage", "disk", "--ray", "auto"), "Leave out --stage or --ray"),
     (("--compile",), "cannot be compiled")],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(options: tuple[str, ...], says: str) -> None:
    result = giant("index", "a.png", "--mpp", "2", *options)
    assert result.exit_code == 2
    assert says in one_line(result)


@pytest.mark.parametrize("options", [{"batch": 1}, {"batch": 100, "readers": 7}, {"readers": 1}], ids=str)
def test_options_of_the_pace_change_no_byte(options: dict[str, int]) -> None:
    slides = [Path("a.png")]
    list(IndexBatch(plan("store1")).run(slides))
    list(IndexBatch(plan("store2", **options)).run(slides))
    assert content("store1") == content("store2")


def test_staged_slides_keep_name_identity_and_place_in_errors(tmp_path: Path) -> None:
    Path("bad.png").write_bytes(b"no image")
    slides = [Path("a.png"), Path("bad.png"), Path("gone.png"), Path("b.png")]
    list(IndexBatch(plan("store1")).run(slides))
    made = list(IndexBatch(plan("store2"), stage=Path("disk")).run(slides))
    assert content("store1") == content("store2")
    failed = [m.error for m in made if isinstance(m, SlideFailed)]
    assert [str(tmp_path / name) in line for name, line in zip(("bad.png", "gone.png"), failed, strict=True)]
    assert not any("disk" in line and "giant-stage" in line for line in failed)
    assert not [path for path in Path("disk").rglob("*") if not path.name.startswith(".")]


def test_workers_read_staged_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "index_slide", jobs.where)
    slides = [Path(f"{name}.png") for name in "abc"]
    made = list(IndexBatch(plan("store"), workers=2, stage=Path("disk")).run(slides))
    assert sorted(m.path.name for m in made) == ["a.png", "b.png", "c.png"]
    assert all("giant-stage-" in str(m.path) and m.tiles == 1 for m in made), "each was there to be read"
    assert not [path for path in Path("disk").rglob("*") if not path.name.startswith(".")]


def test_each_worker_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpu_names", lambda: ["3", "GPU-77"])
    given = indexing.environments()
    assert given == [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "GPU-77"}]
    told = [e.value for e in in_processes(jobs.gpu, [""] * 6, 3, given) if isinstance(e, Ended)]
    by_process = {pid: {gpu for other, gpu in told if other == pid} for pid, _ in told}
    assert all(len(gpus) == 1 for gpus in by_process.values())
    assert {gpu for _, gpu in told} <= {"3", "GPU-77"}
    told = [e.value for e in in_processes(jobs.gpu, ["dies"], 1, given) if isinstance(e, Ended)]
    assert [gpu for _, gpu in told] == ["3"], "whoever takes the place of a dead worker has its GPU"


def test_the_first_workers_have_the_first_gpus(tmp_path: Path) -> None:
    """Every worker has exactly one job, since none ends before all have begun."""
    given = [{"CUDA_VISIBLE_DEVICES": str(number)} for number in range(2)]
    work = partial(jobs.gpu_together, tmp_path, 3)
    told = [e.value for e in in_processes(work, [0, 1, 2], 3, given) if isinstance(e, Ended)]
    assert sorted(told) == ["0", "0", "1"]


def test_a_full_disk_ends_the_work_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("core_model.features.unfinished._write_all", full)
    result = giant("index", "a.png", "b.png", "--mpp", "2", "--out", "store", "--quiet", "--no-isolate")
    assert result.exit_code == 1
    assert "No space left on device" in one_line(result)
    assert not [name for name, data in content("store").items() if data]


def test_a_full_disk_met_by_the_index_leaves_no_half_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: TileIndex, path: Path, identity: Any) -> None:
        raise FeatureStoreError("no room", where=path) from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TileIndex, "save", full)
    with pytest.raises(FeatureStoreError):
        Indexer(plan("store")).index(SlideJob(Path("a.png")))
    assert list(content("store")) == ["a.h5"], "the features are whole, and kept"


def test_what_killed_writers_left_is_removed() -> None:
    folder = Path("store/features_paint")
    folder.mkdir(parents=True)
    for name in (".a.h5.12-34.part", ".a.tile.safetensors.12-34.part", ".b.h5.12-34.part"):
        (folder / name).write_bytes(b"half")
    Indexer(plan("store")).index(SlideJob(Path("a.png")))
    assert sorted(content("store")) == [".b.h5.12-34.part", "a.h5", "a.tile.safetensors"]


def test_an_interrupted_index_says_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(PaintEncoder, "encode", interrupted)
    result = giant("index", "a.png", "--mpp", "2", "--out", "store", "--quiet", "--no-isolate")
    assert result.exit_code == 130
    line = one_line(result)
    assert line == "giant: interrupted; what is done is kept: repeat the command to go on from there"


def test_usage_errors_end_everything() -> None:
    with pytest.raises(UsageError):
        IndexBatch(plan("store"), workers=0)
    result = giant("index", "a.png", "--mpp", "-3", "--out", "store")
    assert result.exit_code in (1, 2)


def test_pictures_of_another_kind_are_no_slides() -> None:
    Image.new("RGB", (4, 4)).save("small.png")
    made = list(IndexBatch(plan("store")).run([Path("small.png"), Path("a.png")]))
    assert [type(m) for m in made] == [SlideFailed, Indexed]
