"""What is particular about a chat model: how it names places, where it sees images, what it can take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Convention = Literal["level0", "relative", "resized"]
"""How a model gives a box. level0: x, y, width, height in level-0 px. relative: x0, y0, x1, y1 from 0 to 1000
of the image it refers to. resized: x0, y0, x1, y1 in px of that image as it was sent."""


@dataclass(frozen=True)
class ModelProfile:
    """Properties of one family of chat models."""

    boxes: Convention = "level0"
    images: Literal["user", "tool"] = "user"
    """Where an image of a tool may stand: in the user message that follows, or in the tool's own."""
    parallel_calls: bool = True
    """Whether it may ask for several looks in one turn."""
    tool_choice: bool = True
    """Whether it can be made to call a certain tool."""
    max_images: int = 20
    """Images in one request."""
    image_multiple: int = 1
    """Sides of images are multiples of this, so that the provider has nothing to resize."""
    max_image_px: int = 1568
    """Longest side it takes without resizing."""
    tokens_per_image: int = 1600
    """Upper estimate for an image of 1000 x 1000 px, for the spending limit."""
    max_tokens: int = 4096
    """Longest reply asked for, reasoning included."""


def profile_for(name: str) -> ModelProfile:
    """The profile of `provider:model`."""
    raise NotImplementedError(name)
