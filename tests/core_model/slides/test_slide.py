"""Opening slides, their scale, and reading boxes."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from slide_files import damage, stained, write_svs

from core_model.errors import BoxError, MppError, RegionUnreadable, SlideError
from core_model.slides.box import Box, magnification
from core_model.slides.slide import Slide, Survey, open_slide

WriteSlide = Callable[..., Path]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def read_by_threads(slide: Slide, boxes: list[Box]) -> list[bytes | None]:
    """Pixels of each box, None where it does not decode: one thread's error is nobody else's."""

    def read(box: Box) -> bytes | None:
        try:
            return slide.read(box, 0.5).tobytes()
        except RegionUnreadable:
            return None

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(read, boxes))


def test_a_box_knows_its_edges_and_overlaps() -> None:
    box = Box(10, 20, 30, 40)
    assert (box.right, box.bottom, box.area) == (40, 60, 1200)
    assert box.intersect(Box(30, 50, 100, 100)) == Box(30, 50, 10, 10)
    assert box.intersect(Box(40, 20, 5, 5)) is None
    assert box.overlap(Box(0, 0, 25, 100)) == 0.5
    assert box.contains(39, 59)
    assert not box.contains(40, 59)


def test_magnification_is_what_pathologists_say() -> None:
    assert magnification(0.25) == 40
    assert magnification(0.5) == 20


def test_a_pyramid_opens_with_its_facts(write_slide: WriteSlide) -> None:
    with open_slide(write_slide(noise(203, 301), "a.b.tiff", mpp=0.25, levels=3)) as slide:
        assert (slide.width, slide.height, slide.name) == (301, 203, "a.b")
        assert slide.mpp == pytest.approx(0.25)
        assert slide.level_dimensions == ((301, 203), (150, 101), (75, 50))
        assert slide.level_downsamples == (1.0, 2.0, 4.0), "whole factors, not the ratio of cropped sizes"
        assert slide.box == slide.bounds == Box(0, 0, 301, 203)


def test_identity_is_the_content_and_not_the_path(write_slide: WriteSlide, tmp_path: Path) -> None:
    one, other = write_slide(noise(64, 64), "one.tiff"), write_slide(noise(64, 64, seed=1), "other.tiff")
    copy = tmp_path / "copy.tiff"
    shutil.copy(one, copy)
    assert open_slide(one).id == open_slide(copy).id != open_slide(other).id
    for name, seed in (("a.png", 0), ("b.png", 0), ("c.png", 1)):
        Image.fromarray(noise(64, 64, seed)).save(tmp_path / name)
    plain = [open_slide(tmp_path / f"{n}.png", mpp=1).id for n in "abc"]
    assert plain[0] == plain[1] != plain[2]


def test_native_resolution_gives_the_files_own_pixels(write_slide: WriteSlide) -> None:
    rgb = noise(150, 170)
    with open_slide(write_slide(rgb)) as slide:
        read = np.asarray(slide.read(Box(33, 41, 100, 90), mpp=0.5))
        finer = np.asarray(slide.read(Box(33, 41, 100, 90), mpp=0.1))
    assert np.array_equal(read, rgb[41:131, 33:133])
    assert np.array_equal(finer, read), "nothing finer than the slide is made up"


def test_the_level_nearest_to_need_is_read(write_slide: WriteSlide) -> None:
    with open_slide(write_slide(noise(512, 512), levels=4)) as slide:
        used = []
        read_level = slide._source.read_level

        def spy(level: int, *rest: int) -> tuple[Image.Image, tuple[float, float]]:
            used.append(level)
            return read_level(level, *rest)

        slide._source.read_level = spy  # type: ignore[method-assign]
        for mpp in (0.5, 0.99, 1.0, 1.9, 2.0, 4.0, 20.0):
            slide.read(slide.box, mpp)
    assert used == [0, 0, 1, 1, 2, 3, 3]


def test_size_follows_from_box_and_resolution(write_slide: WriteSlide) -> None:
    with open_slide(write_slide(noise(300, 400), levels=2)) as slide:
        assert slide.read(Box(0, 0, 400, 300), 1.7).size == (round(400 * 0.5 / 1.7), round(300 * 0.5 / 1.7))
        assert slide.read(Box(5, 5, 3, 2), 16).size == (1, 1)
        assert slide.effective_mpp(0.1) == 0.5
        assert slide.effective_mpp(3) == 3


@pytest.mark.parametrize(
    "box", [Box(-1, 0, 10, 10), Box(0, 0, 101, 10), Box(95, 95, 10, 1), Box(0, 0, 0, 5), Box(5, 5, 5, -5)]
)
def test_a_box_off_the_slide_is_refused_with_the_valid_range(write_slide: WriteSlide, box: Box) -> None:
    with open_slide(write_slide(noise(100, 100))) as slide, pytest.raises(BoxError, match="≤ 100"):
        slide.read(box, 1.0)


def test_an_image_too_large_to_hold_is_refused(
    write_slide: WriteSlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core_model.slides.slide.MAX_PIXELS", 100 * 99)
    with open_slide(write_slide(noise(100, 100))) as slide:
        with pytest.raises(BoxError, match="coarser mpp"):
            slide.read(slide.box, 0.5)
        assert slide.read(slide.box, 1.0).size == (50, 50)


@pytest.mark.parametrize("mpp", [0.0, -1.0, float("nan"), float("inf")])
def test_a_senseless_resolution_is_refused(write_slide: WriteSlide, mpp: float) -> None:
    with open_slide(write_slide(noise(64, 64))) as slide, pytest.raises(BoxError, match="no resolution"):
        slide.read(slide.box, mpp)


def test_many_threads_read_what_one_reads(write_slide: WriteSlide) -> None:
    with open_slide(write_slide(noise(256, 256), levels=2)) as slide:
        boxes = [Box(x, y, 60, 60) for x in range(0, 196, 30) for y in range(0, 196, 30)]
        alone = [slide.read(box, 0.7).tobytes() for box in boxes]
        gate = threading.Barrier(8)

        def read(i: int) -> bytes:
            if i < 8:
                gate.wait(timeout=30)
            return slide.read(boxes[i], 0.7).tobytes()

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(read, range(len(boxes)))) == alone


def test_a_closed_slide_says_so(write_slide: WriteSlide) -> None:
    slide = open_slide(write_slide(noise(64, 64)))
    slide.close()
    with pytest.raises(SlideError, match="closed"):
        slide.read(slide.box, 1.0)


# --- scale ---------------------------------------------------------------------------------------------


def test_the_users_scale_stands_where_the_file_states_none(write_slide: WriteSlide) -> None:
    stated = open_slide(write_slide(noise(64, 64), mpp=0.25), mpp=0.75)
    assert (stated.mpp, stated.mpp_source) == (pytest.approx(0.25), "property")
    assert "--mpp-override 0.75" in stated.warnings[0]
    for silent in (None, 353.0):  # an absurd statement is none
        slide = open_slide(write_slide(noise(64, 64), mpp=silent), mpp=0.75)
        assert (slide.mpp, slide.mpp_source, slide.warnings) == (0.75, "user", ())


def test_the_users_scale_overrules_the_files_when_that_is_said(write_slide: WriteSlide) -> None:
    slide = open_slide(write_slide(noise(64, 64), mpp=0.25), mpp_override=0.75)
    assert (slide.mpp, slide.mpp_source, slide.warnings) == (0.75, "user", ())


def test_the_same_scale_again_is_no_contradiction(write_slide: WriteSlide) -> None:
    slide = open_slide(write_slide(noise(64, 64), mpp=0.25), mpp=0.252)
    assert (slide.mpp, slide.mpp_source, slide.warnings) == (pytest.approx(0.25), "property", ())


@pytest.mark.parametrize(("power", "told"), [(40, True), (20, False), (10, True), (13.5, False)])
def test_a_magnification_that_contradicts_the_scale_is_told(tmp_path: Path, power: float, told: bool) -> None:
    path = write_svs(tmp_path / "a.svs", stained(480, 480), mpp=0.5, levels=1, power=power)
    slide = open_slide(path)
    assert slide.mpp == pytest.approx(0.5)
    assert [f"{power:g}x" in warning for warning in slide.warnings] == [True] * told
    assert bool(open_slide(path, mpp_override=10 / power).warnings) is False


def test_the_physical_size_of_an_ome_tiff_is_its_scale(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tiff"
    size = {"PhysicalSizeX": 250, "PhysicalSizeY": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeYUnit": "nm"}
    tifffile.imwrite(path, stained(256, 256), tile=(128, 128), photometric="rgb", ome=True, metadata=size)
    slide = open_slide(path)
    assert (slide.mpp, slide.mpp_source) == (pytest.approx(0.25), "property")


def test_a_plain_tiffs_resolution_is_its_scale(tmp_path: Path) -> None:
    path = tmp_path / "plain.tif"
    Image.fromarray(noise(40, 50)).save(path, resolution_unit=3, resolution=20000.0)
    slide = open_slide(path)
    assert (slide.mpp, slide.mpp_source) == (pytest.approx(0.5), "tiff-resolution")


@pytest.mark.parametrize("mpp", [None, 0.01, 353.0])
def test_missing_or_absurd_scale_asks_for_one(write_slide: WriteSlide, mpp: float | None) -> None:
    with pytest.raises(MppError, match="--mpp"):
        open_slide(write_slide(noise(64, 64), mpp=mpp))


@pytest.mark.parametrize("mpp", [0.0, -0.5, 0.049, 20.1, float("nan")])
def test_an_absurd_scale_from_the_user_is_refused(write_slide: WriteSlide, mpp: float) -> None:
    with pytest.raises(MppError, match="outside"):
        open_slide(write_slide(noise(64, 64)), mpp=mpp)


# --- plain images --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_plain_images_read_like_slides(tmp_path: Path, suffix: str) -> None:
    rgb = noise(80, 90)
    path = tmp_path / f"plain.{suffix}"
    Image.fromarray(rgb).save(path)
    with open_slide(path, mpp=1.0) as slide:
        assert np.array_equal(np.asarray(slide.read(Box(10, 20, 30, 40), 1.0)), rgb[20:60, 10:40])
        assert slide.vendor.startswith("plain")


def test_transparent_means_glass(tmp_path: Path) -> None:
    rgba = np.zeros((20, 20, 4), dtype=np.uint8)
    rgba[:10] = (200, 100, 150, 255)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    read = np.asarray(open_slide(tmp_path / "a.png", mpp=1).read(Box(0, 0, 20, 20), 1))
    assert (read[:10] == (200, 100, 150)).all()
    assert (read[10:] == 255).all()


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise(40, 40)).save(tmp_path / "a.png")
    for limit in (1500, 700):  # Pillow warns above its limit and raises above twice as much
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(SlideError, match="too large"):
            open_slide(tmp_path / "a.png", mpp=1)


def test_sixteen_bit_grey_is_refused_rather_than_cut(tmp_path: Path) -> None:
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 100).save(tmp_path / "deep.png")
    with pytest.raises(SlideError, match="8-bit"):
        open_slide(tmp_path / "deep.png", mpp=1)


# --- what is no slide ----------------------------------------------------------------------------------


def test_no_file_folder_empty_and_text_are_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "empty.svs").touch()
    (tmp_path / "text.svs").write_text("not a slide\n" * 50)
    cases = {"gone.svs": "no such file", ".": "folder", "empty.svs": "empty", "text.svs": "no slide"}
    for name, says in cases.items():
        with pytest.raises(SlideError, match=says) as caught:
            open_slide(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_malformed_files_are_slide_errors(shared: Path) -> None:
    names = sorted(p.name for p in (shared / "data" / "malformed").iterdir())
    opens = {"unreadable.svs", "cmu-1-small-region_corrupt_tiles.svs"}
    assert opens < set(names)
    for name in set(names) - opens:
        with pytest.raises(SlideError) as caught:
            open_slide(shared / "data" / "malformed" / name, mpp=0.5)
        assert "\n" not in str(caught.value)


def test_a_slide_that_decodes_nowhere_says_so(shared: Path) -> None:
    with open_slide(shared / "data" / "malformed" / "unreadable.svs") as slide:
        with pytest.raises(RegionUnreadable, match="does not decode"):
            slide.read(slide.box, 0.5)
        with pytest.raises(SlideError, match="no part of it decodes"):
            slide.overview()


def test_reading_goes_on_after_an_error(shared: Path) -> None:
    whole = shared / "data" / "slides" / "CMU-1-Small-Region.svs"
    damaged = shared / "data" / "malformed" / "cmu-1-small-region_corrupt_tiles.svs"
    good, bad = Box(1000, 2000, 200, 200), Box(1200, 1100, 100, 100)
    with open_slide(whole) as reference, open_slide(damaged) as slide:
        wanted = reference.read(good, 0.5).tobytes()
        for _ in range(2):
            with pytest.raises(RegionUnreadable):
                slide.read(bad, 0.5)
            assert slide.read(good, 0.5).tobytes() == wanted

        assert read_by_threads(slide, [good, bad] * 8) == [wanted, None] * 8


def test_a_survey_marks_what_does_not_decode_and_keeps_the_rest(shared: Path) -> None:
    whole = shared / "data" / "slides" / "CMU-1-Small-Region.svs"
    damaged = shared / "data" / "malformed" / "cmu-1-small-region_corrupt_tiles.svs"
    with open_slide(whole) as reference, open_slide(damaged) as slide:
        seen, wanted = slide.survey(mpp=8), reference.survey(mpp=8)
    assert not wanted.unknown.any()
    assert wanted.unreadable == ()
    assert 11 / 130 * 0.9 < seen.unknown.mean() < 11 / 130 * 1.35, "11 of 130 tiles, and their blurred edges"
    known = ~seen.unknown
    assert np.array_equal(np.asarray(seen.image)[known], np.asarray(wanted.image)[known])
    assert all(not box.intersect(Box(1000, 2000, 200, 200)) for box in seen.unreadable)
    shown = np.asarray(seen.shown())
    assert np.isin(shown[seen.unknown], (96, 160)).all()


@pytest.mark.parametrize(
    ("name", "mpp", "size"),
    [
        ("CMU-1-Small-Region.svs", None, (2220, 2967)),
        ("TCGA-CR-7395-01A-01-TS1.svs", 0.5, (4443, 3567)),
        ("HER2ST-C2.tiff", None, (9274, 9911)),
        ("kidney-ihc-plain.tif", 0.5, (1493, 901)),
        ("camelyon-overview-jpeg.dcm", 20, (1152, 700)),
    ],
)
def test_real_slides_open_and_show_an_overview(
    shared: Path, name: str, mpp: float | None, size: tuple[int, int]
) -> None:
    with open_slide(shared / "data" / "slides" / name, mpp) as slide:
        assert (slide.width, slide.height) == size
        image, shown = slide.overview(512)
        assert max(image.size) == 512
        assert shown == pytest.approx(slide.mpp * max(size) / 512)


def test_real_slides_without_a_believable_scale_ask_for_one(shared: Path) -> None:
    for name in ("TCGA-CR-7395-01A-01-TS1.svs", "boxes.tiff", "camelyon-overview-jpeg.dcm"):
        with pytest.raises(MppError, match="--mpp"):
            open_slide(shared / "data" / "slides" / name)


# ---- an Aperio file, as scanners write them ----


@pytest.fixture
def svs(tmp_path: Path) -> Path:
    """1300 x 1500 px of tissue at 0.499 µm/px in two levels."""
    return write_svs(tmp_path / "scan.svs", stained(1500, 1300))


def test_an_aperio_file_opens_with_its_scale_and_levels(svs: Path) -> None:
    with open_slide(svs) as slide:
        assert (slide.vendor, slide.mpp_source) == ("aperio", "property")
        assert slide.mpp == pytest.approx(0.499)
        assert slide.level_dimensions == ((1300, 1500), (325, 375)), "the thumbnail is no level"
        assert slide.level_downsamples == (1.0, 4.0)
        read = np.asarray(slide.read(Box(300, 500, 200, 100), 0.499)).astype(int)
        image, mpp = slide.overview(500)
    assert np.abs(read - stained(1500, 1300)[500:600, 300:500]).mean() < 3, "the pixels of that place"
    assert (image.size, mpp) == ((433, 500), pytest.approx(0.499 * 3))


def test_an_aperio_file_without_its_scale_asks_for_one(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "bare.svs", stained(480, 480), mpp=None, levels=1)
    with pytest.raises(MppError, match="--mpp"):
        open_slide(path)
    with open_slide(path, mpp=0.25) as slide:
        assert (slide.mpp, slide.mpp_source) == (0.25, "user")


def test_damaged_tiles_are_unreadable_and_the_others_are_not(svs: Path, tmp_path: Path) -> None:
    damaged = damage(Path(shutil.copy(svs, tmp_path / "damaged.svs")), [(1, 1), (3, 4)])
    good, bad = Box(500, 700, 150, 150), Box(300, 300, 50, 50)
    with open_slide(svs) as whole, open_slide(damaged) as slide:
        expected = whole.read(good, 0.5).tobytes()

        assert read_by_threads(slide, [good, bad] * 8) == [expected, None] * 8
        survey, reference = slide.survey(mpp=0.998), whole.survey(mpp=0.998)
    assert survey.unreadable == (Box(240, 240, 240, 240), Box(720, 960, 240, 240))
    assert survey.unknown.mean() == pytest.approx(2 * 240**2 / (1300 * 1500))
    assert reference.unreadable == ()
    readable = ~survey.unknown
    assert np.array_equal(np.asarray(survey.image)[readable], np.asarray(reference.image)[readable])
    assert np.isin(np.asarray(survey.shown())[survey.unknown], (96, 160)).all(), "hatched in grey"


def test_an_aperio_file_that_decodes_nowhere_says_so(svs: Path) -> None:
    with open_slide(damage(svs)) as slide:
        with pytest.raises(RegionUnreadable, match="does not decode"):
            slide.read(slide.box, 0.5)
        with pytest.raises(SlideError, match="no part of it decodes"):
            slide.overview()


def test_a_cut_aperio_file_is_one_readable_line(svs: Path) -> None:
    svs.write_bytes(svs.read_bytes()[:3000])
    with pytest.raises(SlideError) as caught:
        open_slide(svs)
    assert str(svs) in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- whole boxes for fractions of pixels ----


@given(data=st.data(), w=st.integers(1, 12), h=st.integers(1, 12), scale=st.floats(1, 40))
@settings(max_examples=60, deadline=None)
def test_unreadable_boxes_cover_all_that_is_unknown(
    data: st.DataObject, w: int, h: int, scale: float
) -> None:
    cells = data.draw(st.lists(st.booleans(), min_size=w * h, max_size=w * h))
    unknown = np.array(cells).reshape(h, w)
    box = Box(7, 11, max(w, round(w * scale)), max(h, round(h * scale * 0.97)))
    boxes = Survey(Image.new("RGB", (w, h)), unknown, box, 1.0).unreadable
    sx, sy = box.w / w, box.h / h
    for row, column in np.argwhere(unknown):
        x0, y0, x1, y1 = column * sx, row * sy, (column + 1) * sx, (row + 1) * sy
        assert any(
            place.x - box.x <= x0 + 1e-6
            and place.y - box.y <= y0 + 1e-6
            and place.right - box.x >= x1 - 1e-6
            and place.bottom - box.y >= y1 - 1e-6
            for place in boxes
        ), "every unknown pixel lies wholly in a box"
    assert all(place.intersect(box) == place for place in boxes), "no box leaves what was looked at"
