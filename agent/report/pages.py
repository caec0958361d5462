"""A finished run folder as pages a person can read: `report.html`, `report.md`, `evidence.geojson`.

    run.json, trace.jsonl, answer.json, regions/*.jpg  ──>  RunView  ──>  templates/  ──>  three files

Nothing but the run folder is read: no slide, no model, no network. The same folder gives the same bytes.
Every text comes from users or models, so the HTML template escapes all of it and its page may load nothing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from agent.evidence.check import unsupported_note
from agent.report.figures import Figure, OverviewMap, evidence_geojson, step_figure
from agent.run.folder import read_answer, read_run, read_trace
from agent.run.records import Answer, Claim, RunRecord, SlideRecord, Step, TokensRecord
from agent.text import NOTICE, human_length, human_money, human_share, markdown_text
from core_model.errors import RunError
from core_model.files import write_text
from core_model.slides.box import magnification

if TYPE_CHECKING:
    from jinja2 import Environment

MPP_SOURCES = {
    "property": "the file",
    "description": "the description in the file",
    "tiff-resolution": "the TIFF resolution",
    "image-density": "the density in the image",
    "user": "the user",
}
"""Where the µm per pixel come from, in words."""


@dataclass(frozen=True)
class RunView:
    """What the templates see of one run."""

    folder: Path
    run: RunRecord
    answer: Answer
    steps: tuple[Step, ...]

    @property
    def notice(self) -> str:
        """The sentence that every page carries."""
        return NOTICE

    @property
    def tokens(self) -> TokensRecord | None:
        """What was asked about in place of a slide; None where there was a slide."""
        return self.run.slide if isinstance(self.run.slide, TokensRecord) else None

    @property
    def slide(self) -> SlideRecord:
        """The slide. Only where there was one."""
        if not isinstance(self.run.slide, SlideRecord):
            raise RunError("shows steps, but was about no slide", where=self.folder)
        return self.run.slide

    @property
    def mpp_source(self) -> str:
        """Where the µm per pixel come from, in words."""
        return MPP_SOURCES.get(self.slide.mpp_source, self.slide.mpp_source)

    @cached_property
    def cited(self) -> frozenset[int]:
        """Indices of the steps that the answer rests on."""
        indices = {e.step for e in self.answer.evidence}
        return frozenset(indices.union(*(claim.steps for claim in self.answer.claims)))

    @property
    def text(self) -> str:
        """The answer in words, without what the check added to it: the page shows that in its own place."""
        return self.answer.answer.removesuffix(unsupported_note(self.run.unsupported))

    @property
    def claims(self) -> list[tuple[str, list[tuple[int, Claim]]]]:
        """Claims with their numbers, under the headings that they stand below; empty ones are left out."""
        pairs = list(enumerate(self.answer.claims, 1))
        headings = ("Speaks for the answer", "Speaks against it")
        sides = [(title, [c for c in pairs if c[1].against == i]) for i, title in enumerate(headings)]
        return [(title, claims) for title, claims in sides if claims]

    @cached_property
    def known(self) -> frozenset[int]:
        """Indices of the steps that there are."""
        return frozenset(step.index for step in self.steps)

    @property
    def marked(self) -> int:
        """Claims that are not supported."""
        return sum(claim.unsupported is not None for claim in self.answer.claims)

    @property
    def other_faults(self) -> list[str]:
        """What the check found wrong beside the claims."""
        return [fault for fault in self.run.unsupported if not fault.startswith("Claim ")]

    @cached_property
    def overview(self) -> OverviewMap | None:
        """The whole slide with the boxes looked at; None where the run never showed it."""
        for step in self.steps:
            observation = step.observation
            if step.action.tool == "overview" and observation.image and observation.box and observation.mpp:
                size = self.image_size(observation.image)
                return OverviewMap.of(self.steps, step, size, self.slide.sides, self.cited)
        return None

    @cached_property
    def figures(self) -> tuple[Figure, ...]:
        """One figure for each step, in order."""
        return tuple(
            step_figure(step, step.index in self.cited, self.slide.sides, self.image_size)
            for step in self.steps
        )

    @cached_property
    def leaning(self) -> list[tuple[str, float]]:
        """Hypotheses after the last step that weighed them, most probable first."""
        posteriors = [step.posterior for step in self.steps if step.posterior]
        return sorted(posteriors[-1].items(), key=lambda item: (-item[1], item[0])) if posteriors else []

    def image_path(self, name: str) -> Path:
        """Path of an image of this run; a name that leads out of the run folder is refused."""
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder.resolve()) or not path.is_file():
            raise RunError(f"image {name!r} of the trace is not in the run folder", where=self.folder)
        return path

    def image_size(self, name: str) -> tuple[int, int]:
        """(width, height) in px of an image of this run."""
        path = self.image_path(name)
        try:
            with Image.open(path) as image:
                return image.size
        except OSError as error:
            raise RunError(f"image {name!r} does not decode", where=self.folder) from error

    def data_uri(self, name: str) -> str:
        """An image of this run, inlined."""
        path = self.image_path(name)
        kind = "png" if path.suffix == ".png" else "jpeg"
        return f"data:image/{kind};base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def read_view(folder: Path) -> RunView:
    """The records of a finished run. Raises `RunError` where one is missing, incomplete or malformed."""
    return RunView(folder, read_run(folder), read_answer(folder), tuple(read_trace(folder)))


def write_reports(run_folder: Path) -> None:
    """Write `report.html`, `report.md` and `evidence.geojson` into a finished run folder.

    Raises `RunError` where a record or an image is missing or malformed; then nothing is written.
    """
    view = read_view(Path(run_folder))
    pages = {
        "report.html": environment(html=True).get_template("report.html.j2").render(v=view),
        "report.md": environment(html=False).get_template("report.md.j2").render(v=view),
        "evidence.geojson": json.dumps(
            evidence_geojson(view.run, view.answer, view.steps), indent=1, ensure_ascii=False
        )
        + "\n",
    }
    for name, text in pages.items():
        write_text(view.folder / name, text)


@cache
def environment(*, html: bool) -> Environment:
    """Jinja set up with our filters; HTML escapes everything, Markdown through the `md` filter.

    Made once, because compiling the templates takes longer than filling them in.
    """
    filters: dict[str, Callable[..., str]] = {
        "percent": lambda share: human_share(share).replace(" %", "\u00a0%"),
        "count": lambda number: f"{number:,}",
        "mpp": lambda value: f"{value:.3g} µm/px",
        "times": lambda value: f"{magnification(value):.3g}×",
        "length_um": human_length,
        "usd": human_money,
        "md": markdown_text,
    }
    folder = Path(__file__).parent / "templates"
    return jinja_environment(folder, filters, autoescape=html, keep_trailing_newline=True)


def jinja_environment(folder: Path, filters: Mapping[str, Callable[..., str]], **options: Any) -> Environment:
    """Jinja over the templates of a folder: an unknown name is an error, a line of logic leaves no blank."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    jinja = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )
    jinja.filters.update(filters)
    return jinja
