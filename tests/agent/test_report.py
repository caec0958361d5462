"""Reports from a run folder alone: what stands in them, what cannot get in, boxes as QuPath reads them."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agent.records import (
    Action,
    Answer,
    Evidence,
    ModelRecord,
    RunRecord,
    Settings,
    SlideFacts,
    SlideRecord,
    Step,
    Unreadable,
)
from agent.report import markdown_text, write_reports
from agent.report_figures import human_share
from core_model.errors import RunError
from core_model.slide import Box
from tools.records import Observation

FACTS: dict[str, Any] = {"id": "ab12", "width": 4000, "height": 3000, "mpp": 0.5}
WHOLE, BOX = Box(0, 0, 4000, 3000), Box(1000, 800, 600, 400)
FILES = ("report.html", "report.md", "evidence.geojson")
HOSTILE = "</h1><script>alert(1)</script><img src=x onerror=alert(2)> **not bold** {{ 7 * 7 }} [a](http://b)"


def steps(finding: str = "Here: focal 0.80.") -> list[Step]:
    seen = [
        Observation(tool="overview", text="t", box=WHOLE, mpp=10.0, image="regions/overview.jpg"),
        Observation(tool="zoom", text="t", box=BOX, mpp=1.0, image="regions/zoom.jpg"),
        Observation(tool="zoom", ok=False, text="Refused.", box=None),
    ]
    return [
        Step(
            index=i,
            action=Action(tool=o.tool, reason="to see"),
            observation=o,
            finding=finding if i == 2 else "The whole.",
            posterior={"focal": 0.8, "absent": 0.2} if i == 2 else None,
        )
        for i, o in enumerate(seen, 1)
    ]


def write_run(
    folder: Path, *, bounds: Box = WHOLE, finding: str = "Here: focal 0.80.", **changes: Any
) -> Path:
    """A run folder as a session leaves it; `changes` are fields of the answer, or `unsupported`."""
    (folder / "regions").mkdir(parents=True)
    Image.new("RGB", (300, 184), (200, 120, 160)).save(folder / "regions" / "overview.jpg")
    Image.new("RGB", (300, 234), (150, 90, 160)).save(folder / "regions" / "zoom.jpg")
    unsupported = changes.pop("unsupported", [])
    given = {
        "question": "Is there necrosis?",
        "answer": "Focal. Of the tissue 42 % was seen.",
        "choice": "focal",
        "options": ["focal", "absent"],
        "confidence": 0.8,
        "evidence": [
            Evidence(step=2, tool="zoom", box=BOX, mpp=1.0, finding="Focal.", image="regions/zoom.jpg")
        ],
        "coverage": {"1.0": 0.42},
        "steps": 3,
        "model": "mini",
        "mode": "agent",
        "slide": SlideFacts(**FACTS),
        "run_dir": str(folder),
    } | changes
    answer = Answer(**given)
    run = RunRecord(
        giant="1",
        question=answer.question,
        model=ModelRecord(name="mini", version="3", fingerprint="f00d"),
        slide=SlideRecord(**FACTS, name="case 7", bounds=bounds, tissue_mm2=1.5),
        settings=Settings(mode="agent", navigator="search", max_steps=9),
        tiles=40,
        unreadable=[Unreadable(box=Box(64, 64, 32, 32), why="does not decode")],
        unsupported=unsupported,
    )
    (folder / "run.json").write_text(run.model_dump_json())
    (folder / "answer.json").write_text(answer.model_dump_json())
    (folder / "trace.jsonl").write_text("".join(s.model_dump_json() + "\n" for s in steps(finding)))
    return folder


class Reader(HTMLParser):
    """Collects tags, what they load, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def read_page(folder: Path) -> Reader:
    write_reports(folder)
    return Reader((folder / "report.html").read_text())


def test_page_says_what_matters(tmp_path: Path) -> None:
    page = read_page(write_run(tmp_path / "run"))
    text = " ".join(page.text.split())  # also turns spaces that do not break into plain ones
    for part in (
        *("Is there necrosis?", "focal", "80 %", "42 %", "Not for diagnosis.", "mini 3", "case 7"),
        *("1 µm/px (10×)", "300 µm × 200 µm", "1,000, 800; 600 × 400 px", "1 could not be read", "1.50 mm²"),
        *("Here: focal 0.80.", "not possible", "Why here: to see"),
    ):
        assert part in text, part


