"""Which slides lie under a path: one for each slide, and never a label, macro or overview image."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import format_files as formats
import multi_files as many
import pytest
import scanner_files as scanners
from PIL import Image
from slide_files import stained, write_svs

from core_model.errors import SlideError, printable
from core_model.files import MOST_BYTES
from core_model.slides.discover import Slides, slides_under
from core_model.slides.parts import NotASlide, associated_kind
from core_model.slides.slide import open_slide

RGB = stained(512, 512)


def found(root: Path, slides: Slides) -> list[str]:
    return [path.relative_to(root).as_posix() for path in slides.paths]


def skipped(slides: Slides) -> dict[str, set[str]]:
    kinds: dict[str, set[str]] = {}
    for item in slides.skipped:
        kinds.setdefault(item.kind, set()).add(item.path.name)
    return kinds


def gdc(folder: Path) -> None:
    """A download of the GDC: a folder by UUID, with the log of the transfer and annotations."""
    home = folder / "1f2e-uuid"
    (home / "logs").mkdir(parents=True)
    write_svs(home / "TCGA-02.svs", RGB, levels=1)
    (home / "logs" / "TCGA-02.svs.parcel").write_bytes(b"x")
    (home / "annotations.txt").write_text("x")


def olympus(folder: Path) -> None:
    """The .vsi file is a TIFF that holds label and overview alone; the scan is in the folder beside it."""
    (folder / "_scan_" / "stack1").mkdir(parents=True)
    many.label().save(folder / "scan.vsi", format="TIFF")
    (folder / "_scan_" / "stack1" / "frame_t.ets").write_bytes(b"x")
    many.label().save(folder / "_scan_" / "overview.jpg")


def zarr(folder: Path) -> None:
    many.label().save(formats.write_zarr(folder, RGB, version=2) / "thumbnail.png")


LAYOUTS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "VMS": (lambda folder: many.write_vms(folder, RGB), ["scan.vms"]),
    "MIRAX": (lambda folder: many.write_mirax(folder, RGB), ["scan.mrxs"]),
    "DICOM": (lambda folder: many.write_dicom(folder, RGB), ["IM1_0.dcm"]),
    "DICOM without suffix": (lambda folder: many.write_dicom(folder, RGB, suffix=""), ["IM1_0"]),
    "two series in a folder": (
        lambda folder: [many.write_dicom(folder, RGB, series=series) for series in (1, 2)],
        ["IM1_0.dcm", "IM2_0.dcm"],
    ),
    "series deep in folders": (
        lambda folder: [many.write_dicom(folder / "P" / f"S{n}", RGB, series=n) for n in (1, 2)],
        ["P/S1/IM1_0.dcm", "P/S2/IM2_0.dcm"],
    ),
    "GDC": (gdc, ["1f2e-uuid/TCGA-02.svs"]),
    "VSI": (olympus, ["scan.vsi"]),
    "Zarr": (zarr, ["scan.ome.zarr"]),
    "CZI": (lambda folder: formats.write_czi(folder / "scan.czi", RGB), ["scan.czi"]),
    "SCN": (lambda folder: scanners.write_scn(folder / "scan.scn", RGB), ["scan.scn"]),
    "NDPI": (lambda folder: scanners.write_ndpi(folder / "scan.ndpi", RGB), ["scan.ndpi"]),
    "BIF": (lambda folder: scanners.write_bif(folder / "scan.bif", RGB), ["scan.bif"]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_slide_of_many_files_is_one_slide(layout: str, tmp_path: Path) -> None:
    write, expected = LAYOUTS[layout]
    write(tmp_path)
    slides = slides_under([tmp_path])
    assert found(tmp_path, slides) == expected
    again = slides_under(sorted(path for path in tmp_path.rglob("*") if path.is_file()))
    others = {path.name for path in again.paths} - {Path(name).name for name in expected}
    assert others <= {"TCGA-02.svs.parcel", "annotations.txt"}, "named one by one, as a shell does with *"


@pytest.mark.parametrize("layout", ["VMS", "MIRAX", "DICOM", "GDC", "Zarr", "CZI", "SCN", "NDPI", "BIF"])
def test_the_folder_of_one_slide_opens_it(layout: str, tmp_path: Path) -> None:
    LAYOUTS[layout][0](tmp_path)
    with open_slide(tmp_path) as slide:
        assert slide.path == tmp_path / LAYOUTS[layout][1][0]
        pixels = slide.overview(256)[0].convert("RGB").getcolors(1 << 20)
    assert not any(colour == many.LABEL_RGB for _, colour in pixels or ())


def test_every_file_of_a_series_opens_the_slide(tmp_path: Path) -> None:
    paths = many.write_dicom(tmp_path / "case", RGB)
    opened = [open_slide(path) for path in paths]
    assert {slide.path for slide in opened} == {paths[0]}
    assert {(slide.name, slide.width, slide.height) for slide in opened} == {("case", 512, 512)}


def test_the_label_of_an_olympus_slide_is_not_read_for_the_scan(tmp_path: Path) -> None:
    LAYOUTS["VSI"][0](tmp_path)
    (path,) = slides_under([tmp_path]).paths
    with pytest.raises(SlideError, match=r"fastslide cannot open it.*Convert"):
        open_slide(path, mpp=1)


def test_a_main_file_without_its_data_is_not_read_as_a_plain_image(tmp_path: Path) -> None:
    """The .mrxs file itself is often a JPEG of the label."""
    main = many.write_mirax(tmp_path, RGB)
    (tmp_path / "scan").rename(tmp_path / "elsewhere")
    with pytest.raises(SlideError, match="lack its other files"):
        open_slide(main, mpp=1)


def test_parts_are_refused_by_name(tmp_path: Path) -> None:
    index = many.write_vms(tmp_path / "a", RGB)
    mirax = many.write_mirax(tmp_path / "b", RGB)
    for part in [p for p in index.parent.iterdir() if p != index]:
        with pytest.raises(NotASlide, match=r"part of scan\.vms"):
            open_slide(part, mpp=1)
    with pytest.raises(NotASlide, match=r"part of scan\.mrxs"):
        open_slide(mirax.with_suffix("") / "Data0000.dat", mpp=1)


def test_a_series_of_label_and_overview_is_no_slide(tmp_path: Path) -> None:
    for level in many.write_dicom(tmp_path, RGB)[:2]:
        level.unlink()
    assert not slides_under([tmp_path]).paths
    with pytest.raises(NotASlide, match="label image"):
        open_slide(tmp_path / "IM1_2.dcm", mpp=1)
    with pytest.raises(SlideError, match=r"no slide.*label, macro"):
        open_slide(tmp_path, mpp=1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("scan_label.png", "label"), ("scan-macro.jpg", "macro"), ("Scan Macro Image 2.tif", "macro"),
        ("label.png", "label"), ("macro_12.jpeg", "macro"), ("a.overview.tiff", "overview"),
        ("THUMBNAIL.JPG", "thumbnail"), ("macrophages.tif", None), ("unlabelled.png", None),
        ("labels.tif", None), ("scan_label.svs", None), ("overviewer.png", None),
    ],
)  # fmt: skip
def test_names_of_associated_images(name: str, kind: str | None) -> None:
    assert associated_kind(Path(name)) == kind


def test_pictures_beside_slides_are_no_slides(tmp_path: Path) -> None:
    write_svs(tmp_path / "a.svs", RGB, levels=1)
    for name in ("a.jpg", "photo.png", "a_label.png", "a_macro.tif"):
        many.label().save(tmp_path / name)
    (tmp_path / "labels").mkdir()
    many.label().save(tmp_path / "labels" / "b.png")
    slides = slides_under([tmp_path])
    assert found(tmp_path, slides) == ["a.svs"]
    assert skipped(slides) == {
        "picture": {"a.jpg", "photo.png"},
        "associated": {"a_label.png", "a_macro.tif", "b.png"},
    }
    for name, says in {"a.jpg": "picture of a.svs", "a_macro.tif": "macro image"}.items():
        with pytest.raises(NotASlide, match=says):
            open_slide(tmp_path / name, mpp=1)
    assert found(tmp_path, slides_under([tmp_path / "photo.png"])) == ["photo.png"], "named, it is taken"


def test_a_folder_of_pictures_alone_holds_slides(tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "a_label.png"):
        many.label().save(tmp_path / name)
    assert found(tmp_path, slides_under([tmp_path])) == ["a.png", "b.jpg"]


def test_what_is_skipped_is_counted_and_named(tmp_path: Path) -> None:
    write_svs(tmp_path / "a.svs", RGB, levels=1)
    (tmp_path / "gone.svs").symlink_to(tmp_path / "nowhere.svs")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".DS_Store").write_text("x")
    many.write_dicom_object(tmp_path / "report.dcm")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    Image.new("RGB", (9, 9)).save(tmp_path / "run" / "overview-1.jpg")
    slides = slides_under([tmp_path])
    assert found(tmp_path, slides) == ["a.svs"]
    assert skipped(slides) == {
        "link": {"gone.svs"}, "suffix": {"notes.txt"}, "other": {"report.dcm"}, "ours": {"run"},
    }  # fmt: skip
    lines = "\n".join(slides.summary())
    assert all(name in lines for name in ("gone.svs", "notes.txt", "report.dcm"))
    assert lines.count("skipped 1, ") == 4


def test_linked_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    store, cohort = tmp_path / "store", tmp_path / "cohort"
    for name in ("x", "y"):
        (store / name).mkdir(parents=True)
        write_svs(store / name / "a.svs", RGB, levels=1)
    cohort.mkdir()
    (cohort / "linked").symlink_to(store)
    (store / "x" / "up").symlink_to(cohort)
    (cohort / "again").symlink_to(store / "y")
    slides = slides_under([cohort])
    assert len(slides.paths) == 2
    assert {path.resolve() for path in slides.paths} == {store / "x" / "a.svs", store / "y" / "a.svs"}
    assert len([item for item in slides.skipped if item.kind == "link"]) == 2


def test_names_that_are_no_utf8_open_and_can_be_printed(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.svs"
    path = Path(os.fsdecode(raw))
    try:
        write_svs(path, RGB, levels=1)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes UTF-8 alone")
    with open_slide(path) as slide:
        assert slide.name.startswith("caf%E9-")
    assert slides_under([tmp_path]).paths == [path]
    path.write_bytes(b"x")
    with pytest.raises(SlideError) as caught:
        open_slide(path)
    assert str(caught.value).encode().decode() == printable(str(caught.value))


def test_a_name_of_240_characters_opens_and_leaves_room(tmp_path: Path) -> None:
    path = write_svs(tmp_path / ("ä" * 118 + ".svs"), RGB, levels=1)
    with open_slide(path) as slide:
        assert len(slide.name.encode()) <= MOST_BYTES


def test_words_of_openslide_name_neither_parts_nor_folders(tmp_path: Path) -> None:
    """They reach run folders and models, as the reason why a region could not be read."""
    home = tmp_path / many.PLANTED
    slide = open_slide(many.write_vms(home, RGB))
    source = slide._source
    for part in [*home.iterdir()]:
        said = source._told(OSError(f"cannot read {part}: {part.name}"))  # type: ignore[attr-defined]
        assert many.PLANTED not in said
        assert str(tmp_path) not in said
