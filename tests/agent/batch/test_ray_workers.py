"""A batch on two Ray nodes of this machine, of which one is killed half-way."""

from __future__ import annotations

import builtins
import json
import os
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import batch_jobs as jobs
import index_jobs
import pytest
from batch_jobs import dab

from agent.batch import batch, indexing
from agent.batch.batch import Batch
from agent.batch.indexing import IndexBatch
from agent.batch.plan import BatchPlan
from agent.batch.ray_workers import _import_ray, on_ray
from agent.batch.workers import Ended, Lost
from agent.session.options import AskOptions
from core_model.errors import CheckpointError, GiantError, UsageError
from tools.indexing import IndexPlan

MEMORY = 80_000_000
"""Bytes of a node's object store; Ray takes no less."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head without processors and two nodes with one each."""
    with pytest.MonkeyPatch.context() as patch:
        folders = (Path(__file__).parents[1] / "support", Path(batch.__file__).parents[2])
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)))
        patch.setenv("GIANT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OMP_NUM_THREADS", "1")
        _import_ray()
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "object_store_memory": MEMORY, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args=head)
        made.nodes = [made.add_node(num_cpus=1, object_store_memory=MEMORY) for _ in range(2)]
        try:
            yield made
        finally:
            made.shutdown()


@pytest.mark.slow
def test_jobs_go_on_where_a_worker_died(cluster: Any, tmp_path: Path) -> None:
    fates = ["", "dies once", "", "dies"]
    events = list(on_ray(partial(jobs.doubled, tmp_path), list(enumerate(fates)), cluster.address))
    assert {e.job: e.value[0] for e in events if isinstance(e, Ended)} == {0: 0, 1: 2, 2: 4}
    assert [(e.job, "on every node" in e.why) for e in events if isinstance(e, Lost)] == [(3, True)]
    with pytest.raises(CheckpointError, match="holds no llava"):
        list(on_ray(partial(jobs.doubled, tmp_path), [(9, "refuses")], cluster.address))
    assert not _import_ray().is_initialized()


def test_every_slide_is_reported_once_where_a_node_is_killed(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ["a", "stuck", "b", "c", "d", "e"]
    slides = [dab(tmp_path / f"{name}.png", 0.9) for name in names]
    capfd.readouterr()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        work = partial(jobs.stuck_once, server.getsockname()[1])
        monkeypatch.setattr(batch, "report_slide", work)

        def kill_its_node(told: list[tuple[str, ...]]) -> None:
            if [one[0] for one in told].count("ended") == 2 and told[-1][0] == "ended":
                line, _ = server.accept()
                with line:
                    lost = line.recv(1000).decode()
                    (node,) = [node for node in cluster.nodes if node.node_id == lost]
                    cluster.nodes.remove(node)
                    cluster.remove_node(node, allow_graceful=False)

        watched = jobs.Watched(kill_its_node)
        plan = BatchPlan(tmp_path / "out", AskOptions(mpp=2.0, max_steps=3), jobs.SHORT[1:])
        assert Batch(plan, ray=cluster.address).run(slides, watched) == (6, 0)
    assert sorted(watched.ends) == sorted(names)
    lines = (tmp_path / "out" / "reports.jsonl").read_text().splitlines()
    assert [json.loads(line)["slide"] for line in lines] == names
    assert len(cluster.nodes) == 1
    assert capfd.readouterr().out == ""
    assert not _import_ray().is_initialized()


@pytest.mark.slow
def test_slides_are_indexed_on_a_cluster_each_with_a_gpu_where_there_are_some(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slides = [dab(tmp_path / f"{name}.png", share) for name, share in (("a", 0.9), ("b", 0.2))]
    (tmp_path / "bad.png").write_bytes(b"no image")
    monkeypatch.setattr(indexing, "index_slide", index_jobs.painted)
    plan = IndexPlan(out=tmp_path / "store", mpp=2.0, isolate=False)
    made = list(IndexBatch(plan, ray=cluster.address).run([*slides, tmp_path / "bad.png"]))
    assert sorted(type(one).__name__ for one in made) == ["Indexed", "Indexed", "SlideFailed"]
    assert list(on_ray(index_jobs.gpu, [""], cluster.address, gpus=True)), "a cluster without GPUs works too"
    node = cluster.add_node(num_cpus=2, num_gpus=2, object_store_memory=MEMORY)
    try:
        told = [e.value for e in on_ray(index_jobs.gpu, [""] * 4, cluster.address, gpus=True)
                if isinstance(e, Ended)]  # fmt: skip
    finally:
        cluster.remove_node(node, allow_graceful=True)
    assert len(told) == 4
    assert {gpu for _, gpu in told} <= {"0", "1"}


def test_a_missing_cluster_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    with pytest.raises(GiantError, match="no Ray cluster answers at this address"):
        list(on_ray(jobs.threads, [1], f"127.0.0.1:{free}"))
    with pytest.raises(UsageError, match="no address"):
        list(on_ray(jobs.threads, [1], "somewhere"))
    real = builtins.__import__

    def without_ray(name: str, *rest: Any, **more: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(GiantError, match=r"pip install 'giant-pathology\[ray\]'"):
        list(on_ray(jobs.threads, [1], "auto"))
