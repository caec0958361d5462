"""A chat model that follows a script, over a small real slide with the real tools.

`Line` stands where the way to a provider is: everything above it (client, journal, navigator, tools) is real.
The slide is a drawn PNG of 1.6 x 1.2 mm at 1 µm/px, tissue left and right in different colours; regions are
shown with a long side of 120 px, so that the looks of a long run cost little.
"""

from __future__ import annotations

import base64
import functools
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import agent_fakes as fakes
import numpy as np
import pytest
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from PIL import Image, ImageDraw

from agent.llm.client import ChatClient
from agent.llm.prices import Price
from agent.llm.profiles import ModelProfile
from agent.run.records import Answer, Step
from agent.session import ask as session
from core_model.features.tiles import TileFeatures
from core_model.slides.slide import Slide
from tools.toolbox import Toolbox

WIDTH, HEIGHT, MPP, TILE, PX = 1600, 1200, 1.0, 80, 120
NAME = "secret-name"
"""File name of the slide: it must never reach a model."""
QUESTION = "Which tissue is it?"
OPTIONS = ["grey tissue", "pink tissue", "no tissue"]
PROFILE = ModelProfile(max_image_px=PX)
PINK, VIOLET, GLASS = (222, 150, 190), (150, 90, 170), (244, 244, 244)

Said = AIMessage | Callable[[Sequence[BaseMessage]], AIMessage]


def draw_slide(path: Path, burnt: str = "") -> Path:
    """Write the slide, with words burnt into it where given."""
    path.write_bytes(_drawn(burnt))
    return path


@functools.cache
def _drawn(burnt: str) -> bytes:
    image = Image.new("RGB", (WIDTH, HEIGHT), GLASS)
    pen = ImageDraw.Draw(image)
    pen.rectangle((100, 100, 700, 1100), fill=PINK)
    pen.rectangle((900, 100, 1500, 1100), fill=VIOLET)
    for x, y in itertools.product(range(120, 1500, 40), range(120, 1100, 40)):
        pen.ellipse((x, y, x + 9, y + 9), fill=(90, 50, 120))
    if burnt:
        pen.text((110, 300), burnt, fill=(0, 0, 0), font_size=40)
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def tile_features() -> TileFeatures:
    """Tiles over the whole slide, two channels: where they lie, and which tissue."""
    grid = itertools.product(range(0, HEIGHT, TILE), range(0, WIDTH, TILE))
    coords = np.array([(x, y) for y, x in grid], dtype=np.int64)
    left = (coords[:, 0] < WIDTH / 2).astype(np.float32)
    features = np.stack([left, coords[:, 1] / HEIGHT], axis=1).astype(np.float32)
    return TileFeatures(features, coords, TILE, TILE * MPP, MPP, "fake")


class SlideModel(fakes.FakeModel):
    """The slide model with all that the real tools ask of one."""

    folder = Path("nowhere")
    tile_encoder = SimpleNamespace(mpp=1.0, name="fake")

    def generate(self, features: TileFeatures, question: str) -> tuple[str, float]:
        return self.say(features)

    def embed_text(self, texts: list[str]) -> np.ndarray:
        return np.array([[1.0, 0.0] if "grey" in text else [0.0, 1.0] for text in texts], dtype=np.float32)

    def embed_tiles(self, features: TileFeatures) -> np.ndarray:
        left = features.features[:, 0]
        return np.stack([left, 1 - left], axis=1).astype(np.float32)


@dataclass
class Line:
    """Says what the script says, and remembers what it was asked. Every request is held against the rules."""

    script: Iterator[Said]
    asked: list[list[BaseMessage]] = field(default_factory=list)
    tools: list[list[str]] = field(default_factory=list)
    forced: list[str | None] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def send(
        self, messages: Sequence[BaseMessage], tools: Sequence[Any], force: str | None, key: str
    ) -> AIMessage:
        check_request(messages)
        self.asked.append(list(messages))
        self.tools.append([tool["function"]["name"] for tool in tools])
        self.forced.append(force)
        self.keys.append(key)
        said = next(self.script)
        return said(messages) if callable(said) else said


def check_request(messages: Sequence[BaseMessage]) -> None:
    """What every provider insists on: each call has one result right behind it, and a user speaks last."""
    assert [message.type for message in messages[:2]] == ["system", "human"]
    assert messages[-1].type == "human"
    open_calls: list[str] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            open_calls.remove(message.tool_call_id)  # raises for a result without its call, or given twice
        else:
            assert open_calls == []
            assert message.content or getattr(message, "tool_calls", None)
        if isinstance(message, AIMessage):
            open_calls = [str(call["id"]) for call in message.tool_calls]
            assert len(set(open_calls)) == len(open_calls)
    words = text_of(messages)
    assert NAME not in words
    assert "run-" not in words