def test_page_loads_nothing(tmp_path: Path) -> None:
    page = read_page(write_run(tmp_path / "run"))
    sources = [a["src"] for a in page.all("img")] + [a["href"] for a in page.all("image")]
    assert len(sources) == 2
    assert all(source and source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not page.all("script")
    assert not page.all("link")
    assert all(a["href"] and a["href"].startswith("#") for a in page.all("a"))
    style = (tmp_path / "run" / "report.html").read_text()
    assert "url(" not in style
    assert "@import" not in style


def test_images_have_alternatives_and_the_page_a_language(tmp_path: Path) -> None:
    page = read_page(write_run(tmp_path / "run"))
    assert page.all("html")[0]["lang"] == "en"
    assert all("1 µm per pixel" in (a["alt"] or "") for a in page.all("img"))
    assert "1 numbered box" in (page.all("svg")[0]["aria-label"] or "")


def test_boxes_stand_where_they_were(tmp_path: Path) -> None:
    """The overview is 200 x 150 px of slide (10 µm/px) in an image with margin and caption."""
    page = read_page(write_run(tmp_path / "run"))
    assert page.all("svg")[0]["viewbox"] == "0 0 200 150"
    box = next(a for a in page.all("rect") if a["class"] == "box")
    assert [box[k] for k in ("x", "y", "width", "height")] == ["50.0", "40.0", "30.0", "20.0"]
    bars = re.findall(
        r'<i style="width:([\d.]+)%"></i><b>([^<]+)</b></span>',
        html.unescape((tmp_path / "run/report.html").read_text()),
    )
    assert bars == [("25.0", "500 µm"), ("16.67", "50 µm")]


def test_texts_cannot_become_markup(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", question=HOSTILE, answer=HOSTILE, choice=None, finding=HOSTILE)
    page = read_page(folder)
    assert not page.all("script")
    assert not [a for a in page.all("img") if "onerror" in a]
    assert page.text.count(HOSTILE) >= 3
    markdown = (folder / "report.md").read_text()
    assert "<script" not in markdown
    assert "**not bold**" not in markdown
    assert "](http" not in markdown


def test_abstention_and_unsupported_claims_stand_out(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "run",
        choice=None,
        abstained=True,
        reason="The model does not know this kind of slide.",
        confidence=0.0,
        unsupported=["Step 9 is cited and does not exist."],
    )
    page = read_page(folder)
    assert "No answer: the model abstained" in page.text
    assert "does not know this kind of slide" in page.text
    assert "Not supported by what was seen" in page.text
    assert "Step 9 is cited" in page.text
    assert "the model abstained" in (folder / "report.md").read_text()


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    write_reports(folder)
    first = [(folder / name).read_bytes() for name in FILES]
    write_reports(folder)
    assert [(folder / name).read_bytes() for name in FILES] == first
    assert not list(folder.glob(".*"))


def test_geojson_follows_qupath(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", bounds=Box(100, 50, 3000, 2000))
    write_reports(folder)
    found = json.loads((folder / "evidence.geojson").read_text())
    assert found["type"] == "FeatureCollection"
    assert [f["properties"]["name"] for f in found["features"]] == ["step 2", "unreadable tile"]
    for feature in found["features"]:
        properties = feature["properties"]
        assert properties["objectType"] == "annotation"
        colour = properties["classification"]["color"]
        assert properties["classification"]["name"]
        assert len(colour) == 3
        assert all(isinstance(c, int) and 0 <= c <= 255 for c in colour)
        assert all(isinstance(v, int | float) for v in properties["measurements"].values())
        assert all(isinstance(v, str | int | float) for v in properties["metadata"].values())
        ring = feature["geometry"]["coordinates"][0]
        assert ring[0] == ring[-1]
    ring = found["features"][0]["geometry"]["coordinates"][0]
    assert ring[0] == [900, 750]  # counted from the corner of the scanned bounds
    assert ring[2] == [1500, 1150]
    assert found["features"][0]["properties"]["measurements"]["P(focal)"] == 0.8


@pytest.mark.parametrize("name", ["run.json", "answer.json", "trace.jsonl", "regions/zoom.jpg"])
def test_an_incomplete_run_is_refused_and_nothing_written(tmp_path: Path, name: str) -> None:
    folder = write_run(tmp_path / "run")
    (folder / name).unlink()
    with pytest.raises(RunError):
        write_reports(folder)
    assert not any((folder / file).exists() for file in FILES)


def test_an_image_outside_the_run_folder_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.jpg")
    trace = folder / "trace.jsonl"
    trace.write_text(trace.read_text().replace("regions/zoom.jpg", "../secret.jpg"))
    with pytest.raises(RunError, match="secret"):
        write_reports(folder)


def test_shares_are_all_or_nothing_only_where_they_are() -> None:
    shares = [0, 0.001, 0.5, 0.996, 1]
    assert [human_share(s) for s in shares] == ["0 %", "under 1 %", "50 %", "over 99 %", "100 %"]


def test_markdown_text_is_one_plain_line() -> None:
    assert markdown_text("a\n# b | <c>") == "a \\# b \\| &lt;c&gt;"
