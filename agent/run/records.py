"""The records a run leaves behind: what was done, what was seen, what was concluded.

Everything here is frozen, versioned and JSON-serialisable. Boxes are (x, y, w, h) in level-0 pixels and
become JSON arrays; mpp is micrometres per pixel of the image shown; images are paths relative to the run
folder. `Step` is one line of `trace.jsonl`, `Answer` is `answer.json` and the object that `--json` prints,
`RunRecord` is `run.json`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer

from core_model.errors import printable
from core_model.records import Record
from core_model.slides.box import Box
from tools.records import Observation


class Action(Record):
    """One decision: which tool, with which arguments, and why."""

    tool: str
    """Name of a tool of the toolbox: overview, zoom, pan, retrieve or ask_region."""
    args: dict[str, Any] = Field(default_factory=dict)
    """The tool's arguments, as JSON values."""
    reason: str = ""
    """Why this look and not another, in one sentence."""
    by: Literal["navigator", "person"] = "navigator"
    """Who chose it."""


class Step(Record):
    """One tool call with its observation. Indices count from 1, in the order the calls were made."""

    version: Literal[1] = 1
    index: int
    action: Action
    observation: Observation
    finding: str
    """What this step showed, in one or two sentences; an observation that failed says so. A chat navigator
    says it in its own words once it has seen the image; until then it is what the tool said."""
    posterior: dict[str, float] | None = None
    """Pooled probability of each hypothesis after this step; None before the first is scored."""
    seconds: float = 0.0
    """Wall time of the call. The only field that differs between two runs with one seed."""


class Evidence(Record):
    """A step that the answer cites, with what it showed where."""

    step: int
    tool: str
    box: Box | None = None
    mpp: float | None = None
    finding: str
    image: str | None = None


class Claim(Record):
    """One sentence of an answer or report, with the steps it rests on."""

    text: str
    steps: list[int] = Field(default_factory=list)
    section: str | None = None
    """Part of a report that it belongs to; None in a plain answer."""
    against: bool = False
    """True where it speaks against the answer given."""
    unsupported: str | None = None
    """What the evidence check found wrong with it; None where it stands."""
    seen: str | None = None
    """Of a claim that something is absent: how much of the tissue was seen finely enough to tell."""
    limited: bool = False
    """Whether that is too little to speak for the slide."""
    unchecked: str | None = None
    """Why what it says was not checked, only the steps it cites; None where it was."""


class Vote(Record):
    """The answer of one of several independent runs."""

    run: str
    """Run folder, relative to the folder of the whole."""
    seed: int
    choice: str | None
    answer: str
    confidence: float
    abstained: bool


class SlideFacts(Record):
    """The slide as an answer names it, without label, barcode or free-text metadata.

    Size and resolution are None where the answer comes from stored slide tokens.
    """

    id: str
    width: int | None = None
    height: int | None = None
    mpp: float | None = None
    mpp_source: str | None = None
    """Where it comes from, as `core_model.slides.scale.MppSource` says."""
    warnings: list[str] = Field(default_factory=list)
    """What contradicts in what the slide's file states, a sentence each."""


class Cost(Record):
    """The cost of a run. `seconds` adds up over resumed runs; pixels are those of the images shown."""

    seconds: float = 0.0
    regions: int = 0
    pixels: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    calls: int = 0
    """Answered calls to a chat model."""
    usd: float | None = None
    """What they cost by the price table; None where no chat model was asked or its price is unknown."""

    @staticmethod
    def total(costs: Sequence[Cost]) -> Cost:
        """Add up runs; the dollars are unknown where those of any run that asked a chat model are."""
        counts = {
            name: sum(getattr(cost, name) for cost in costs)
            for name in ("regions", "pixels", "tokens_in", "tokens_out", "calls")
        }
        bills = [cost.usd for cost in costs if cost.calls]
        usd = [bill for bill in bills if bill is not None]
        return Cost(
            **counts,
            seconds=round(math.fsum(cost.seconds for cost in costs), 3),
            usd=math.fsum(usd) if usd and len(usd) == len(bills) else None,
        )


class Answer(Record):
    """The answer to one question about one slide, with the evidence it rests on."""

    version: Literal[1] = 1
    question: str
    answer: str
    """The answer in words; says that it abstains where it does."""
    choice: str | None = None
    """The option chosen, word for word; None for an open question or an abstention."""
    options: list[str] | None = None
    confidence: float
    """Pooled posterior of the leading hypothesis, in [0, 1]."""
    abstained: bool = False
    reason: str | None = None
    """Why it abstained, or what limits the answer; None where there is nothing to say."""
    evidence: list[Evidence] = Field(default_factory=list)
    claims: list[Claim] = Field(default_factory=list)
    """The sentences that a chat model gave, each with its steps and what the check says of it."""
    agreement: float | None = None
    """Share of the votes that gave this answer; None where there was one run."""
    votes: list[Vote] = Field(default_factory=list)
    coverage: dict[str, float] = Field(default_factory=dict)
    """Share of tissue area seen at an mpp no coarser than the key, e.g. {"0.5": 0.08, "2.0": 0.61}."""
    steps: int = 0
    model: str
    mode: str
    slide: SlideFacts
    cost: Cost = Field(default_factory=Cost)
    run_dir: Annotated[str, BeforeValidator(printable)]
    """The run folder."""


