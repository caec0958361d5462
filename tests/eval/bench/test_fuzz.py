"""Damaged slides end as pixels or as clear errors; and the bench sees blanks where there are some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from core_model.errors import UsageError
from eval.bench import damaged
from eval.bench import fuzz as bench
from eval.bench.mutations import ANYWHERE, IN_A_TIFF, anatomy_of, mutant

COUNT = 48
HARM = {*bench.HARM, "stopped for memory"} - {"died"}


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small slides as scanners write them: JPEG tiles, deflated tiles, and a plain image."""
    folder = tmp_path_factory.mktemp("slides")
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60, (640, 512, 3))
    rows, columns = np.mgrid[0:640, 0:512]
    wave = (80 * np.sin(rows / 19) + 60 * np.cos(columns / 23))[..., None]
    rgb = np.clip(noise + 120 + wave, 0, 255).astype(np.uint8)
    for name, compression in (("jpeg.tiff", "jpeg"), ("deflate.tiff", "zlib")):
        with tifffile.TiffWriter(folder / name) as tiff:
            for step in (1, 2):
                level = np.ascontiguousarray(rgb[::step, ::step])
                more: dict[str, Any] = {"subfiletype": int(step > 1), "metadata": None}
                tiff.write(level, tile=(128, 128), photometric="rgb", compression=compression, **more)
    tifffile.imwrite(folder / "plain.tif", rgb[:300, :400], photometric="rgb", compression="lzw")
    return folder


def test_damaged_slides_give_pixels_or_clear_errors_and_harm_nothing(slides: Path, tmp_path: Path) -> None:
    verdicts = list(bench.fuzz(slides, COUNT, seed=1, keep=tmp_path / "kept"))
    assert len(verdicts) == COUNT
    signs = {sign for verdict in verdicts for sign in verdict.signs}
    assert not signs & HARM, [verdict for verdict in verdicts if set(verdict.signs) & HARM]
    assert {"refused", "places with a clear error", "all as it was"} <= signs, "nothing was damaged"
    assert not (tmp_path / "kept").exists()


def test_a_mutant_of_a_number_is_always_the_same_and_every_way_comes(slides: Path) -> None:
    path = slides / "jpeg.tiff"
    anatomy = anatomy_of(path)
    made = [mutant(path.read_bytes(), anatomy, np.random.default_rng([3, i])) for i in range(200)]
    again = [mutant(path.read_bytes(), anatomy, np.random.default_rng([3, i])) for i in range(200)]
    assert [one.data for one in made] == [one.data for one in again]
    assert {one.kind for one in made} == {*ANYWHERE, *IN_A_TIFF}
    assert all(one.touched for one in made if one.kind in ("end of a tile zeroed", "offsets of tiles"))


def test_a_reader_that_hides_damage_is_found_out(slides: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from core_model.slides.isolation.source import IsolatedSource
    from core_model.slides.sources import DecodeError

    read_level = IsolatedSource.read_level

    def hides(self: Any, level: int, x: int, y: int, w: int, h: int) -> Any:
        from PIL import Image

        try:
            return read_level(self, level, x, y, w, h)
        except DecodeError:
            return Image.new("RGB", (w, h), (255, 255, 255)), (0.0, 0.0)

    monkeypatch.setattr(IsolatedSource, "read_level", hides)
    verdicts = list(bench.fuzz(slides, COUNT, seed=1))
    assert sum(verdict.blanks for verdict in verdicts) > 0


def test_an_exception_in_the_parent_is_a_crash(slides: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "look", lambda *_: 1 / 0)
    verdicts = list(bench.fuzz(slides, 6, seed=1))
    assert any("CRASHES of the parent" in verdict.signs for verdict in verdicts)
    assert "CRASHES of the parent" in {column.header for column in bench.summary_table(verdicts).columns}


def test_a_folder_without_slides_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to damage"):
        list(bench.fuzz(tmp_path, 5))


def test_a_flat_tile_put_in_place_of_another_is_told_apart_from_a_blank(tmp_path: Path) -> None:
    rgb = np.random.default_rng(2).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    rgb[128:, 128:] = 200
    path = tmp_path / "slides" / "a.tiff"
    path.parent.mkdir()
    tifffile.imwrite(path, rgb, tile=(128, 128), photometric="rgb", compression="zlib", metadata=None)
    anatomy, data = anatomy_of(path), bytearray(path.read_bytes())
    for table in (anatomy.tables[0], anatomy.counts[0]):
        size = anatomy.widths[table[0]]
        data[table[0] : table[0] + size] = data[table[3] : table[3] + size]
    original = bench._original(path, tmp_path / "copy")
    original.copy.write_bytes(data)
    assert damaged._is_displaced(original, (256, 256), 0)
    assert not damaged._is_displaced(original, (256, 256), 1)
    assert original.slide is not None
    original.slide.close()
