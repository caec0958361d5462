"""The bench of focus judges slides and pictures, sharp and blurred, as the agent does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drawn_tissue import scanned, tissue_like, two_sections
from PIL import Image
from slide_files import stained, write_svs

from core_model.errors import UsageError
from eval.bench.focus import BLURS, main


def test_pictures_are_sharp_until_they_are_blurred(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    lines = ["file,mpp"]
    for number in range(4):
        rgb = scanned(tissue_like(256, 256, 1.0, number), 0.0, 1.0)
        Image.fromarray(rgb).save(tmp_path / f"images/{number}.png")
        lines.append(f"images/{number}.png,{'1.0' if number else ''}")
    (tmp_path / "tiles.csv").write_text("\n".join(lines) + "\n")
    main(tmp_path, 100, 0, as_json=True)
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["n"], row["assumed_mpp"], row["judged"]) == (4, True, 1.0)
    shares = [row["blurred"][str(blur)] for blur in BLURS]
    assert shares[:4] == [0, 0, 0, 0]
    assert shares[-2:] == [1, 1]
    main(tmp_path, 100, 0, as_json=False)
    assert "(scale assumed)" in capsys.readouterr().out


def test_of_slides_the_samples_are_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_sections(tmp_path / "two.tiff")
    write_svs(tmp_path / "unscaled.svs", stained(480, 480), mpp=None)
    main(tmp_path, 100, 0, as_json=True)
    out, err = capsys.readouterr()
    (row,) = json.loads(out)["rows"]
    assert row["blurred"]["0.0"] == pytest.approx(0.4, abs=0.1)
    assert "left out: " in err
    assert "unscaled" in err


def test_nothing_to_judge_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to judge"):
        main(tmp_path, 10, 0, as_json=False)
