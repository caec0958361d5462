"""Defines what a chat model may call: the tools, the final answer, the reviewer's verdict.

The first half holds the arguments as classes; a call that comes in is checked against them. The second half
makes tool definitions of them, as LangChain's `bind_tools` takes them for any provider. These are plain
objects of numbers, texts and lists: no references, no alternatives, no limits on values, because not every
provider takes those. Fields that stand in every call (`seen`, `leaning`, `reason`) are added to each tool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from agent.llm.profiles import Convention

_FAR = 1e9
"""Coordinates beyond this are a slip: no slide is as wide."""

Integer = WithJsonSchema({"type": "integer"})
Coordinate = Annotated[float, Field(ge=-_FAR, le=_FAR, allow_inf_nan=False), Integer]


def _single_to_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


class Args(BaseModel):
    """Arguments of a call. Fields that a model adds to them are ignored."""

    model_config = ConfigDict(frozen=True)


class NoArgs(Args):
    """No arguments, as `overview` takes none."""


class PixelBox(Args):
    """A box of the slide in level-0 px."""

    x: Annotated[Coordinate, Field(description="Left edge, level-0 px.")]
    y: Annotated[Coordinate, Field(description="Top edge, level-0 px.")]
    w: Annotated[Coordinate, Field(description="Width, level-0 px.")]
    h: Annotated[Coordinate, Field(description="Height, level-0 px.")]


class ImageBox(Args):
    """A box in the image of a step, in thousandths of the image or in its px."""

    x0: Annotated[Coordinate, Field(description="Left edge in the image.")]
    y0: Annotated[Coordinate, Field(description="Top edge in the image.")]
    x1: Annotated[Coordinate, Field(description="Right edge in the image.")]
    y1: Annotated[Coordinate, Field(description="Bottom edge in the image.")]
    step: Annotated[int, Integer, Field(description="Step whose image the box is in; 1 is the overview.")] = 1


class ZoomMore(Args):
    """The arguments of `zoom` beside its box."""

    mpp: Annotated[
        float,
        Field(ge=0, le=1000, allow_inf_nan=False),
        WithJsonSchema({"type": "number"}),
        Field(description="µm per px wished for; 0 for as fine as one image shows."),
    ] = 0


class PanCall(Args):
    """The arguments of `pan`."""

    direction: Literal["left", "right", "up", "down"]
    fraction: Annotated[
        float,
        Field(gt=0, le=10, allow_inf_nan=False),
        WithJsonSchema({"type": "number"}),
        Field(description="How far, as a share of the region's size; .5 where nothing is said."),
    ] = 0.5


class RetrieveMore(Args):
    """The arguments of `retrieve` beside its box."""

    text: Annotated[
        str, Field(max_length=2000, description="Phrase to search for; empty: search by box.")
    ] = ""
    k: Annotated[int, Field(ge=1, le=20), Integer, Field(description="How many tiles, 1 to 20.")] = 5


class AskMore(Args):
    """The arguments of `ask_region` beside its box."""

    question: Annotated[
        str, Field(max_length=4000, description="Question; empty: the task's own, with its options.")
    ] = ""


class SeenArgs(Args):
    """The finding in one image, in the words of the model."""

    step: Annotated[int, Integer, Field(description="Number of the step.")]
    finding: Annotated[str, Field(description="What its image shows that matters here, in words.")]


class LeaningArgs(Args):
    """How probable the model holds one answer to be."""

    answer: Annotated[str, Field(description="A possible answer; the same words for the same answer.")]
    probability: Annotated[float, Field(description="From 0 to 1.")]


class ThoughtArgs(Args):
    """The thoughts that every call of the navigating model carries beside its own arguments."""

    seen: Annotated[list[SeenArgs], Field(description="One entry for each image new since your last turn.")]
    leaning: Annotated[list[LeaningArgs], Field(description="How probable each answer is by now.")]
    reason: Annotated[str, Field(description="Why this call and not another, in one sentence.")]


class ReasonArgs(Args):
    """The reason that every call carries in the published form of the loop."""

    reason: Annotated[str, Field(description="Why this call and not another, in one sentence.")]


class ClaimArgs(Args):
    """One sentence of an answer with the steps that show it."""

    text: Annotated[str, Field(min_length=1, max_length=4000, description="One sentence.")]
    steps: Annotated[
        list[Annotated[int, Integer]],
        BeforeValidator(_single_to_list),
        Field(description="Numbers of the steps that show it."),
    ]
    against: Annotated[bool, Field(description="True where it speaks against your answer.")] = False
    section: Annotated[
        str, Field(max_length=100, description="Section of the report asked for; else empty.")
    ] = ""


class AnswerArgs(Args):
    """The arguments of `answer`."""

    claims: Annotated[list[ClaimArgs], Field(description="What the answer rests on, for and against.")] = []
    text: Annotated[
        str, Field(max_length=20_000, description="The answer in words, with what limits it.")
    ] = ""
    choice: Annotated[str, Field(description="The answer in a few words; closed: one of the options.")] = ""
    confidence: Annotated[
        float | str,
        WithJsonSchema({"type": "number"}),
        Field(description="Probability that the answer is right, from 0 to 1."),
    ]
    abstain: Annotated[bool, Field(description="True where what was seen cannot decide.")] = False
    reason: Annotated[str, Field(description="Why you abstain, or what limits the answer.")] = ""


class AnswerMore(Args):
    """The findings that `answer` carries too where the model navigates by the survey."""

    seen: Annotated[list[SeenArgs], Field(description="One entry for each image new since your last turn.")]


class VerdictArgs(Args):
    """The arguments of `verdict`."""

    evidence_for: Annotated[str, Field(description="What speaks for it, with step numbers.")] = ""
    evidence_against: Annotated[str, Field(description="What speaks against it, with step numbers.")] = ""
    conflict: Annotated[bool, Field(description="True where the evidence contradicts itself.")] = False
    choice: Annotated[str, Field(description="The answer that the images support.")] = ""
    confidence: Annotated[float | str, WithJsonSchema({"type": "number"}), Field(description="From 0 to 1.")]
    reason: Annotated[str, Field(description="Why, in one sentence.")] = ""


def faults(error: ValidationError) -> str:
    """The faults of arguments in one line, which names fields and repeats no value."""
    parts = (
        f"{'.'.join(str(p) for p in item['loc']) or 'arguments'}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors(include_url=False, include_input=False)[:5]
    )
    return "; ".join(parts)


MAX_ENUM = 4000
"""Characters of all options together that a schema lists; longer ones are named by letter."""

DESCRIPTIONS = {
    "overview": "Show the whole slide again.",
    "zoom": "Show a box of the slide as an image of at most {px} px on its long side.",
    "pan": "Show the neighbour of the region shown last.",
    "retrieve": "Find tiles that look like a box, or that answer to a phrase, by the slide model's features.",
    "ask_region": "Ask the slide model, a smaller model trained on slides, about a box.",
    "answer": "Give the final answer. Nothing can be looked at afterwards.",
    "verdict": "Say what the evidence supports.",
}


def look_arguments(survey: bool, convention: Convention) -> dict[str, tuple[type[Args], ...]]:
    """The arguments of each tool that is offered, without what every call has beside them."""
    box: type[Args] = PixelBox if convention == "level0" else ImageBox
    if not survey:
        return {"zoom": (box,)}
    return {
        "overview": (NoArgs,),
        "zoom": (box, ZoomMore),
        "pan": (PanCall,),
        "retrieve": (box, RetrieveMore),
        "ask_region": (box, AskMore),
    }


def tool_definitions(
    survey: bool, convention: Convention, options: Sequence[str] | None, px: int
) -> list[dict[str, Any]]:
    """Definitions of the tools and of `answer`, as LangChain's `bind_tools` takes them for any provider."""
    thoughts: type[Args] = ThoughtArgs if survey else ReasonArgs
    definitions = []
    for name, parts in look_arguments(survey, convention).items():
        # What was seen and what it means comes first: a model writes in this order, and so thinks in it.
        tool = _definition(name, (thoughts, *parts), DESCRIPTIONS[name].format(px=px))
        fields = tool["function"]["parameters"]
        if "step" in fields["properties"]:
            fields["required"].append("step")
        if name == "retrieve":  # the box is one of two ways to search
            fields["required"] = list(thoughts.model_fields)
        if options and survey:
            _enumerate(fields["properties"]["leaning"]["items"]["properties"]["answer"], options)
        definitions.append(tool)
    return [*definitions, answer_tool(options, survey)]


