"""`giant index` killed without grace: nothing half is taken, and the end is the same to the bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

SUPPORT = Path(__file__).parents[1] / "support"
NAMES = ("a", "b", "c", "d", "e")


def write_slide(path: Path, seed: int) -> Path:
    """Purple and pink tissue of 600 x 500 px at 2 µm/px with glass around it, in tiles of JPEG."""
    rows, columns = np.mgrid[0:500, 0:600]
    wave = (np.sin(rows / 37 + seed) + np.cos(columns / 53 * (1 + seed / 9))) / 4 + 0.5  # (H, W) in 0…1
    rgb = wave[..., None] * np.array([215, 130, 175]) + (1 - wave[..., None]) * np.array([120, 80, 150])
    rgb[:60] = rgb[:, -90:] = 243
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(rgb.astype(np.uint8), tile=(128, 128), photometric="rgb", compression="jpeg",
                   compressionargs={"level": 95}, metadata=None, resolution=(5000, 5000),
                   resolutionunit="CENTIMETER")  # fmt: skip
    return path


def killed(root: Path, count: int) -> list[dict[str, Any]]:
    slides = [str(write_slide(root / f"{name}.tiff", seed)) for seed, name in enumerate(NAMES)]
    done = subprocess.run(
        [
            sys.executable,
            SUPPORT / "index_kills.py",
            root,
            json.dumps(slides),
            str(count),
        ],
        env=os.environ | {"GIANT_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("count", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_no_half_file_is_taken_and_the_end_is_that_of_an_unbroken_run(tmp_path: Path, count: int) -> None:
    unbroken, *moments = killed(tmp_path, count)
    assert unbroken["ended"] == 0
    kinds = [name.partition(".")[2] for name in unbroken["files"]]
    assert kinds.count("h5") == kinds.count("tile.safetensors") == len(NAMES)
    assert unbroken["events"] > 200
    assert len(moments) == count
    assert not [wrong for moment in moments for wrong in moment["wrong"]]
    ends = [ended for moment in moments for ended, _, _ in moment["kills"]]
    assert ends.count(signal.SIGKILL) >= count // 2
