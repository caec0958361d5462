"""The pages of a batch: one for each slide, and an index of them all.

A slide's page holds small copies of its images, so it can be passed on by itself; the index shows the
thumbnails that lie in the slides' folders. Neither runs scripts or loads anything from elsewhere.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from agent.batch.questions import SectionName
from agent.batch.records import Cited, Sentence, SlideReport
from agent.report.figures import Drawn, drawn_part
from core_model.errors import RunError
from core_model.files import replacing, write_text
from core_model.slides.box import Box

THUMBNAIL, REPORTS, FAILURES = "thumbnail.jpg", "reports.jsonl", "failures.csv"
MAP_PX, ROW_PX, SHOT_PX = 760, 320, 240
"""Longest side of the overview on a slide's page, of its thumbnail in the index, and of a region's copy."""
SHOTS = 4
"""Regions shown beside a sentence; what else it rests on is linked."""
HEADLINES: tuple[SectionName, ...] = ("diagnosis", "grade")
FAILURE_COLUMNS = ("slide", "path", "type", "error")


@dataclass(frozen=True)
class Done:
    """A slide that is reported on."""

    path: str
    report: SlideReport

    @property
    def line(self) -> str:
        """Its line of `reports.jsonl`."""
        from json import dumps

        return dumps({"path": self.path, **self.report.model_dump(mode="json")}, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Failure:
    """A slide that could not be reported on."""

    slide: str
    path: str
    kind: str
    """Class of the error."""
    error: str


@dataclass(frozen=True)
class PlaceMark:
    """A place on the overview that a sentence rests on: x, y, w, h in px of the overview's tissue part."""

    cited: Cited
    section: SectionName
    text: str
    at: tuple[float, float, float, float]


@dataclass(frozen=True)
class SlidePage:
    """The values that the template of a slide's page shows."""

    folder: Path
    made: SlideReport

    @property
    def whole(self) -> Box:
        """The whole slide."""
        return Box(0, 0, self.made.specimen.width, self.made.specimen.height)

    @property
    def scanned(self) -> Box:
        """The part of it that the overview shows."""
        return self.made.overview.box if self.made.overview is not None else self.whole

    @property
    def headlines(self) -> list[Sentence]:
        """Diagnosis and grade, without the sentences that speak against them."""
        sentences = [s for name in HEADLINES for s in self.made.section(name).sentences]
        return [sentence for sentence in sentences if not sentence.against]

    @property
    def open(self) -> list[tuple[list[str], str]]:
        """Which headlines are missing, by the reason that they have in common."""
        reasons: dict[str, list[str]] = {}
        for name in HEADLINES:
            sentences = [s for s in self.made.section(name).sentences if not s.against]
            if sentences and all(sentence.abstained for sentence in sentences):
                reasons.setdefault(sentences[-1].why or "", []).append(name)
        return [(names, why) for why, names in reasons.items()]

    @cached_property
    def map(self) -> Drawn | None:
        """The part of the overview's image that is the slide, with its scale bar."""
        overview, sides = self.made.overview, self.made.specimen.sides
        if overview is None:
            return None
        return drawn_part(
            (overview.width_px, overview.height_px),
            overview.box,
            overview.box.w * sides[0] / overview.width_px,
            sides,
        )

    @cached_property
    def marks(self) -> list[PlaceMark]:
        """Every place smaller than the slide that a sentence rests on, the first sentence for each."""
        if self.map is None:
            return []
        scanned, marks = self.scanned, dict[Box, PlaceMark]()
        sx, sy = self.map.width / scanned.w, self.map.height / scanned.h
        for section in self.made.sections:
            for sentence in section.sentences:
                for evidence in self.places(sentence.evidence):
                    box = (evidence.box or scanned).intersect(scanned)
                    if box is None:
                        continue
                    x, w = (round(v * sx, 1) for v in (box.x - scanned.x, box.w))
                    y, h = (round(v * sy, 1) for v in (box.y - scanned.y, box.h))
                    marks.setdefault(box, PlaceMark(evidence, section.name, sentence.text, (x, y, w, h)))
        return sorted(marks.values(), key=lambda mark: -mark.at[2] * mark.at[3])  # small ones on top

    def places(self, evidence: Iterable[Cited]) -> list[Cited]:
        """Evidence that shows a part of the slide, the finest first."""
        wholes = (self.whole, self.scanned)
        parts = [c for c in evidence if c.image and c.box is not None and c.box not in wholes and c.mpp]
        return sorted(parts, key=lambda item: (item.mpp or 0.0, item.run, item.step))

    def overview(self) -> str:
        """The overview as a data URI."""
        overview = self.made.overview
        assert overview is not None
        return _uri(_small(self.folder / overview.image, (overview.width_px, overview.height_px), MAP_PX))

    def shot(self, evidence: Cited) -> str:
        """A small copy of a region as a data URI, without its caption."""
        assert evidence.image is not None
        assert evidence.box is not None
        assert evidence.mpp is not None
        path = self.folder / evidence.image
        with Image.open(path) as image:
            figure = drawn_part(image.size, evidence.box, evidence.mpp, self.made.specimen.sides)
        return _uri(_small(path, (figure.width, figure.height), SHOT_PX))


def write_slide_pages(folder: Path, report: SlideReport) -> None:
    """Write `thumbnail.jpg`, `report.html` and `report.md` into a slide's folder.

    Raises `RunError` where an image is missing or nothing can be written.
    """
    page = SlidePage(folder, report)
    try:
        if report.overview is not None:
            part = (report.overview.width_px, report.overview.height_px)
            with replacing(folder / THUMBNAIL) as temporary:
                temporary.write_bytes(_small(folder / report.overview.image, part, ROW_PX))
        html = render("slide.html.j2", p=page, made=report, shots=SHOTS)
    except OSError as error:
        raise RunError(f"the pages of this slide cannot be made ({error})", where=folder) from error
    write_text(folder / "report.html", html)
    write_text(folder / "report.md", render("slide.md.j2", made=report))


def write_index(out: Path, slides: Sequence[Done], failures: Sequence[Failure], total: int) -> None:
    """`reports.jsonl`, `failures.csv` and `index.html` for what is done so far of `total` slides."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(FAILURE_COLUMNS)
    writer.writerows((f.slide, f.path, f.kind, f.error) for f in failures)
    write_text(out / REPORTS, "".join(slide.line for slide in slides))
    write_text(out / FAILURES, table.getvalue())
    reports = [slide.report for slide in slides]
    waiting = total - len(slides) - len(failures)
    page = render("index.html.j2", reports=reports, failures=failures, left=waiting, thumbnail=THUMBNAIL)
    write_text(out / "index.html", page)


def render(template: str, **values: Any) -> str:
    """One of our templates, filled in."""
    from agent.report.pages import environment
    from agent.text import NOTICE

    templates = environment(html=template.endswith(".html.j2"))
    return templates.get_template(template).render(notice=NOTICE, **values)


def _small(path: Path, part: tuple[int, int], longest: int) -> bytes:
    """The top left part of an image, made smaller, as a JPEG. Raises `OSError`."""
    with Image.open(path) as image:
        tissue = image.convert("RGB").crop((0, 0, *part))
    tissue.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    tissue.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def _uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
