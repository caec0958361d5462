"""Sections and cores: drawn masks whose names are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_model.slides.box import Box
from core_model.slides.tissue import TissueMask
from core_model.specimen.lattice import letters
from core_model.specimen.sections import Layout, find_layout

PX = 16
"""Level-0 px of a pixel of the masks, which is 8 µm."""

Blob = tuple[float, float, float, float]
"""Center x, y and radii, in mm."""


def drawn(blobs: list[Blob], width: float = 30.0, height: float = 20.0) -> TissueMask:
    """A mask of ellipses on a slide of this size in mm."""
    mask = np.zeros((int(height * 125), int(width * 125)), dtype=bool)
    for x, y, rx, ry in blobs:
        rows = slice(max(0, int((y - ry) * 125)), int((y + ry) * 125) + 1)
        columns = slice(max(0, int((x - rx) * 125)), int((x + rx) * 125) + 1)
        dy, dx = np.ogrid[rows, columns]
        mask[rows, columns] |= ((dx / 125 - x) / rx) ** 2 + ((dy / 125 - y) / ry) ** 2 <= 1
    box = Box(0, 0, mask.shape[1] * PX, mask.shape[0] * PX)
    return TissueMask(mask, np.zeros_like(mask), 8.0, box, 0.5)


def at(x: float, y: float, mm: float = 0.1) -> Box:
    """A small box around a place in mm."""
    return Box(int((x - mm / 2) * 2000), int((y - mm / 2) * 2000), int(mm * 2000), int(mm * 2000))


def named(layout: Layout, blobs: list[Blob]) -> list[str | None]:
    return [layout.words(at(x, y)) for x, y, _, _ in blobs]


@pytest.mark.parametrize(
    ("blobs", "names"),
    [
        pytest.param([(10, 10, 4, 4)], [None], id="one piece"),
        pytest.param([(6, 10, 4, 4), (14.2, 10, 4, 4)], [None, None], id="cracked"),
        pytest.param([(10, 10, 4, 4), (18, 10, 0.1, 0.1)], [None, None], id="a crumb far off"),
        pytest.param(
            [(6, 10, 4, 4), (16, 10, 4, 4)], ["section 1 of 2", "section 2 of 2"], id="side by side"
        ),
        pytest.param(
            [(16, 14, 3, 3), (5, 5.5, 3, 3), (16, 5, 3, 3)],
            ["section 3 of 3", "section 1 of 3", "section 2 of 3"],
            id="reading order",
        ),
        pytest.param(
            [(x, y, 1.5, 1) for x in (3, 10, 17) for y in (4, 7)],
            ["section 1 of 3"] * 2 + ["section 2 of 3"] * 2 + ["section 3 of 3"] * 2,
            id="levels of two fragments",
        ),
        pytest.param(
            [(6, 10, 4, 4), (18, 10, 4, 4), (11, 13, 0.15, 0.15)],
            ["section 1 of 2", "section 2 of 2", "section 1 of 2"],
            id="a crumb between goes with the nearer",
        ),
    ],
)
def test_pieces_form_sections_in_reading_order(blobs: list[Blob], names: list[str | None]) -> None:
    assert named(find_layout(drawn(blobs)), blobs) == names


def test_a_box_over_several_sections_names_them_and_one_over_all_says_nothing() -> None:
    layout = find_layout(drawn([(4, 10, 3, 3), (13, 10, 3, 3), (22, 10, 3, 3)]))
    assert layout.words(Box(0, 0, 34000, 40000)) == "sections 1 and 2 of 3"
    assert layout.words(Box(0, 0, 60000, 40000)) is None
    assert layout.words(at(28, 2)) is None, "glass"
    assert layout.described(2).startswith("It forms 3 sections, in reading order: 1 (")
    assert layout.described(2).endswith("; and 1 more.")


def test_many_scattered_fragments_are_no_sections() -> None:
    dice = np.random.default_rng(1)
    blobs = [(x * 2.0 + 1 + dice.uniform(0, 0.4), y * 3.0 + 1 + dice.uniform(0, 0.9), 0.3, 0.6)
             for x in range(12) for y in range(4)]  # fmt: skip
    assert find_layout(drawn(blobs)).parts == ()


def array(
    rows: int, columns: int, degrees: float = 0.0, missing: set[tuple[int, int]] = frozenset(), seed: int = 0
) -> dict[str, Blob]:
    """Cores of a microarray by their names, with a little disorder."""
    dice, turn = np.random.default_rng(seed), np.deg2rad(degrees)
    cores = {}
    for row in range(rows):
        for column in range(columns):
            x, y = column * 1.6 - (columns - 1) * 0.8, row * 1.6 - (rows - 1) * 0.8
            x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
            x, y = 15 + x + dice.uniform(-0.1, 0.1), 10 + y + dice.uniform(-0.1, 0.1)
            if (row, column) not in missing:
                cores[f"{letters(row)}{column + 1}"] = (x, y, *dice.uniform(0.45, 0.5, 2))
    return cores


@settings(max_examples=8, deadline=None)
@given(
    rows=st.integers(3, 8),
    columns=st.integers(4, 14),
    degrees=st.floats(-4, 4),
    seed=st.integers(0, 99),
)
def test_cores_are_named_by_row_and_column_however_the_slide_lies(
    rows: int, columns: int, degrees: float, seed: int
) -> None:
    missing = {(0, 0), (1, 2)}
    cores = array(rows, columns, degrees, missing, seed)
    layout = find_layout(drawn(list(cores.values())))
    assert layout.kind == "core"
    assert named(layout, list(cores.values())) == [f"core {name}" for name in cores]


def test_a_broken_core_keeps_its_place_and_dust_has_none() -> None:
    cores = array(4, 6, missing={(1, 1), (2, 2)})
    x, y, *_ = array(4, 6)["B2"]
    tissue = drawn(
        [*cores.values(), (x - 0.3, y, 0.12, 0.35), (x + 0.3, y, 0.12, 0.35), (15, 0.5, 0.03, 0.03)]
    )
    layout = find_layout(tissue)
    assert layout.words(at(x - 0.3, y)) == layout.words(at(x + 0.3, y)) == "core B2"
    assert [part.name for part in layout.parts] == sorted([*cores, "B2"])
    assert layout.words(Box(0, 0, 60000, 20000)) == "12 cores from A1 to B6"
    assert layout.described(1).startswith("It is a tissue microarray of 23 cores, by row and column: A1 (")


def test_rows_have_letters_beyond_the_alphabet() -> None:
    assert [letters(row) for row in (0, 25, 26, 27, 51, 52)] == ["A", "Z", "AA", "AB", "AZ", "BA"]