class ModelRecord(Record):
    """Which weights answered."""

    name: str
    version: str
    fingerprint: str


class SlideRecord(Record):
    """The slide with what a report needs to place boxes: the file's stem and the bounds of the scan."""

    id: str
    width: int
    height: int
    mpp: float
    name: str
    mpp_source: str = "property"
    mpp_x: float | None = None
    mpp_y: float | None = None
    """µm per level-0 px along x and y where pixels are not square; else None, and `mpp` is both."""
    reader: str | None = None
    """Which library read it, with its version; None of runs that were made before it was kept."""
    bounds: Box
    """Box of the scanned area (whole slide where the scanner gives none); QuPath crops to it."""
    tissue_mm2: float | None = None
    warnings: list[str] = Field(default_factory=list)
    """What contradicts in what the file states, and that only regions of it count: a sentence each."""

    @property
    def sides(self) -> tuple[float, float]:
        """µm per level-0 px along x and y."""
        return self.mpp_x or self.mpp, self.mpp_y or self.mpp


class TokensRecord(Record):
    """Stored slide tokens in place of a slide: its size is unknown, and nothing of it can be shown."""

    id: str
    name: str
    tokens: int
    channels: int


class Settings(Record):
    """The settings that decide where a run goes. A resumed run must have the same, but for `CHANGEABLE`."""

    mode: str
    navigator: str
    max_steps: int
    max_cost: float | None = None
    mpp: float | None = None
    """Micrometres per pixel given by the user for files that state none."""
    mpp_override: float | None = None
    """Micrometres per pixel given by the user, whatever the file states."""
    profile: str | None = None
    """How a chat model navigates: "survey" or "giant"; None for other navigators."""
    votes: int = 1
    """Independent runs that the answer is the majority of."""
    patches: int | None = None
    """Patches of a single pass; None for as many as its mode takes."""
    patch_px: int | None = None
    """Their side as shown, px."""
    patch_mpp: float | None = None
    """Their resolution, µm/px."""
    base_url: str | None = None
    """Server of the chat model, where it is not the provider's own."""
    timeout: float | None = None
    """Seconds for one attempt of a call; None for the usual."""
    bits: int | None = None
    """Bits of the language model's weights, None where they were not packed."""
    regions: str | None = None
    """Digest of the annotations outside of which nothing is looked at; None for the whole slide."""
    index: str | None = None
    """Digest of the index of other slides that `retrieve` searched; None where there was none."""


CHANGEABLE = ("max_steps", "max_cost", "timeout", "base_url")
"""Settings of how much a run may take, and of where its model is served: they may change while it rests."""
MAX_STEPS = "--max-steps"


class SettingChange(Record):
    """A setting that somebody changed while a run was interrupted."""

    name: str
    """As the command line has it: --max-steps."""
    was: Any
    now: Any


class Unreadable(Record):
    """A tile that did not decode: where, and why. It was left out, never read as white."""

    box: Box
    why: str


SPARE = ("server_notices", "out_of_focus", "blurred")
"""Fields of a run's record that are left out where there is nothing to say."""


class RunRecord(Record):
    """`run.json`: what a run was asked, of which slide and model, and how it stands."""

    version: Literal[1] = 1
    id: str = ""
    """Random, made with the folder: part of the idempotency key of every paid call."""
    giant: str
    """Version of this package that wrote the run."""
    status: Literal["running", "finished"] = "running"
    question: str
    options: list[str] | None = None
    seed: int = 0
    model: ModelRecord
    """Who answers: the local model, or the chat model."""
    slide_model: ModelRecord | None = None
    """The local model behind `retrieve` and `ask_region` where a chat model answers."""
    slide: SlideRecord | TokensRecord
    settings: Settings
    changes: list[SettingChange] = Field(default_factory=list)
    """What of the settings was changed when the run was resumed, in order."""
    tiles: int | None = None
    """Tiles with features; None until they are computed."""
    unreadable: list[Unreadable] = Field(default_factory=list)
    out_of_focus: float | None = None
    """Share of the tissue that is out of focus; left out where it was not measured."""
    blurred: list[Box] = Field(default_factory=list)
    """Bounding boxes of that tissue, largest first; left out where there is none."""
    unsupported: list[str] = Field(default_factory=list)
    """Claims of the answer that the evidence check could not support, one sentence each."""
    unchecked: list[str] = Field(default_factory=list)
    """What of the answer is in a language in which claims are not checked, one sentence each."""
    server_notices: list[str] = Field(default_factory=list)
    """What the chat model's server turned out not to take, and how it was asked from there on, a sentence
    each; written when the run is finished, and left out where there is nothing to say."""
    sealed: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of answer, trace lines and journal files, by name; written when the run is finished."""

    @model_serializer(mode="wrap")
    def _without_what_is_not(self, fields_of: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = fields_of(self)
        return {name: value for name, value in fields.items() if value not in (None, []) or name not in SPARE}

    @property
    def first_steps(self) -> int:
        """The budget of steps that the run began with."""
        return next(
            (change.was for change in self.changes if change.name == MAX_STEPS), self.settings.max_steps
        )

    @property
    def most_steps(self) -> int:
        """The largest budget of steps that it ever had."""
        earlier = [change.was for change in self.changes if change.name == MAX_STEPS]
        return max(self.settings.max_steps, *earlier) if earlier else self.settings.max_steps
