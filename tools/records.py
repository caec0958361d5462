"""What goes into a tool and what comes out: typed arguments and the observation.

Every tool returns an `Observation`; its `image` is a path, never pixels, so that states, traces and
checkpoints stay small.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from core_model.slides.box import Box


def _has_area(box: Box) -> Box:
    if box.w <= 0 or box.h <= 0:
        raise ValueError("a box is x, y, width, height in level-0 pixels, with width and height above 0")
    return box


SolidBox = Annotated[Box, AfterValidator(_has_area)]
"""A box with area. Whether it lies on the slide only the slide can say."""


class Observation(BaseModel):
    """The result of one tool call: words, and where it showed pixels their box, resolution and file."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    tool: str
    ok: bool = True
    """False where the call was refused or the pixels do not decode; `text` then says what is valid."""
    text: str
    """The observation in words, complete without the image."""
    box: Box | None = None
    """What was shown, in level-0 px."""
    mpp: float | None = None
    """True resolution of the image shown, µm/px."""
    image: str | None = None
    """JPEG of the region, relative to the run folder."""
    pixels_sha256: str | None = None
    """Hash of the RGB pixels as read from the slide, before anything is drawn on them."""
    image_sha256: str | None = None
    """Hash of the file `image`."""
    data: dict[str, Any] = Field(default_factory=dict)
    """Figures behind the text, JSON values only: `options`, `hits`, `tissue_share`, …"""


class _Args(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OverviewArgs(_Args):
    """`overview` takes nothing."""


class ZoomArgs(_Args):
    """`zoom`: show a box."""

    box: SolidBox
    """Level-0 px: x, y, width, height."""
    mpp: float = Field(gt=0, le=1000, allow_inf_nan=False)
    """Resolution wished for, µm/px; never finer than the slide's own."""


class PanArgs(_Args):
    """`pan`: show the neighbour of the box shown last."""

    direction: Literal["left", "right", "up", "down"]
    fraction: float = Field(default=0.5, gt=0, le=10, allow_inf_nan=False)
    """How far, as a share of the box's own size."""


class RetrieveArgs(_Args):
    """`retrieve`: find tiles like a box, or like a phrase; exactly one of the two."""

    box: SolidBox | None = None
    text: str | None = Field(default=None, min_length=1, max_length=2000)
    k: int = Field(default=5, ge=1, le=100)

    @model_validator(mode="after")
    def _one_query(self) -> RetrieveArgs:
        if (self.box is None) == (self.text is None):
            raise ValueError("give either a box or a text")
        return self


class AskRegionArgs(_Args):
    """`ask_region`: put a question to the model about a box."""

    box: SolidBox
    question: str = Field(min_length=1, max_length=4000)
    options: tuple[str, ...] | None = None
    """Answers to choose from; at least two, all different."""

    @model_validator(mode="after")
    def _real_choice(self) -> AskRegionArgs:
        if self.options is not None and (len(self.options) < 2 or len(set(self.options)) < len(self.options)):
            raise ValueError("options are at least two different texts")
        return self