def images(messages: Sequence[BaseMessage]) -> int:
    """How many images a request holds."""
    blocks = [block for message in messages for block in _blocks(message)]
    return sum(block["type"] == "image" for block in blocks)


def sizes(messages: Sequence[BaseMessage]) -> list[tuple[int, int]]:
    """Width and height of each image of a request, in order."""
    blocks = [block for message in messages for block in _blocks(message) if block["type"] == "image"]
    return [Image.open(io.BytesIO(base64.b64decode(block["base64"]))).size for block in blocks]


def text_of(messages: Sequence[BaseMessage]) -> str:
    """All words of a request."""
    blocks = [block for message in messages for block in _blocks(message)]
    return "\n".join(block["text"] for block in blocks if block["type"] == "text")


def _blocks(message: BaseMessage) -> list[dict[str, Any]]:
    content = message.content
    return [{"type": "text", "text": content}] if isinstance(content, str) else content  # type: ignore[return-value]


def line(*said: Said) -> Line:
    """A line that follows a script; after its end the last reply is repeated."""
    return Line(itertools.chain(said, itertools.repeat(said[-1])))


_ids = itertools.count(1)


def calls(*wanted: tuple[str, dict[str, Any]], text: str = "", ids: Sequence[str] = ()) -> AIMessage:
    """A reply that makes calls."""
    given = [*ids, *(f"call_{next(_ids)}" for _ in wanted[len(ids) :])]
    made = [
        {"type": "tool_call", "name": name, "args": args, "id": ident}
        for (name, args), ident in zip(wanted, given, strict=True)
    ]
    return AIMessage(content=text, tool_calls=made)


def zoom(x: float, y: float, w: float, h: float, **more: Any) -> tuple[str, dict[str, Any]]:
    """A zoom to a box in level-0 px."""
    return "zoom", {"x": x, "y": y, "w": w, "h": h, "mpp": 0, "reason": "To see more."} | more


def answer(**more: Any) -> tuple[str, dict[str, Any]]:
    """A whole answer that cites the overview."""
    return "answer", {
        "text": "Pink tissue.",
        "choice": "pink tissue",
        "confidence": 0.8,
        "abstain": False,
        "reason": "",
        "claims": [{"text": "Pink tissue on the left.", "steps": [1], "against": False, "section": ""}],
    } | more


def verdict(choice: str = "pink tissue", confidence: float = 0.7, **more: Any) -> AIMessage:
    """What the second look says."""
    said = {"choice": choice, "confidence": confidence, "conflict": False, "reason": "It is pink."}
    return calls(("verdict", said | more))


def client(way: Line, profile: ModelProfile = PROFILE, **more: Any) -> ChatClient:
    """The real client on a scripted line, with a price and without waiting."""
    waits: list[float] = []
    price = Price.model_validate({"in": 1.0, "out": 10.0})
    return ChatClient("openai:scripted", profile, sleep=waits.append, price=price, line=way, **more)  # type: ignore[arg-type]


def bind_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sessions use the real tools with features that are there already."""

    def open_toolbox(slide: Slide, model: Any, folder: Path, progress: Any, frame: Any) -> Toolbox:
        return Toolbox(slide, model, features=tile_features(), folder=folder, frame=replace(frame, max_px=PX))

    monkeypatch.setattr(session, "open_toolbox", open_toolbox)


@dataclass
class Ran:
    """What came of a run."""

    items: list[Any]
    way: Line
    folder: Path

    @property
    def answer(self) -> Answer:
        last = self.items[-1]
        assert isinstance(last, Answer)
        return last

    @property
    def steps(self) -> list[Step]:
        """The steps as the trace has them in the end."""
        from agent.run.folder import read_trace

        return read_trace(self.folder)


def asker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Runs a question over the slide: `ask(line(…), profile="giant", options=…)`."""
    bind_tools(monkeypatch)
    numbers = itertools.count(1)

    def ask(way: Line, *, about: ModelProfile = PROFILE, burnt: str = "", **given: Any) -> Ran:
        out = tmp_path / f"run-{next(numbers)}"
        given = {"question": QUESTION, "options": OPTIONS, "slide_model": SlideModel(), "out": out} | given
        slide = draw_slide(tmp_path / f"{NAME}.png", burnt)
        question = given.pop("question")
        items = list(session.stream(slide, question, mpp=MPP, model=client(way, about), **given))
        return Ran(items, way, Path(given["out"]))

    return ask
