"""Open what a request names: slide, chat model, local model. Each says what tells it from others."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.run.folder import giant_version
from agent.run.records import ModelRecord, RunRecord, SlideRecord, TokensRecord

if TYPE_CHECKING:
    from agent.llm.client import ChatClient
    from agent.session.request import Request
    from core_model.slides.slide import Slide
    from core_model.specimen.annotations import Annotations
    from tools.render import Frame


THUMBNAIL_PX = 1024
"""Long side of the one image of mode thumbnail, as published with GIANT."""


@dataclass
class NoUsage:
    """Tokens of a model that is never asked."""

    tokens_in: int = 0
    tokens_out: int = 0


class NoSlideModel:
    """Stands where no local model takes part: it has a name and used nothing."""

    name, version, fingerprint = "none", "", ""

    def __init__(self) -> None:
        self.usage = NoUsage()


def opened(request: Request, stack: ExitStack) -> Request:
    """The request with everything open: the chat model first, because it costs least to find it missing."""
    if request.chats:
        chat = open_chat_model(request)
        slide = _open_slide(request, stack)
        return replace(request, model=chat, slide=slide, slide_model=open_slide_model(request))
    slide = _open_slide(request, stack)
    regions = _open_regions(request, slide, stack)
    return replace(request, slide=slide, regions=regions, model=open_local(request.model, request))


def open_chat_model(request: Request) -> ChatClient:
    """The chat model with its spending limit; one that is open already keeps everything else."""
    from agent.llm.client import ChatClient, open_chat

    limit = request.settings.max_cost
    if isinstance(request.model, ChatClient):
        return replace(request.model, max_cost=limit)
    settings = request.settings
    return open_chat(
        request.model,
        base_url=settings.base_url,
        max_cost=limit,
        prices=request.prices,
        timeout=settings.timeout,
    )


def chat_of(request: Request) -> ChatClient | None:
    """The chat model of a request that is open, with the limit of its run."""
    return replace(request.model, max_cost=request.settings.max_cost) if request.chats else None


def open_slide_model(request: Request) -> Any:
    """The local model behind `retrieve` and `ask_region`; none where neither is offered."""
    if request.settings.profile == "giant" or request.settings.mode != "agent":
        return NoSlideModel()
    return open_local(request.slide_model, request)


def open_local(model: Any, request: Request) -> Any:
    """A local model, with every part that this run needs."""
    if isinstance(model, str | Path):
        from core_model.models.wsi_llava import load_model

        model = load_model(model, bits=request.settings.bits)
    parts = ["llava"] if request.tokens else ["tile_encoder", "slide_encoder", "llava"]
    if request.settings.mode == "agent":
        parts.append("alignment")
    if hasattr(model, "need"):  # anything with the methods of a run is a model; ours may lack parts
        for part in parts:
            model.need(part)
    return model


def frame_for(request: Request) -> Frame:
    """The frame of regions: guides in the unit that a chat model names places in, or none."""
    from tools.render import MAX_PX, Frame

    if not request.chats:
        return Frame()
    from agent.chat.regions import frame_px

    if request.settings.mode != "agent":
        return Frame(max_px=THUMBNAIL_PX if request.settings.mode == "thumbnail" else MAX_PX)
    profile, survey = request.model.profile, request.settings.profile != "giant"
    px = frame_px(profile, survey)
    if not survey:
        return Frame(max_px=px, guides="lines", unit="level0")
    return Frame(max_px=px, guides="ticks", unit=profile.boxes, multiple=profile.image_multiple)


def model_records(request: Request) -> tuple[ModelRecord, ModelRecord | None]:
    """The record of the model that answers, and of the local model beside a chat model."""
    if not request.chats:
        return local_record(request.model), None
    chat = request.model
    answering = ModelRecord(name=chat.name, version="", fingerprint=chat_fingerprint(request))
    slide_model = None if isinstance(request.slide_model, NoSlideModel) else local_record(request.slide_model)
    return answering, slide_model


def local_record(model: Any) -> ModelRecord:
    """A local model as `run.json` names it."""
    return ModelRecord(name=model.name, version=model.version, fingerprint=fingerprint(model))


def chat_fingerprint(request: Request) -> str:
    """The identity of a chat model as it is used here: its name, profile and our prompts.

    Where it is served is none of it: the same model may move to another port or machine.
    """
    from agent.chat import prompts

    about = dataclasses.asdict(request.model.profile)
    known = [request.model.name, about, prompts.prompts_digest()]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def fingerprint(model: Any) -> str:
    """The identity of weights: a digest of the checkpoint's manifest, which lists the digests of all files.

    A model that comes from no checkpoint folder says its own `fingerprint`.
    """
    if hasattr(model, "fingerprint"):
        return str(model.fingerprint)
    return hashlib.sha256((Path(model.folder) / "manifest.json").read_bytes()).hexdigest()[:16]


def _open_slide(request: Request, stack: ExitStack) -> Slide:
    from core_model.slides.slide import open_slide

    if isinstance(request.slide, str | Path):
        settings = request.settings
        slide = open_slide(request.slide, settings.mpp, settings.mpp_override, isolate=request.isolate)
        return stack.enter_context(slide)
    return request.slide


def _open_regions(request: Request, slide: Slide, stack: ExitStack) -> Annotations | None:
    """The annotated regions, of which the slide tells while the request is open."""
    from core_model.specimen.annotations import read_annotations

    if request.regions is None:
        return None
    regions, before = read_annotations(request.regions, slide), slide.warnings
    slide.warnings = (*before, f"Only tissue in {regions.words} was looked at.", *regions.notices)
    stack.callback(setattr, slide, "warnings", before)
    return regions


def run_record(request: Request, slide: SlideRecord | TokensRecord) -> RunRecord:
    """The record of this run for `run.json`. The models of the request must be open."""
    answering, slide_model = model_records(request)
    return RunRecord(
        id=uuid.uuid4().hex,
        giant=giant_version(),
        question=request.question,
        options=request.options,
        seed=request.seed,
        model=answering,
        slide_model=slide_model,
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
        mpp_x=None if slide.square else slide.mpp_x,
        mpp_y=None if slide.square else slide.mpp_y,
        reader=slide.reader,
        bounds=slide.bounds,
        tissue_mm2=tissue_mm2,
        warnings=list(slide.warnings),
    )


def quieten_libraries(quiet: bool) -> None:
    """Our warnings as plain lines on stderr; no chatter and no bars from libraries."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.basicConfig(level=logging.ERROR if quiet else logging.WARNING, format="%(message)s")
