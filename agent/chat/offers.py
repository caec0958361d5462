"""What a chat model is offered: tool definitions as LangChain's `bind_tools` takes them for any provider.

They are plain objects of numbers, texts and lists: no references, no alternatives, no limits on values,
because not every provider takes those. Fields that stand in every call (`seen`, `leaning`, `reason`) are
added to each tool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from typing import Any

from agent.chat.schemas import (
    AnswerArgs,
    AnswerMore,
    Args,
    AskMore,
    ImageBox,
    NoArgs,
    PanArgs,
    PixelBox,
    ReasonArgs,
    RetrieveMore,
    ThoughtArgs,
    VerdictArgs,
    ZoomMore,
)
from agent.llm.profiles import Convention

MAX_ENUM = 4000
"""Characters of all options together that a schema lists; longer ones are named by letter."""

ABOUT = {
    "overview": "Show the whole slide again.",
    "zoom": "Show a box of the slide as an image of at most {px} px on its long side.",
    "pan": "Show the neighbour of the region shown last.",
    "retrieve": "Find tiles that look like a box, or that answer to a phrase, by the slide model's features.",
    "ask_region": "Ask the slide model, a smaller model trained on slides, about a box.",
    "answer": "Give the final answer. Nothing can be looked at afterwards.",
    "verdict": "Say what the evidence supports.",
}


def looks(survey: bool, convention: Convention) -> dict[str, tuple[type[Args], ...]]:
    """The arguments of each tool that is offered, without what every call has beside them."""
    box: type[Args] = PixelBox if convention == "level0" else ImageBox
    if not survey:
        return {"zoom": (box,)}
    return {
        "overview": (NoArgs,),
        "zoom": (box, ZoomMore),
        "pan": (PanArgs,),
        "retrieve": (box, RetrieveMore),
        "ask_region": (box, AskMore),
    }


def tools(
    survey: bool, convention: Convention, options: Sequence[str] | None, px: int
) -> list[dict[str, Any]]:
    """Definitions of the tools and of `answer`, as LangChain's `bind_tools` takes them for any provider."""
    beside: type[Args] = ThoughtArgs if survey else ReasonArgs
    made = []
    for name, parts in looks(survey, convention).items():
        # What was seen and what it means comes first: a model writes in this order, and so thinks in it.
        tool = _definition(name, (beside, *parts), ABOUT[name].format(px=px))
        fields = tool["function"]["parameters"]
        if "step" in fields["properties"]:
            fields["required"].append("step")
        if name == "retrieve":  # the box is one of two ways to search
            fields["required"] = list(beside.model_fields)
        if options and survey:
            _enumerate(fields["properties"]["leaning"]["items"]["properties"]["answer"], options)
        made.append(tool)
    return [*made, answer_tool(options, survey)]


def answer_tool(options: Sequence[str] | None, survey: bool) -> dict[str, Any]:
    """The definition of `answer`."""
    parts = (AnswerMore, AnswerArgs) if survey else (AnswerArgs,)
    tool = _definition("answer", parts, ABOUT["answer"])
    fields = tool["function"]["parameters"]
    fields["required"] = list(fields["properties"])
    _enumerate(fields["properties"]["choice"], options)
    return tool


def verdict_tool(candidates: Sequence[str]) -> dict[str, Any]:
    """The definition of `verdict`, the reviewer's only tool."""
    tool = _definition("verdict", (VerdictArgs,), ABOUT["verdict"])
    fields = tool["function"]["parameters"]
    fields["required"] = list(fields["properties"])
    _enumerate(fields["properties"]["choice"], candidates)
    return tool


def box_fields(convention: Convention) -> tuple[str, ...]:
    """The four numbers of a box."""
    return ("x", "y", "w", "h") if convention == "level0" else ("x0", "y0", "x1", "y1")


def _enumerate(field: dict[str, Any], options: Sequence[str] | None) -> None:
    if options and sum(map(len, options)) <= MAX_ENUM:
        field["enum"] = list(options)


def _definition(name: str, parts: Sequence[type[Args]], about: str) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    for part in parts:
        fields, needed = _fields(part)
        properties |= deepcopy(fields)
        required += needed
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": about, "parameters": parameters}}


@cache
def _fields(part: type[Args]) -> tuple[dict[str, Any], list[str]]:
    """The fields of a part, and which of them must be given."""
    schema = part.model_json_schema()
    return _plain(schema.get("properties", {}), schema.get("$defs", {})), schema.get("required", [])


_KEPT = ("type", "description", "enum", "items", "properties", "required")


def _plain(properties: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Each field's schema with references written out and only the words that every provider knows."""
    return {name: _field(field, known) for name, field in properties.items()}


def _field(schema: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        schema = {**known[schema["$ref"].rsplit("/", 1)[-1]], **schema}
    kept = {word: schema[word] for word in _KEPT if word in schema}
    if "items" in kept:
        kept["items"] = _field(kept["items"], known)
    if "properties" in kept:
        kept["properties"] = _plain(kept["properties"], known)
        kept.pop("description", None)  # a class's docstring, for us
        kept["required"] = list(kept["properties"])
    return kept
