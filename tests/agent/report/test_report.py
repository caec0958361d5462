"""Reports from a run folder alone: what stands in them, what cannot get in, boxes as QuPath reads them."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from agent_fakes import run_record
from PIL import Image
from qupath import read_qupath

from agent.report.pages import write_reports
from agent.run.records import (
    Action,
    Answer,
    Claim,
    Cost,
    Evidence,
    ModelRecord,
    SlideFacts,
    SlideRecord,
    Step,
    Unreadable,
    Vote,
)
from agent.text import human_share, markdown_text
from core_model.errors import RunError
from core_model.slides.box import Box
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
    run = run_record(
        giant="1",
        question=answer.question,
        model=ModelRecord(name="mini", version="3", fingerprint="f00d"),
        slide=SlideRecord(**FACTS, name="case 7", bounds=bounds, tissue_mm2=1.5),
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
    assert "No answer" in page.text
    assert "does not know this kind of slide" in page.text
    assert "Not supported by what was seen" in page.text
    assert "Step 9 is cited" in page.text
    assert "**No answer.**" in (folder / "report.md").read_text()


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    write_reports(folder)
    first = [(folder / name).read_bytes() for name in FILES]
    write_reports(folder)
    assert [(folder / name).read_bytes() for name in FILES] == first
    assert not list(folder.glob(".*"))


def test_geojson_follows_qupath(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", bounds=Box(100, 50, 3000, 2000), claims=CLAIMS)
    write_reports(folder)
    found = read_qupath(folder / "evidence.geojson", 3000, 2000)
    assert [f["properties"]["name"] for f in found] == ["step 2", "unreadable tile"]
    ring = found[0]["geometry"]["coordinates"][0]
    assert ring[0] == [900, 750]  # counted from the corner of the scanned bounds
    assert ring[2] == [1500, 1150]
    assert found[0]["properties"]["measurements"]["P(focal)"] == 0.8
    texts = found[0]["properties"]["metadata"]
    assert texts["for"] == "Focal necrosis."
    assert texts["against"] == "No necrosis elsewhere."
    assert texts["unsupported"] == "No mitoses."


def test_hostile_texts_stay_texts_in_geojson(tmp_path: Path) -> None:
    hostile = HOSTILE + '", "objectType": "detection"} \u2028 \x00'
    claims = [Claim(text=hostile, steps=[2])]
    folder = write_run(tmp_path / "run", finding=hostile, claims=claims)
    write_reports(folder)
    found = read_qupath(folder / "evidence.geojson", 4000, 3000)
    assert found[0]["properties"]["metadata"]["for"] == hostile


SEEN = "42 % of the tissue was seen at ≤ 8 µm/px"
CLAIMS = [
    Claim(text="Focal necrosis.", steps=[2]),
    Claim(text="No necrosis elsewhere.", steps=[2], against=True, seen=SEEN, limited=True),
    Claim(text="No mitoses.", steps=[2], unsupported="the absence of “mitoses” needs 0.5 µm/px or finer"),
    Claim(text="Seen elsewhere.", steps=[9], unsupported="it cites step 9, which does not exist"),
]


def test_claims_stand_with_their_steps_and_verdicts(tmp_path: Path) -> None:
    problems = ["Claim 3 does not stand.", "Claim 4 does not stand.", "The confidence is 7, outside 0 to 1."]
    text = "Focal. 42 % was seen. Unsupported: " + " ".join(problems)
    folder = write_run(tmp_path / "run", claims=CLAIMS, answer=text, unsupported=problems)
    page = read_page(folder)
    words = " ".join(page.text.split())
    for part in (
        *("Speaks for the answer", "Speaks against it", "2 of 4 claims", "The confidence is 7"),
        *("Limited: 42 % of the tissue was seen at ≤ 8 µm/px.", "Not supported: the absence of “mitoses”"),
    ):
        assert part in words, part
    assert words.count("does not stand") == 0, "said beside the claim, once"
    links = [a["href"] for a in page.all("a")]
    assert links.count("#step-2") >= 3
    assert "#step-9" not in links, "no link leads nowhere"
    ids = {attrs["id"] for _, attrs in page.tags if attrs.get("id")}
    assert {str(link)[1:] for link in links} <= ids
    kinds = [a["class"] for a in page.all("li") if "claim" in (a.get("class") or "").split()]
    assert kinds == ["claim", "claim bad", "claim bad", "claim limited"]
    markdown = (folder / "report.md").read_text()
    assert "**Not supported.** No mitoses. (step [2](#step-2))" in markdown
    assert "**Limited.** No necrosis elsewhere." in markdown
    assert '<a id="step-2"></a>' in markdown


def test_votes_money_people_and_both_models_are_told(tmp_path: Path) -> None:
    votes = [
        Vote(run=f"votes/{i}", seed=i, choice=choice, answer="a", confidence=0.5, abstained=choice is None)
        for i, choice in enumerate(("focal", "focal", None), 1)
    ]
    cost = Cost(seconds=3.0, tokens_in=12345, tokens_out=99, calls=7, usd=0.0421)
    folder = write_run(tmp_path / "run", votes=votes, agreement=2 / 3, cost=cost)
    run = json.loads((folder / "run.json").read_text())
    run["slide_model"] = {"name": "mini", "version": "3", "fingerprint": "51de"}
    run["model"] = {"name": "openai:some-model", "version": "", "fingerprint": "c4a7"}
    run["settings"] |= {"navigator": "chat", "profile": "survey", "votes": 3, "max_cost": 1.0}
    (folder / "run.json").write_text(json.dumps(run))
    trace = (folder / "trace.jsonl").read_text()
    (folder / "trace.jsonl").write_text(trace.replace('"by":"navigator"', '"by":"person"', 2))
    page = read_page(folder)
    words = " ".join(page.text.split())
    for part in (
        *(
            "67 %",
            "of 3 votes",
            "votes/3",
            "abstained",
            "7 calls to the chat model, $0.0421 of at most $1.00",
        ),
        *("openai:some-model", "Slide model", "mini 3", "chosen by a person", "navigator chat (survey)"),
    ):
        assert part in words, part
    assert words.count("chosen by a person") == 2
    markdown = (folder / "report.md").read_text()
    assert "| Agreement | 67\u00a0% of 3 votes |" in markdown
    assert "$0.0421" in markdown


def test_texts_of_claims_and_votes_cannot_become_markup(tmp_path: Path) -> None:
    claims = [
        Claim(text=HOSTILE, steps=[2], section=HOSTILE),
        Claim(text=HOSTILE, steps=[2], against=True, unsupported=HOSTILE),
        Claim(text=HOSTILE, steps=[2], limited=True, seen=HOSTILE),
    ]
    votes = [Vote(run="votes/1", seed=1, choice=HOSTILE, answer=HOSTILE, confidence=0.5, abstained=False)]
    folder = write_run(tmp_path / "run", claims=claims, votes=votes, agreement=1.0)
    page = read_page(folder)
    assert not page.all("script")
    assert not [a for a in page.all("img") if "onerror" in a]
    markdown = (folder / "report.md").read_text()
    assert "<script" not in markdown
    assert "**not bold**" not in markdown
    assert "](http" not in markdown


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


def test_claims_that_were_not_checked_stand_out(tmp_path: Path) -> None:
    why = "it is in a language in which claims are not checked"
    folder = write_run(tmp_path / "run", claims=[Claim(text="Brak mitoz.", steps=[2], unchecked=why)])
    page = read_page(folder)
    assert f"Not checked: {why}." in " ".join(page.text.split())
    items = [a.get("class") or "" for a in page.all("li")]
    assert [name for name in items if "claim" in name.split()] == ["claim limited"]
    assert f"**Not checked.** Brak mitoz. (step [2](#step-2)): *{why}*" in (folder / "report.md").read_text()
