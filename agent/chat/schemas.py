"""What a chat model may give as arguments: of the five tools, of the final answer, of the reviewer's verdict.

The schemas made of these (`agent/chat/offers.py`) say in words what a value may be; whether it is that is
checked here when the call comes in.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

_FAR = 1e9
"""Coordinates beyond this are a slip: no slide is as wide."""

Integer = WithJsonSchema({"type": "integer"})
Coordinate = Annotated[float, Field(ge=-_FAR, le=_FAR, allow_inf_nan=False), Integer]


def _one_to_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


class Args(BaseModel):
    """Arguments of a call. What a model adds to them does no harm."""

    model_config = ConfigDict(frozen=True)


class NoArgs(Args):
    """Nothing."""


class PixelBox(Args):
    x: Annotated[Coordinate, Field(description="Left edge, level-0 px.")]
    y: Annotated[Coordinate, Field(description="Top edge, level-0 px.")]
    w: Annotated[Coordinate, Field(description="Width, level-0 px.")]
    h: Annotated[Coordinate, Field(description="Height, level-0 px.")]


class ImageBox(Args):
    x0: Annotated[Coordinate, Field(description="Left edge in the image.")]
    y0: Annotated[Coordinate, Field(description="Top edge in the image.")]
    x1: Annotated[Coordinate, Field(description="Right edge in the image.")]
    y1: Annotated[Coordinate, Field(description="Bottom edge in the image.")]
    step: Annotated[int, Integer, Field(description="Step whose image the box is in; 1 is the overview.")] = 1


class ZoomMore(Args):
    mpp: Annotated[
        float,
        Field(ge=0, le=1000, allow_inf_nan=False),
        WithJsonSchema({"type": "number"}),
        Field(description="µm per px wished for; 0 for as fine as one image shows."),
    ] = 0


class PanArgs(Args):
    direction: Literal["left", "right", "up", "down"]
    fraction: Annotated[
        float,
        Field(gt=0, le=10, allow_inf_nan=False),
        WithJsonSchema({"type": "number"}),
        Field(description="How far, as a share of the region's size; .5 where nothing is said."),
    ] = 0.5


class RetrieveMore(Args):
    text: Annotated[
        str, Field(max_length=2000, description="Phrase to search for; empty: search by box.")
    ] = ""
    k: Annotated[int, Field(ge=1, le=20), Integer, Field(description="How many tiles, 1 to 20.")] = 5


class AskMore(Args):
    question: Annotated[
        str, Field(max_length=4000, description="Question; empty: the task's own, with its options.")
    ] = ""


class SeenArgs(Args):
    step: Annotated[int, Integer, Field(description="Number of the step.")]
    finding: Annotated[str, Field(description="What its image shows that matters here, in words.")]


class LeaningArgs(Args):
    answer: Annotated[str, Field(description="A possible answer; the same words for the same answer.")]
    probability: Annotated[float, Field(description="From 0 to 1.")]


class ThoughtArgs(Args):
    seen: Annotated[list[SeenArgs], Field(description="One entry for each image new since your last turn.")]
    leaning: Annotated[list[LeaningArgs], Field(description="How probable each answer is by now.")]
    reason: Annotated[str, Field(description="Why this call and not another, in one sentence.")]


class ReasonArgs(Args):
    reason: Annotated[str, Field(description="Why this call and not another, in one sentence.")]


class ClaimArgs(Args):
    text: Annotated[str, Field(min_length=1, max_length=4000, description="One sentence.")]
    steps: Annotated[
        list[Annotated[int, Integer]],
        BeforeValidator(_one_to_list),
        Field(description="Numbers of the steps that show it."),
    ]
    against: Annotated[bool, Field(description="True where it speaks against your answer.")] = False
    section: Annotated[
        str, Field(max_length=100, description="Section of the report asked for; else empty.")
    ] = ""


class AnswerArgs(Args):
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
    seen: Annotated[list[SeenArgs], Field(description="One entry for each image new since your last turn.")]


class VerdictArgs(Args):
    evidence_for: Annotated[str, Field(description="What speaks for it, with step numbers.")] = ""
    evidence_against: Annotated[str, Field(description="What speaks against it, with step numbers.")] = ""
    conflict: Annotated[bool, Field(description="True where the evidence contradicts itself.")] = False
    choice: Annotated[str, Field(description="The answer that the images support.")] = ""
    confidence: Annotated[float | str, WithJsonSchema({"type": "number"}), Field(description="From 0 to 1.")]
    reason: Annotated[str, Field(description="Why, in one sentence.")] = ""


def faults(error: ValidationError) -> str:
    """What is wrong with arguments, in one line that names fields and repeats no value."""
    parts = (
        f"{'.'.join(str(p) for p in item['loc']) or 'arguments'}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors(include_url=False, include_input=False)[:5]
    )
    return "; ".join(parts)