def answer_tool(options: Sequence[str] | None, survey: bool) -> dict[str, Any]:
    """The definition of `answer`."""
    parts = (AnswerMore, AnswerArgs) if survey else (AnswerArgs,)
    tool = _definition("answer", parts, DESCRIPTIONS["answer"])
    fields = tool["function"]["parameters"]
    fields["required"] = list(fields["properties"])
    _enumerate(fields["properties"]["choice"], options)
    return tool


def verdict_tool(candidates: Sequence[str]) -> dict[str, Any]:
    """The definition of `verdict`, the reviewer's only tool."""
    tool = _definition("verdict", (VerdictArgs,), DESCRIPTIONS["verdict"])
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


def _definition(name: str, parts: Sequence[type[Args]], description: str) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    needs: list[str] = []
    for part in parts:
        fields, part_needs = _fields(part)
        properties |= deepcopy(fields)
        needs += part_needs
    parameters = {"type": "object", "properties": properties, "required": needs}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


@cache
def _fields(part: type[Args]) -> tuple[dict[str, Any], list[str]]:
    """The fields of a part, and which of them must be given."""
    schema = part.model_json_schema()
    return _plain(schema.get("properties", {}), schema.get("$defs", {})), schema.get("required", [])


_SCHEMA_WORDS = ("type", "description", "enum", "items", "properties", "required")


def _plain(properties: Mapping[str, Any], references: Mapping[str, Any]) -> dict[str, Any]:
    """Each field's schema with references written out and only the words that every provider knows."""
    return {name: _field(field, references) for name, field in properties.items()}


def _field(schema: Mapping[str, Any], references: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        schema = {**references[schema["$ref"].rsplit("/", 1)[-1]], **schema}
    plain = {word: schema[word] for word in _SCHEMA_WORDS if word in schema}
    if "items" in plain:
        plain["items"] = _field(plain["items"], references)
    if "properties" in plain:
        plain["properties"] = _plain(plain["properties"], references)
        plain.pop("description", None)  # a class's docstring, for us
        plain["required"] = list(plain["properties"])
    return plain
