"""Describes each chat model: how it names places, where it sees images, how much it takes.

A profile goes by the model's name, whoever serves it. A user may set single fields in a JSON file named by
the environment variable GIANT_PROFILES: {"openai:my-model": {"boxes": "relative"}}.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from core_model.errors import UsageError

VARIABLE = "GIANT_PROFILES"

Convention = Literal["level0", "relative", "resized"]
"""How a model gives a box. level0: x, y, width, height in level-0 px. relative: x0, y0, x1, y1 from 0 to 1000
of the image it refers to. resized: x0, y0, x1, y1 in px of that image as it was sent."""

Count = Annotated[int, Field(gt=0)]


@dataclass(frozen=True)
class ModelProfile:
    """Properties of one family of chat models."""

    boxes: Convention = "level0"
    images: Literal["user", "tool", "bridged"] = "user"
    """Where an image of a tool may stand: in the user message that follows, in the tool's own, or in a user
    message after a word of the assistant, where a user may not speak right behind a tool."""
    parallel_calls: bool = True
    """Whether it may ask for several looks in one turn."""
    tool_choice: bool = True
    """Whether it can be made to call a certain tool."""
    max_images: Count = 20
    """Images in one request."""
    image_multiple: Count = 1
    """Sides of images are multiples of this, so that the provider has nothing to resize."""
    max_image_px: Count = 1568
    """Longest side it takes without resizing."""
    tokens_per_image: Count = 1600
    """Upper estimate for an image of 1000 x 1000 px, for the spending limit."""
    max_tokens: Count = 4096
    """Longest reply asked for, reasoning included."""
    max_input_tokens: Count | None = None
    """Longest request it takes; None where nobody says."""


UNKNOWN = ModelProfile(
    parallel_calls=False, tool_choice=False, max_images=8, tokens_per_image=3000, max_tokens=2048
)
"""A model nobody has described: what works with LLaVA behind a small server works with most."""

_SERVED = replace(UNKNOWN, parallel_calls=True, max_images=20, tokens_per_image=1400, max_tokens=4096)
"""Larger open models. Whether a call can be forced depends on the server, so it is not tried."""

_FAMILIES: tuple[tuple[str, ModelProfile], ...] = (
    # GPT: reasoning counts towards the reply; the dearest of them (patches of 32 px, x 2.46) takes 2,520
    # tokens for an image of 1000 x 1000 px.
    (r"gpt-[5-9]|o[1-9]", ModelProfile(tokens_per_image=2600, max_tokens=8192, max_images=50)),
    (r"gpt-|chatgpt-", ModelProfile(tokens_per_image=2600)),
    # Claude: width x height / 750 tokens; sides over 1568 px are resized; more than 20 images must be small.
    # From the fifth generation on it always thinks, and a model that thinks cannot be made to call a tool.
    (r"claude-(?:[a-z]+-)?[1-4](?![0-9])", ModelProfile(tokens_per_image=1400, max_tokens=8192)),
    (r"claude-", ModelProfile(tool_choice=False, tokens_per_image=1400, max_tokens=8192)),
    # Gemini: places in thousandths of the image. Its own detection format is a list with y first, so a tool
    # for it needs named fields (x0, y0, x1, y1): with names it keeps the scale and cannot mix up the order.
    (r"gemini-", ModelProfile(boxes="relative", tokens_per_image=1300, max_tokens=8192, max_images=50)),
    # Qwen-VL: Qwen2.5 names px of the image as its processor resized it (to multiples of 28), every other
    # generation thousandths. 14 px (16 px since Qwen3) patches, four to a token.
    (r"qwen-?2\.5.*vl", replace(_SERVED, boxes="resized", image_multiple=28)),
    (r"qwen-?2.*vl", replace(_SERVED, boxes="relative", image_multiple=28)),
    (r"qwen-?([3-9]|\d\d)", replace(_SERVED, boxes="relative", image_multiple=32)),
    (r"llava", UNKNOWN),
    # Mistral's servers refuse a user who speaks right behind a tool.
    (r"[a-z]*(?:stral|xtral)", replace(UNKNOWN, images="bridged")),
)


def profile_for(name: str) -> ModelProfile:
    """The profile of `provider:model`, with what the user's file changes.

    Raises `UsageError` where that file cannot be read, or sets a field that is none or to a wrong value.
    """
    model = name.split(":", 1)[-1].casefold()
    # A served model may be named by a path or a repository: its last part counts, and the family may stand
    # anywhere in that part ("my-qwen3-vl-8b"), but as a word of its own.
    last = model.rstrip("/").rsplit("/", 1)[-1]
    profiles = (profile for pattern, profile in _FAMILIES if re.search(rf"(?<![a-z0-9])(?:{pattern})", last))
    return _with_user_changes(name, next(profiles, UNKNOWN))


def _with_user_changes(name: str, profile: ModelProfile) -> ModelProfile:
    path = os.environ.get(VARIABLE)
    changes = _read_table(Path(path)).get(name) if path else None
    if changes is None:
        return profile
    names = {field.name for field in fields(ModelProfile)}
    if not isinstance(changes, dict) or not changes.keys() <= names:
        wrong = next(iter(changes.keys() - names)) if isinstance(changes, dict) else changes
        raise UsageError(
            f"the profile of {name} sets {wrong!r}, which is no field of a profile",
            where=f"{VARIABLE}={path}",
            fix=f"The fields are {', '.join(sorted(names))}",
        )
    try:
        whole = json.dumps(asdict(profile) | changes)
        return TypeAdapter(ModelProfile).validate_json(whole, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"the profile of {name} is wrong at {place}: {first['msg']}",
            where=f"{VARIABLE}={path}",
        ) from error


def _read_table(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the file of profiles cannot be read ({error})",
            where=f"{VARIABLE}={path}",
            fix='It is JSON: {"openai:my-model": {"boxes": "relative"}}',
        ) from error
    if not isinstance(table, dict):
        raise UsageError(
            "the file of profiles holds no JSON object of model names", where=f"{VARIABLE}={path}"
        )
    return table
