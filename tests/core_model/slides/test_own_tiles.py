"""TIFFs read by their own tiles: as OpenSlide reads them, each tile once, and never a damaged one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from slide_files import damage, stained, write_svs

from core_model.errors import RegionUnreadable, SlideError
from core_model.slides import readers
from core_model.slides.box import Box
from core_model.slides.file_tiles import FileTiles
from core_model.slides.kept_tiles import TileCache
from core_model.slides.readers import open_source
from core_model.slides.slide import Slide, open_slide
from core_model.slides.sources import DecodeError, OpenSlideSource
from core_model.slides.tiff_source import TiffSource

RGB = stained(300, 420)
SCALE: dict[str, Any] = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
OME = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{}</OME>'
IMAGE = (
    '<Image ID="Image:{0}" Name="{1}"><Pixels ID="Pixels:{0}" DimensionOrder="XYCZT" Type="uint8"'
    ' SizeX="{2}" SizeY="{3}" SizeC="3" SizeZ="1" SizeT="1" PhysicalSizeX="{4}" PhysicalSizeY="{4}"'
    ' PhysicalSizeXUnit="{5}" PhysicalSizeYUnit="{5}"/></Image>'
)
LAYOUTS: dict[str, dict[str, Any]] = {
    "jpeg, colours turned": {"tile": (64, 96), "compression": "jpeg"},
    "jpeg, colours as they are": {
        "tile": (64, 96),
        "compression": "jpeg",
        "compressionargs": {"outcolorspace": "rgb"},
    },
    "jpeg strips": {"rowsperstrip": 40, "compression": "jpeg"},
    "deflate, differences": {"tile": (64, 96), "compression": "zlib", "predictor": True},
    "lzw": {"tile": (64, 96), "compression": "lzw"},
    "zstd": {"tile": (64, 96), "compression": "zstd"},
    "packed bits, strips": {"rowsperstrip": 7, "compression": "packbits"},
    "jpeg 2000": {"tile": (64, 96), "compression": "jpeg2000", "compressionargs": {"reversible": True}},
    "plain strips": {"rowsperstrip": 11},
    "colours apart": {"tile": (64, 96), "planarconfig": "separate", "compression": "zlib"},
    "bigtiff": {"tile": (64, 96), "bigtiff": True},
    "big-endian": {"tile": (64, 96), "byteorder": ">", "compression": "lzw"},
}
PACKED = ["deflate, differences", "lzw", "zstd", "packed bits, strips", "jpeg 2000", "jpeg strips"]


def write(path: Path, rgb: np.ndarray, layout: str) -> Path:
    """Write an image as a TIFF of one of the layouts."""
    how = dict(LAYOUTS[layout])
    kinds = {name: how.pop(name) for name in ("bigtiff", "byteorder") if name in how}
    how.setdefault("photometric", "rgb")
    pixels = np.moveaxis(rgb, 2, 0) if how.get("planarconfig") == "separate" else rgb
    with tifffile.TiffWriter(path, **kinds) as tiff:
        tiff.write(np.ascontiguousarray(pixels), metadata=None, **SCALE, **how)
    return path


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain image of a few pixels is too large to be held whole."""
    monkeypatch.setattr(readers, "HELD_WHOLE", 1000)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Number and factor of each tile that is decoded."""
    seen: list[tuple[int, int]] = []
    read = FileTiles.read

    def counted(self: FileTiles, file: Any, number: int, factor: int) -> np.ndarray:
        seen.append((number, factor))
        return read(self, file, number, factor)

    monkeypatch.setattr(FileTiles, "read", counted)
    return seen


def as_array(slide: Slide, box: Box | None = None) -> np.ndarray:
    return np.asarray(slide.read(box or slide.box, slide.mpp))


@pytest.mark.parametrize(
    "name", ["CMU-1-Small-Region.svs", "HER2ST-C2.tiff", "TCGA-CR-7395-01A-01-TS1.svs", "boxes.tiff"]
)
def test_pixels_and_places_are_those_of_openslide(shared: Path, name: str) -> None:
    path = shared / "data/slides" / name
    ours, theirs = open_source(path), OpenSlideSource(path)
    assert ours.level_dimensions == theirs.level_dimensions
    for level, (width, height) in enumerate(ours.level_dimensions):
        w, h = min(width, 700), min(height, 700)
        for x, y in {(0, 0), (width - w, 0), (0, height - h), ((width - w) // 2, (height - h) // 2)}:
            image, offset = ours.read_level(level, x, y, w, h)
            expected, shift = theirs.read_level(level, x, y, w, h)
            assert max(map(abs, shift)) < 0.5
            assert offset == (0.0, 0.0) or isinstance(ours, OpenSlideSource) or "2000" in ours.reader
            apart = np.abs(np.asarray(image).astype(int) - np.asarray(expected)).mean()
            assert apart <= (0 if shift == offset else 2)


def test_jpeg_2000_of_aperio_is_left_to_openslide(shared: Path) -> None:
    with open_slide(shared / "data/slides/TCGA-CR-7395-01A-01-TS1.svs", mpp=0.25) as slide:
        assert slide.reader.startswith("OpenSlide")
    with open_slide(shared / "data/slides/CMU-1-Small-Region.svs") as slide:
        assert slide.reader.startswith("libjpeg-turbo")


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_its_pixels(tmp_path: Path, layout: str) -> None:
    path = write(tmp_path / "a.tif", RGB, layout)
    expected = tifffile.imread(path)
    if LAYOUTS[layout].get("planarconfig") == "separate":
        expected = np.moveaxis(expected, 0, 2)
    with open_slide(path) as slide:
        assert slide.mpp == 0.5
        assert isinstance(slide._source, TiffSource)
        apart = np.abs(as_array(slide).astype(int) - expected)
        assert apart.max() <= (3 if "jpeg" in layout else 0), "tifffile has another JPEG decoder"
        assert np.abs(as_array(slide).astype(int) - RGB).mean() < 2


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_rectangle_is_a_part_of_the_whole(data: st.DataObject, own: dict[str, Any]) -> None:
    source, whole = own["source"], own["levels"]
    level = data.draw(st.integers(0, len(whole) - 1))
    height, width = whole[level].shape[:2]
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    w, h = data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
    image, _ = source.read_level(level, x, y, w, h)
    assert np.array_equal(np.asarray(image), whole[level][y : y + h, x : x + w])


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A JPEG slide whose cache holds two tiles, and its levels, those that are made too, read whole."""
    path = write(tmp_path_factory.mktemp("own") / "a.tiff", RGB, "jpeg, colours turned")
    source = open_source(path)
    assert isinstance(source, TiffSource)
    sizes = [*source.level_dimensions]
    sizes += [(sizes[of][0] // k, sizes[of][1] // k) for of, k in source.made_levels]
    whole = [np.asarray(source.read_level(i, 0, 0, *size)[0]) for i, size in enumerate(sizes)]
    source._cache = TileCache(2 * 64 * 96 * 3)
    yield {"source": source, "levels": whole}
    source.close()


@pytest.mark.parametrize("k", [2, 4, 8])
def test_a_made_level_shows_the_mean_of_what_it_covers(shared: Path, k: int) -> None:
    with open_slide(shared / "data/slides/CMU-1-Small-Region.svs") as slide:
        assert len(slide.level_dimensions) == 1, "what is made is none of the file's levels"
        box = Box(240, 240, 960, 960)
        image, exact = slide.read(box, k * slide.mpp), slide.read(box, slide.mpp).reduce(k)
    apart = np.abs(np.asarray(image).astype(int) - np.asarray(exact))
    assert apart.mean() < 0.5
    assert apart.max() < 40


def test_a_coarser_look_decodes_small(tmp_path: Path, decoded: list[tuple[int, int]]) -> None:
    with open_slide(write_svs(tmp_path / "a.svs", stained(960, 960), mpp=0.5, levels=1)) as slide:
        slide.read(slide.box, 1.0)
        assert {factor for _, factor in decoded} == {2}
        decoded.clear()
        slide.read(slide.box, 1.6)
        assert {factor for _, factor in decoded} == set(), "the half serves what is a little coarser"
        slide.read(slide.box, 5.0)
        assert {factor for _, factor in decoded} == {8}


def test_a_grid_decodes_each_tile_once(tmp_path: Path, decoded: list[tuple[int, int]]) -> None:
    path = write_svs(tmp_path / "a.svs", stained(1200, 1440), mpp=0.5, levels=1)
    boxes = [Box(x, y, 100, 100) for y in range(0, 1200, 100) for x in range(0, 1400, 100)]
    with open_slide(path) as slide, ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda box: np.asarray(slide.read(box, 0.5)), boxes))
        whole = as_array(slide)
    assert len(decoded) == len(set(decoded)) == 5 * 6
    for box, image in zip(boxes, images, strict=True):
        assert np.array_equal(image, whole[box.y : box.bottom, box.x : box.right])


