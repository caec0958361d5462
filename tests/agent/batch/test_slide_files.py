"""Folders as scanners and archives leave them: one report a slide, and no patient anywhere.

The model is a recording server, so that what is searched is what went over the wire.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import format_files as formats
import imagecodecs
import multi_files as many
import numpy as np
import pytest
import scanner_files as scanners
from chat_server import ChatServer, Served, calls, images_of
from cli_fakes import PaintEncoder, PaintModel, giant
from PIL import Image
from planted import NEEDLES, script
from pydicom.uid import JPEGLSLossless
from slide_files import stained, write_svs

from agent.batch import batch
from agent.batch import plan as batch_plan
from agent.batch.batch import folder_names
from agent.batch.workers import in_this_process

RGB = stained(512, 512)


def report(server: ChatServer, *slides: object) -> Any:
    where = ("--model", "openai:scripted", "--base-url", server.url, "--out", "out")
    return giant("report", *(slides or ("slides",)), *where)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef0123456789abcdef")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batch_plan, "_from_disk", lambda model: PaintModel())
    monkeypatch.setattr("core_model.models.wsi_llava.load_model", lambda *_, **__: PaintModel())
    monkeypatch.setattr(batch, "in_processes", lambda work, jobs, count: in_this_process(work, jobs))


def write_all(root: Path) -> int:
    """A slide of each format, each with its label, macro or overview image; returns how many slides."""
    many.write_vms(root / "vms", RGB, mpp=2.0)
    many.write_mirax(root / "mirax", RGB, name="case", mpp=2.0)
    many.write_dicom(root / "dicom" / "series", RGB, mpp=2.0)
    formats.write_packed_dicom(
        root / "packed" / "ls", RGB, str(JPEGLSLossless), imagecodecs.jpegls_encode, mpp=2.0, series=2
    )
    formats.write_zarr(root / "zarr", RGB, name="store.zarr", mpp=2.0)
    for folder in ("zeiss", "tiffs"):
        (root / folder).mkdir()
    scanners.write_scn(root / "tiffs" / "leica.scn", RGB, mpp=2.0)
    scanners.write_ndpi(root / "tiffs" / "hamamatsu.ndpi", RGB, mpp=2.0)
    scanners.write_bif(root / "tiffs" / "ventana.bif", RGB, mpp=2.0)
    formats.write_czi(root / "zeiss" / "canvas.czi", RGB, mpp=2.0)
    (root / "gdc" / "uuid" / "logs").mkdir(parents=True)
    write_svs(root / "gdc" / "uuid" / "scan.svs", RGB, mpp=2.0, levels=1, power=5)
    (root / "gdc" / "uuid" / "logs" / f"{many.PLANTED}.svs.parcel").write_text(many.PATIENT)
    (root / "gdc" / "uuid" / "annotations.txt").write_text(many.PATIENT)
    for name in (f"{many.PLANTED}_macro.jpg", f"{many.PLANTED}.png", "scan_label.tif"):
        many.label().save(root / "gdc" / "uuid" / name)
    return 10


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int).reshape(-1, 3)


def images_in(folder: Path) -> Iterator[bytes]:
    for path in folder.rglob("*.jpg"):
        yield path.read_bytes()


def test_one_report_a_slide_and_a_planted_patient_reaches_nobody(tmp_path: Path) -> None:
    count = write_all(tmp_path / "slides")
    with ChatServer(script) as server:
        result = report(server)
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in Path("out/reports.jsonl").read_text().splitlines()]
    names = [line["slide"].partition("-")[0] for line in lines]
    assert sorted(names) == [
        *("canvas", "case", "hamamatsu", "leica", "ls", "scan", "scan", "series", "store", "ventana"),
    ]
    assert len({line["slide"] for line in lines}) == count
    assert len(server.requests) == 3 * count, "each slide is paid once: a look, an answer, a second look"
    (mirax,) = [line for line in lines if line["slide"] == "case"]
    assert mirax["overview"]["box"] == [512, 256, 512, 512], "the scanned part"
    assert "skipped" in result.stderr
    assert f"{many.PLANTED}_macro.jpg" in result.stderr, "what is skipped is named to the user"
    for asked in server.requests:
        body = json.dumps(asked.body, ensure_ascii=False).lower()
        assert not [needle for needle in NEEDLES if needle.lower() in body]
    for path in (p for p in Path("out").rglob("*") if p.is_file()):
        data = path.read_bytes().lower()
        assert not [needle for needle in NEEDLES if needle.lower().encode() in data], path
        assert not any(part.lower() in str(path).lower() for part in NEEDLES)
    sent = [image for asked in server.requests for image in images_of(asked.body)]
    assert len(sent) >= 2 * count
    for image in (*sent, *images_in(Path("out"))):
        assert (np.abs(pixels(image) - many.LABEL_RGB).max(axis=1) < 60).mean() < 0.001


def test_an_error_of_a_broken_slide_names_no_part(tmp_path: Path) -> None:
    index = many.write_vms(tmp_path / "slides", RGB)
    (tmp_path / "slides" / f"{many.PLANTED}_image.jpg").write_bytes(b"no JPEG")
    result = giant("report", "slides", "--out", "out")
    assert result.exit_code == 1
    (row,) = csv.DictReader(Path("out/failures.csv").read_text().splitlines())
    assert row["path"] == str(index)
    assert not [needle for needle in NEEDLES if needle.lower() in row["error"].lower()]


def odd_names(folder: Path) -> list[Path]:
    """Slides whose names are no UTF-8, hold control characters, or are very long."""
    folder.mkdir()
    names = [b"caf\xe9.svs", b"caf\xe8.svs", b"two\nlines.svs", b"n" * 236 + b".svs"]
    paths = [Path(os.fsdecode(os.fsencode(folder) + b"/" + name)) for name in names]
    try:
        for seed, path in enumerate(paths):
            write_svs(path, stained(512, 512, seed), mpp=2.0, levels=1, power=5)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes UTF-8 alone")
    return paths


def test_no_name_stops_a_batch(tmp_path: Path) -> None:
    paths = odd_names(tmp_path / "slides")
    broken = paths[1]
    broken.write_bytes(b"no slide")
    with ChatServer(script) as server:
        result = report(server)
    assert result.exit_code == 1, result.output
    lines = [json.loads(line) for line in Path("out/reports.jsonl").read_bytes().decode().splitlines()]
    assert len({line["slide"] for line in lines}) == 3
    assert all(Path("out", line["slide"], "report.html").is_file() for line in lines)
    (row,) = csv.DictReader(io.StringIO(Path("out/failures.csv").read_bytes().decode()))
    assert row["path"].endswith("caf%E8.svs")
    assert "caf%E8" in Path("out/index.html").read_bytes().decode()


def test_no_name_stops_a_question_or_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from core_model.models import tile_encoders

    monkeypatch.setattr(tile_encoders, "load_tile_encoder", lambda *_, **__: PaintEncoder())
    paths = odd_names(tmp_path / "slides")
    asked = giant(
        "ask", str(paths[0]), "Which?", "--option", "a", "--option", "b", "--max-steps", "2", "--json"
    )
    assert asked.exit_code == 0, asked.output
    assert Path(json.loads(asked.stdout)["run_dir"]).name.startswith("caf%E9-")
    made = giant("index", "slides", "--out", "store", "--quiet")
    assert made.exit_code == 0, made.output
    assert len(list(Path("store").rglob("*.h5"))) == len(paths)
    found = giant("similar", str(paths[0]), "--box", 100, 100, 200, 200, "--in", "store", "--json", "-k", 100)
    assert found.exit_code == 0, found.output
    assert {hit["slide"] for hit in json.loads(found.stdout)["hits"]} == {
        path.name.removesuffix(".h5") for path in Path("store").rglob("*.h5")
    }


def test_a_folder_whose_name_is_no_utf8_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = odd_names(tmp_path / os.fsdecode(b"d\xe9p\xf4t"))
    monkeypatch.chdir(paths[0].parent)
    asked = giant(
        "ask", str(paths[0]), "Which?", "--option", "a", "--option", "b", "--max-steps", "2", "--json"
    )
    assert asked.exit_code == 0, asked.output
    assert "d%E9p%F4t" in json.loads(asked.stdout)["run_dir"]


def test_slides_of_one_name_in_two_folders_stay_apart(tmp_path: Path) -> None:
    paths = [tmp_path / place / name for place, name in (("a", "x.svs"), ("b", "x.svs"), ("b", "X.tiff"))]
    assert len({name.casefold() for name in folder_names(paths).values()}) == 3


def test_an_index_goes_on_after_a_bad_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from core_model.models import tile_encoders

    monkeypatch.setattr(tile_encoders, "load_tile_encoder", lambda *_, **__: PaintEncoder())
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in ("a", "c"):
        write_svs(folder / f"{name}.svs", RGB, mpp=2.0, levels=1, power=5)
    (folder / "b.svs").write_text("no slide")
    result = giant("index", "slides", "--out", "store", "--quiet")
    assert result.exit_code == 1
    assert [Path(line).name for line in result.stdout.split()] == ["a.tile.safetensors", "c.tile.safetensors"]
    said = result.stderr.splitlines()
    assert "b.svs" in said[-2]
    assert said[-1] == "giant: 1 of 3 slides failed. They are named above."


def contradiction(folder: Path) -> Path:
    return write_svs(folder / "a.svs", RGB, mpp=2.0, levels=1, power=40)


def test_a_contradiction_is_told_in_answer_and_report(tmp_path: Path) -> None:
    path = contradiction(tmp_path)
    said = "The file states a magnification of 40x, but 2 µm/px is 5x."
    options = ("--option", "a", "--option", "b", "--max-steps", "2", "--out", "run")
    answer = giant("ask", str(path), "Which?", *options)
    assert answer.exit_code == 0, answer.output
    assert said in " ".join(answer.stdout.split())
    record = json.loads(Path("run/answer.json").read_text())
    assert record["slide"]["warnings"][0].startswith(said)
    for page in ("report.html", "report.md"):
        assert "magnification of 40x" in Path("run", page).read_text()
    with ChatServer(script) as server:
        made = report(server, path)
    assert made.exit_code == 0, made.output
    assert "magnification of 40x" in json.loads(Path("out/reports.jsonl").read_text())["report"]


@pytest.mark.parametrize("command", ["ask", "report", "index", "similar"])
def test_mpp_overrules_a_file_only_where_that_is_said(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core_model.slides import slide as slides

    seen: list[float] = []

    class Seen(Exception):
        pass

    original = slides.Slide.__init__

    def noted(self: Any, *args: Any, **named: Any) -> None:
        original(self, *args, **named)
        seen.append(self.mpp)
        raise Seen

    monkeypatch.setattr(slides.Slide, "__init__", noted)
    monkeypatch.setattr("core_model.models.tile_encoders.load_tile_encoder", lambda *_, **__: PaintEncoder())
    write_svs(tmp_path / "a.svs", RGB, mpp=2.0, levels=1, power=5)
    more = {"ask": ["Which?"], "report": [], "index": [], "similar": ["--box", 1, 1, 9, 9]}[command]
    for option in ("--mpp", "--mpp-override"):
        out = ["--out", f"out{option}"] if command == "report" else []
        giant(command, "a.svs", *more, *out, option, 4)
    assert seen == [pytest.approx(2.0), 4.0]


def test_both_ways_of_giving_the_scale_are_one_too_many(tmp_path: Path) -> None:
    contradiction(tmp_path)
    result = giant("ask", "a.svs", "Which?", "--mpp", 1, "--mpp-override", 2)
    assert result.exit_code == 2
    assert "Give one of them" in result.stderr


def test_places_are_marked_on_the_scanned_part_alone(tmp_path: Path) -> None:
    """A place within it is drawn where it lies; one that is off it is listed, and not drawn."""
    many.write_mirax(tmp_path, RGB, mpp=2.0)
    looks = [(600, 300, 200, 200), (100, 1500, 200, 200)]

    def look_twice(request: dict[str, Any], number: int) -> Served:
        if number <= len(looks) and "verdict" not in json.dumps(request["tools"]):
            x, y, w, h = looks[number - 1]
            return calls(("zoom", {"x": x, "y": y, "w": w, "h": h, "mpp": 0, "reason": "Closer."}))
        return script(request, number)

    with ChatServer(look_twice) as server:
        where = ("--model", "openai:scripted", "--base-url", server.url, "--out", "run", "--max-steps", 4)
        result = giant("ask", "scan.mrxs", "Which?", "--option", "pink", "--option", "blue", *where)
    assert result.exit_code == 0, result.output
    from agent.report.pages import read_view

    view = read_view(Path("run"))
    assert view.overview is not None
    drawn = view.overview.drawn
    scale = drawn.width / 512
    boxes = [(box.x, box.y, box.w, box.h) for box in view.overview.boxes]
    assert (88 * scale, 44 * scale, 200 * scale, 200 * scale) in boxes
    assert all(x >= 0 and y >= 0 and x + w <= drawn.width and y + h <= drawn.height for x, y, w, h in boxes)
    assert looks[1] in [step.observation.box for step in view.steps]
