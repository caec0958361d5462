"""The bench of retrieval searches what it says; no figure of time is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from agent.cli.app import build_app
from eval.bench import retrieve


@pytest.mark.parametrize("kind", retrieve.KINDS)
def test_made_up_vectors_are_of_length_1_and_the_same_every_time(kind: str) -> None:
    first, second = (np.concatenate(list(retrieve.made_up(kind, 500))) for _ in range(2))
    assert first.shape == (500, retrieve.CHANNELS)
    assert np.array_equal(first, second)
    assert np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)


def test_clustered_vectors_have_neighbours_and_random_ones_have_none() -> None:
    nearest = {}
    for kind in retrieve.KINDS:
        vectors = np.concatenate(list(retrieve.made_up(kind, 1000)))
        cosines = vectors @ vectors.T - 2 * np.eye(1000)
        nearest[kind] = float(np.median(cosines.max(axis=1)))
    assert nearest["clustered"] > 0.8
    assert nearest["random"] < 0.3


def test_every_search_is_measured_beside_brute_force(tmp_path: Path) -> None:
    command = [
        "bench",
        "retrieve",
        "--tiles",
        "2100",
        "--rounds",
        "1",
        "--work",
        str(tmp_path / "w"),
        "--json",
    ]
    result = CliRunner().invoke(build_app(), command)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    runs = {(run["vectors"], run["search"]): run for run in printed["runs"]}
    assert list(runs) == [(kind, search) for kind, searches in retrieve.KINDS.items() for search in searches]
    assert (printed["tiles"], printed["channels"]) == (2100, 384)
    for (_, search), run in runs.items():
        assert min(run["brute"], run["seconds"], run["ratio"], run["cpu_ratio"]) > 0
        assert run["recall"] == 1 if search == "exact" else run["recall"] >= 0.9
        assert (run["measured"] is None) == (search == "exact")
    assert not list((tmp_path / "w").iterdir()), "nothing is left behind"


def test_a_table_shows_every_run() -> None:
    run = retrieve.SearchRun("random", "exact", 1.0, 0.1, 0.02, 4.0, 1.0, None, "64 bytes of each tile")
    table = retrieve.runs_table([run, run])
    assert table.row_count == 2
    assert run.ratio == pytest.approx(5)
