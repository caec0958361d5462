"""The bench of embedding measures what it says; no figure is asserted."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from core_model.errors import UsageError
from eval.bench import embed
from eval.bench.embed import Growth, Rates, growth_table, rates_table


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pink and purple tissue of 800 x 700 px."""
    y, x = np.indices((700, 800))
    wave = (np.sin(y / 37) + np.cos(x / 53)) / 4 + 0.5
    rgb = wave[..., None] * np.array([215, 130, 175]) + (1 - wave[..., None]) * np.array([120, 80, 150])
    path = tmp_path_factory.mktemp("slides") / "small.tiff"
    Image.fromarray(rgb.astype(np.uint8)).save(path, resolution=20000, resolution_unit=3)
    return path


def test_the_same_tiles_are_read_encoded_and_both(slide: Path) -> None:
    rates = embed.measure_rates(str(slide), tiles=3, rounds=1, model="mini")
    assert rates.tiles == 3
    assert min(rates.reading, rates.encoder, rates.together, rates.ratio) > 0
    assert rates.readers >= 1


def test_a_slide_is_indexed_as_a_user_would(slide: Path) -> None:
    growth = embed.measure_growth(str(slide), 800, "mini")
    assert growth.tiles == 16
    assert growth.seconds > 0


def test_tables_say_how_both_grow() -> None:
    console = Console(width=120, record=True)
    console.print(rates_table(Rates(100, 2, 2, 900.0, 100.0, 97.0, 0.97, 0.98)))
    console.print(growth_table([Growth(8192, 1000, 10.0, 1 << 29), Growth(16384, 4000, 41.0, 1 << 29)]))
    text = console.export_text()
    assert "0.970" in text
    assert [float(word) for word in text.splitlines()[-1].split()[1:]] == [4.0, 4.1, 1.0]


def test_the_command_makes_the_slides_it_needs(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.cli.app import build_app

    asked: list[tuple[str, ...]] = []

    def answered(module: str, job: str, *args: str, where: object = None) -> dict[str, Any]:
        asked.append((job, *args))
        rates = asdict(Rates(9, 2, 2, 9.0, 1.0, 1.0, 1.0, 1.0))
        growth = {"side": 1, "tiles": 1, "seconds": 1, "peak": 1}
        return {"write": {}, "rates": rates, "growth": growth}[job]

    monkeypatch.setattr(embed, "in_own_process", answered)
    command = ["bench", "index", "--slide", str(slide), "--work", str(tmp_path), "--tiles", "9", "--json"]
    result = CliRunner().invoke(build_app(), command)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rates"]["ratio"] == 1
    assert [job for job, *_ in asked] == ["write"] * 3 + ["rates"] + ["growth"] * 2
    assert asked[3][1:] == (str(tmp_path / "small-40960.tiff"), "9", "3", "mini")
    without = CliRunner().invoke(build_app(), ["bench", "index"])
    assert isinstance(without.exception, UsageError) or without.exit_code == 2
