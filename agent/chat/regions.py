"""How a model is told of regions: which go along as images, what is said of each, how it is sent."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.text import box_in_words, first_sentences
from core_model.errors import RunError
from core_model.slides.box import magnification
from tools.render import MAX_PX

if TYPE_CHECKING:
    from agent.graph.state import AgentContext
    from agent.llm.profiles import ModelProfile
    from agent.run.records import Step
    from tools.records import Observation

REGIONS = 8
"""Regions that stay as images beside the overview."""

Block = dict[str, Any]


def profile_of(context: AgentContext) -> ModelProfile:
    """The profile of the run's chat model."""
    assert context.chat is not None  # a chat navigator is only made for one
    return context.chat.profile


def steps_in_context(
    steps: Sequence[Step], profile: ModelProfile, survey: bool, most: int | None = None
) -> set[int]:
    """The steps whose images a model is sent: the overview and the last few, as many as it takes.

    `most` is how many its server takes, where that is known to be fewer.
    """
    with_image = [step.index for step in steps if step.observation.ok and step.observation.image]
    most = profile.max_images if most is None else most
    most = min(most, REGIONS + 1) if survey else most
    if len(with_image) <= most:
        return set(with_image)
    return {with_image[0], *with_image[1 - most :]} if most > 1 else {with_image[-1]}


def region_line(step: Step) -> str:
    """A region with its true box, resolution and magnification."""
    box, mpp = step.observation.box, step.observation.mpp
    place = "" if box is None else f" box {box_in_words(box)} in level-0 px,"
    scale = "" if mpp is None else f" {mpp:.3g} µm/px ({magnification(mpp):.3g}x)"
    return f"Step {step.index}, {step.action.tool}:{place}{scale}"


def tool_words(observation: Observation) -> str:
    """The finding of a step in the words of its tool, before the model has seen the image."""
    words = first_sentences(observation.text)
    return words if observation.ok else f"Nothing was seen: {words}"


def has_own_finding(step: Step) -> bool:
    """Whether the model has said what a step showed."""
    return step.finding != tool_words(step.observation)


def tissue_text(steps: Sequence[Step]) -> str:
    """Where the tissue lies, from the overview."""
    data = steps[0].observation.data if steps else {}
    pieces = data.get("pieces")
    if not pieces:
        return "see the overview."
    boxes = "; ".join(box_in_words(piece) for piece in pieces[:REGIONS])
    more = f"; and {len(pieces) - REGIONS} smaller" if len(pieces) > REGIONS else ""
    return f"{data.get('tissue_mm2', 0):.2f} mm² in {len(pieces)} pieces, boxes in level-0 px: {boxes}{more}."


def frame_px(profile: ModelProfile, survey: bool) -> int:
    """Long side of the regions that a model is shown, px."""
    return min(MAX_PX, profile.max_image_px) if survey else MAX_PX


def image_block(path: Path) -> Block:
    """A kept image as LangChain passes images to any provider. Raises `RunError` where it is gone."""
    try:
        data = _base64_of(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise RunError(f"an image of the run cannot be read ({error.strerror})", where=path) from error
    return {"type": "image", "base64": data, "mime_type": "image/jpeg"}


@lru_cache(maxsize=32)
def _base64_of(path: Path, modified_ns: int) -> str:
    """The file in base64. The same few images go out with every call of a run."""
    return base64.b64encode(path.read_bytes()).decode("ascii")