def test_threads_that_want_one_tile_wait_for_one_of_them() -> None:
    cache, asked, go = TileCache(), threading.Barrier(5), threading.Event()
    made: list[int] = []

    def decode() -> np.ndarray:
        made.append(1)
        go.wait(30)
        return np.ones((2, 2, 3), dtype=np.uint8)

    def ask() -> np.ndarray:
        asked.wait(30)
        return cache.get((0, 1, 0), decode)

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(ask) for _ in range(4)]
        asked.wait(30)
        go.set()
        assert all(future.result(30).all() for future in waiting)
    assert made == [1]


def test_the_cache_keeps_to_its_bound_and_forgets_failures() -> None:
    cache = TileCache(most=5 * 12)
    for number in range(20):
        cache.get((0, 1, number), lambda: np.zeros((2, 2, 3), dtype=np.uint8))
        assert cache._held <= 5 * 12

    def fail() -> np.ndarray:
        raise DecodeError("no")

    for _ in range(2):
        with pytest.raises(DecodeError):
            cache.get((0, 1, 99), fail)
    assert cache.get((0, 1, 99), lambda: np.ones((1, 1, 3), dtype=np.uint8)).all()


def change(path: Path, number: int, how: str) -> Path:
    """Damage a tile of the first page."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        offset, size = page.dataoffsets[number], page.databytecounts[number]
        offsets, counts = (
            page.tags[273 if 273 in page.tags else 324],
            page.tags[279 if 279 in page.tags else 325],
        )
        order, wide = tiff.byteorder, {3: 2, 4: 4, 16: 8}
    little = "little" if order == "<" else "big"
    with path.open("r+b") as file:
        if how == "zeros":
            file.seek(offset)
            file.write(bytes(size))
        elif how == "zeros behind its head":
            file.seek(offset + size // 2)
            file.write(bytes(size - size // 2))
        elif how == "noise":
            file.seek(offset + size // 2)
            file.write(np.random.default_rng(1).bytes(size - size // 2))
        else:
            tag, value = {
                "missing": (counts, 0),
                "short": (counts, size // 2),
                "beyond the end": (offsets, path.stat().st_size - size // 2),
                "far beyond the end": (offsets, 2**31 - 1),
            }[how]
            file.seek(tag.valueoffset + number * wide[tag.dtype])
            file.write(value.to_bytes(wide[tag.dtype], little))
    return path


DAMAGES = ("zeros", "missing", "short")
PLACED = ("beyond the end", "far beyond the end")


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("how", [*DAMAGES, "zeros behind its head", "noise"])
def test_a_damaged_jpeg_tile_raises_and_its_neighbours_do_not(tmp_path: Path, how: str) -> None:
    path = write_svs(tmp_path / "a.svs", stained(720, 720), mpp=0.5, levels=1)
    with open_slide(path) as slide:
        expected = as_array(slide, Box(0, 0, 240, 240))
    with open_slide(change(path, 4, how)) as slide:
        for mpp in (0.5, 1.0, 2.0, 4.0, 0.7):
            with pytest.raises(RegionUnreadable, match=r"tile of it|file"):
                slide.read(Box(300, 300, 64, 64), mpp)
        assert np.array_equal(as_array(slide, Box(0, 0, 240, 240)), expected)
        assert slide.survey(mpp=0.5).unreadable == (Box(240, 240, 240, 240),)


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("layout", PACKED)
@pytest.mark.parametrize("how", [*DAMAGES, *PLACED])
def test_a_damaged_tile_of_any_kind_raises(tmp_path: Path, layout: str, how: str) -> None:
    noise = np.random.default_rng(0).integers(60, 200, RGB.shape, dtype=np.uint8)
    path = change(write(tmp_path / "a.tif", noise, layout), 1, how)
    with pytest.raises((RegionUnreadable, SlideError)), open_slide(path) as slide:
        slide.read(slide.box, slide.mpp)


def test_a_tile_of_another_size_is_none(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", stained(720, 720), mpp=0.5, levels=1)
    other = tifffile.TiffFile(write(tmp_path / "b.tiff", RGB, "jpeg, colours turned")).pages[0]
    stolen = (tmp_path / "b.tiff").read_bytes()[other.dataoffsets[0] :][: other.databytecounts[0]]
    with tifffile.TiffFile(path) as tiff:
        offset, size = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(stolen[:size].ljust(size, b"\0"))
    with open_slide(path) as slide, pytest.raises(RegionUnreadable, match="in place of 240 x 240"):
        slide.read(Box(0, 0, 50, 50), 0.5)


def test_a_closed_slide_reads_nothing(tmp_path: Path) -> None:
    slide = open_slide(write_svs(tmp_path / "a.svs", stained(480, 480), levels=1))
    slide.read(slide.box, 0.5)
    slide.close()
    with pytest.raises(SlideError, match="closed"):
        slide.read(slide.box, 0.5)


def test_the_levels_of_an_ome_tiff_lie_in_its_subifds(tmp_path: Path) -> None:
    path, rgb = tmp_path / "a.ome.tiff", stained(1024, 1536)
    layout: dict[str, Any] = {"photometric": "rgb", "tile": (128, 128), "compression": "zlib"}
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        metadata = {"axes": "YXS", "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm",
                    "PhysicalSizeY": 250, "PhysicalSizeYUnit": "nm"}  # fmt: skip
        tiff.write(rgb, subifds=2, metadata=metadata, **layout)
        tiff.write(rgb[::2, ::2], subfiletype=1, **layout)
        tiff.write(rgb[::4, ::4], subfiletype=1, **layout)
    with open_slide(path) as slide:
        assert slide.level_dimensions == ((1536, 1024), (768, 512), (384, 256))
        assert slide.mpp == 0.25
        assert np.array_equal(np.asarray(slide.read(slide.box, 1.0)), rgb[::4, ::4])
        assert np.array_equal(as_array(slide), rgb)


@pytest.mark.parametrize(
    ("value", "unit", "mpp"), [(0.5, "µm", 0.5), (500, "nm", 0.5), (0.0005, "mm", 0.5), (5e-5, "cm", 0.5)]
)
def test_of_several_images_the_scan_is_taken(tmp_path: Path, value: float, unit: str, mpp: float) -> None:
    small, label = stained(96, 128), stained(600, 800)
    images = [(0, "label", 800, 600), (1, "scan", 420, 300), (2, "overview of all", 128, 96)]
    xml = OME.format("".join(IMAGE.format(*image, value, unit) for image in images))
    path = tmp_path / "a.ome.tiff"
    with tifffile.TiffWriter(path) as tiff:
        for number, rgb in enumerate([label, RGB, small]):
            tiff.write(rgb, photometric="rgb", tile=(64, 64), compression="zlib", metadata=None,
                       description=xml.encode() if number == 0 else None)  # fmt: skip
    with open_slide(path) as slide:
        assert np.array_equal(as_array(slide), RGB)
        assert slide.mpp == pytest.approx(mpp)


def test_a_qptiff_is_its_full_resolution(tmp_path: Path) -> None:
    def described(kind: str) -> str:
        xml = "<PerkinElmer-QPI-ImageDescription><ImageType>{}</ImageType></PerkinElmer-QPI-ImageDescription>"
        return '<?xml version="1.0" encoding="utf-16"?>' + xml.format(kind)

    path, rgb, label = tmp_path / "a.qptiff", stained(512, 768), stained(800, 900)
    with tifffile.TiffWriter(path) as tiff:
        layout: dict[str, Any] = {"photometric": "rgb", "metadata": None, "compression": "zlib"}
        tiff.write(rgb, tile=(128, 128), description=described("FullResolution"), **layout, **SCALE)
        tiff.write(rgb[::8, ::8], description=described("Thumbnail"), **layout)
        tiff.write(rgb[::2, ::2], tile=(128, 128), description=described("ReducedResolution"),
                   subfiletype=1, **layout)  # fmt: skip
        tiff.write(label, description=described("Overview"), **layout)
        tiff.write(label, description=described("Label"), **layout)
    with open_slide(path) as slide:
        assert slide.level_dimensions == ((768, 512), (384, 256))
        assert slide.mpp == 0.5
        assert np.array_equal(as_array(slide), rgb)


def test_what_pillow_cannot_hold_is_read_in_parts(tmp_path: Path, decoded: list[tuple[int, int]]) -> None:
    path = tmp_path / "large.tif"
    rgb = np.full((1000, 70_000, 3), 200, dtype=np.uint8)
    rgb[500:, 35_000:] = (150, 80, 160)
    tifffile.imwrite(
        path, rgb, photometric="rgb", rowsperstrip=50, compression="zlib", metadata=None, **SCALE
    )
    with open_slide(path) as slide:
        image = np.asarray(slide.read(Box(34_900, 480, 200, 40), slide.mpp))
        assert np.array_equal(image, rgb[480:520, 34_900:35_100])
        assert len(decoded) == 2


def test_a_kind_that_is_not_read_is_refused_by_name(tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs")
    path = tmp_path / "a.tiff"
    tifffile.imwrite(path, RGB, photometric="rgb", tile=(64, 64), compression="lerc", metadata=None, **SCALE)
    with pytest.raises(SlideError, match=r"not read here \(compression LERC\)|cannot open"):
        open_slide(path)


def test_damage_is_told_by_survey_at_a_made_level(tmp_path: Path) -> None:
    path = damage(write_svs(tmp_path / "a.svs", stained(960, 960), mpp=0.5, levels=1), [(1, 1)])
    with open_slide(path) as slide:
        assert slide.survey(mpp=1.0).unreadable == (Box(240, 240, 240, 240),)


def test_a_tile_that_a_coarser_level_lacks_is_averaged_from_the_finer_one(tmp_path: Path) -> None:
    rgb = stained(1500, 2100)
    path = write_svs(tmp_path / "a.svs", rgb, mpp=0.5, levels=2)
    with open_slide(path) as slide:
        whole = np.asarray(slide.read(slide.box, 2.0)).astype(int)
    with tifffile.TiffFile(path) as tiff:
        pages = [page for page in tiff.pages if page.is_tiled]
        places = [page.tags[325].valueoffset for page in pages]
    with path.open("r+b") as file:
        file.seek(places[1] + 4 * 2)  # the last tile of the first row, which reaches beyond the slide
        file.write(bytes(4))
    with open_slide(path) as slide:
        assert np.abs(np.asarray(slide.read(slide.box, 2.0)) - whole).mean() < 2
    with path.open("r+b") as file:
        file.seek(places[0] + 4 * 8)  # and the last of level 0, which it would be made from
        file.write(bytes(4))
    with open_slide(path) as slide, pytest.raises(RegionUnreadable, match="missing"):
        slide.read(Box(1980, 0, 120, 120), 2.0)
