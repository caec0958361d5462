"""What `run.json` says of a run before it begins: the question, the slide, who answers, by which settings."""

from __future__ import annotations

import uuid
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from agent.run.records import RunRecord, SlideRecord, TokensRecord
from agent.session.models import model_records

if TYPE_CHECKING:
    from agent.session.request import Request
    from core_model.slides.slide import Slide


def run_record(request: Request, slide: SlideRecord | TokensRecord) -> RunRecord:
    """What this run is, for `run.json`. The models of the request are open."""
    answering, beside = model_records(request)
    return RunRecord(
        id=uuid.uuid4().hex,
        giant=giant_version(),
        question=request.question,
        options=request.options,
        seed=request.seed,
        model=answering,
        slide_model=beside,
        slide=slide,
        settings=request.settings,
    )


def described(slide: Slide, tissue_mm2: float | None = None) -> SlideRecord:
    """The slide as a run names it."""
    return SlideRecord(
        id=slide.id,
        width=slide.width,
        height=slide.height,
        mpp=slide.mpp,
        name=slide.name,
        mpp_source=slide.mpp_source,
        bounds=slide.bounds,
        tissue_mm2=tissue_mm2,
    )


def giant_version() -> str:
    """Version of the installed package; "source" where it runs without being installed."""
    try:
        return version("giant-pathology")
    except PackageNotFoundError:
        return "source"
