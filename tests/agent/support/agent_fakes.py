"""Stand-ins for slide, model and tools: small, deterministic, and honest about boxes.

The slide is a square of tissue; its left part is "grey", its right part "pink". The model sees in a tile only
which of the two it lies in, so what it should answer about any box is known.
"""

from __future__ import annotations

import hashlib
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from agent.run.records import ModelRecord, RunRecord, Settings, SlideRecord
from core_model.features.tiles import TileFeatures
from core_model.slides.box import Box
from core_model.slides.tissue import TissueMask
from core_model.specimen.quality import Quality, nothing_of
from tools.records import Observation

WIDTH, HEIGHT, MPP, TILE = 4000, 3000, 1.0, 112
GREY_SHARE = 0.3
OPTIONS = ["grey tissue", "pink tissue", "no tissue"]


def fake_slide(name: str = "demo", ident: str = "slide-1") -> Any:
    """A slide of 4 x 3 mm at 1 µm/px; nothing of it is ever read."""
    box = Box(0, 0, WIDTH, HEIGHT)
    return SimpleNamespace(
        id=ident,
        name=name,
        width=WIDTH,
        height=HEIGHT,
        mpp=MPP,
        mpp_source="user",
        mpp_x=MPP,
        mpp_y=MPP,
        square=True,
        reader="none",
        box=box,
        bounds=box,
        warnings=(),
        effective_mpp=lambda mpp: max(mpp, MPP),
    )


def run_record(mode: str = "agent", navigator: str = "search", **fields: Any) -> RunRecord:
    """The record of a run over the fake slide; `fields` come on top of what it says of itself."""
    whole = Box(0, 0, WIDTH, HEIGHT)
    usual = {
        "giant": "0",
        "question": "?",
        "model": ModelRecord(name="m", version="1", fingerprint="f"),
        "slide": SlideRecord(id="s", width=WIDTH, height=HEIGHT, mpp=0.5, name="s", bounds=whole),
        "settings": Settings(mode=mode, navigator=navigator, max_steps=4, votes=fields.pop("votes", 1)),
    }
    return RunRecord(**usual | fields)


class FakeModel:
    """Knows grey from pink, with a certainty that `sharpness` sets."""

    name, version, fingerprint = "fake", "1", "f00d"

    def __init__(
        self,
        *,
        sharpness: float = 3.0,
        abstain_below: float = 0.2,
        slide_unfamiliarity: float = 0.5,
        unknown_words: tuple[str, ...] = (),
        question_unfamiliarity: float = 0.5,
    ) -> None:
        self.sharpness = sharpness
        self._slide, self._words, self._question = slide_unfamiliarity, unknown_words, question_unfamiliarity
        calibration = SimpleNamespace(slide_weight=1.0, region_weight=1.0, abstain_below=abstain_below)
        self.config = SimpleNamespace(calibration=calibration)
        self.usage = SimpleNamespace(tokens_in=0, tokens_out=0)

    def slide_unfamiliarity(self, features: TileFeatures) -> float:
        return self._slide

    def question_unfamiliarity(self, question: str, options: list[str] | None) -> tuple[float, list[str]]:
        return self._question, list(self._words)

    def score_options(self, features: TileFeatures, question: str, options: list[str]) -> np.ndarray:
        self.usage.tokens_in += 10 + len(features)
        grey = float(features.features.mean())
        logit = {"grey": grey, "pink": 1 - grey}
        logits = [self.sharpness * logit.get(option.split()[0].casefold(), -1.0) for option in options]
        weights = np.exp(np.array(logits))
        return weights / weights.sum()

    def score_options_many(self, parts: list[TileFeatures], question: str, options: list[str]) -> np.ndarray:
        return np.stack([self.score_options(part, question, options) for part in parts])

    def say(self, features: TileFeatures) -> tuple[str, float]:
        self.usage.tokens_in += 7
        self.usage.tokens_out += 2
        return ("Grey tissue." if float(features.features.mean()) > 0.5 else "pink tissue"), 0.8


def all_features(failed: int = 0, tiles: int | None = None) -> TileFeatures:
    """Tiles over the whole slide, one channel: 1 in the grey part, 0 in the pink."""
    coords = np.array(
        [(x, y) for y in range(0, HEIGHT - TILE, TILE) for x in range(0, WIDTH - TILE, TILE)], dtype=np.int64
    )
    bad = tuple((Box(int(x), int(y), TILE, TILE), "does not decode") for x, y in coords[:failed])
    coords = coords[failed:] if tiles is None else coords[failed : failed + tiles]
    grey = (coords[:, :1] + TILE / 2 < GREY_SHARE * WIDTH).astype(np.float32)
    return TileFeatures(grey, coords, TILE, TILE * MPP, MPP, "fake", bad)


class FakeToolbox:
    """The five tools over the fake slide. `hook` is called before and after each call with its number."""

    def __init__(
        self,
        slide: Any,
        model: FakeModel,
        folder: Path,
        *,
        features: TileFeatures | None = None,
        broken: Callable[[str, Box], bool] = lambda tool, box: False,
        hook: Callable[[str, int], None] = lambda when, number: None,
    ) -> None:
        self.slide, self.model, self.folder = slide, model, folder
        self.features = features if features is not None else all_features()
        mask = np.ones((HEIGHT // 8, WIDTH // 8), dtype=bool)
        self.tissue = TissueMask(mask, np.zeros_like(mask), 8.0, slide.box, MPP)
        self.quality = Quality(self.tissue, nothing_of(self.tissue))
        self.broken, self.hook, self.calls = broken, hook, 0
        self.last_shown: Any = None

    def tiles_in(self, box: Box) -> TileFeatures:
        return self.features if box == self.slide.box else self.features.inside(box)

    def call(self, name: str, args: dict[str, Any]) -> Observation:
        self.calls += 1
        self.hook("before", self.calls)
        box = Box(*args["box"]) if "box" in args else self.slide.box
        if box.intersect(self.slide.box) != box:
            seen = Observation(tool=name, ok=False, text="That box is off the slide: x from 0 to 4000.")
        elif self.broken(name, box):
            seen = Observation(tool=name, ok=False, text=f"Box {tuple(box)} does not decode.", box=box)
        else:
            seen = getattr(self, f"_{name}")(box, args)
        self.hook("after", self.calls)
        return seen

    def _overview(self, box: Box, args: dict[str, Any]) -> Observation:
        return self._shown("overview", box, 8.0, "The whole slide.")

    def _zoom(self, box: Box, args: dict[str, Any]) -> Observation:
        return self._shown("zoom", box, max(args["mpp"], MPP), f"{box.w} px wide. Tissue throughout. More.")

    def _shown(self, tool: str, box: Box, mpp: float, text: str) -> Observation:
        image = f"regions/{tool}-{box.x}-{box.y}-{box.w}-{box.h}.jpg"
        (self.folder / "regions").mkdir(exist_ok=True)
        drawn = Image.new("RGB", (8, 8), (200, 100 + math.floor(box.x / 100), 150))
        drawn.save(self.folder / image)
        written = hashlib.sha256((self.folder / image).read_bytes()).hexdigest()
        pixels = hashlib.sha256(drawn.tobytes()).hexdigest()
        return Observation(
            tool=tool,
            text=text,
            box=box,
            mpp=mpp,
            image=image,
            pixels_sha256=pixels,
            image_sha256=written,
        )

    def _retrieve(self, box: Box, args: dict[str, Any]) -> Observation:
        grey = self.features.features[:, 0]
        score = grey if "grey" in args["text"] else 1 - grey if "pink" in args["text"] else 0 * grey
        best = np.argsort(-score, kind="stable")[: args["k"]]
        hits = [{"box": list(self.features.box(int(i))), "score": float(score[i])} for i in best]
        return Observation(tool="retrieve", text=f"{len(hits)} tiles found.", data={"hits": hits})

    def _ask_region(self, box: Box, args: dict[str, Any]) -> Observation:
        part = self.features.inside(box)
        if args["options"]:
            scores = self.model.score_options(part, args["question"], list(args["options"]))
            data: dict[str, Any] = {"options": dict(zip(args["options"], map(float, scores), strict=True))}
        else:
            text, p = self.model.say(part)
            data = {"answer": text, "probability": p}
        seen = self._shown("ask_region", box, MPP * max(1.0, box.w / 1000), "Asked.")
        return seen.model_copy(update={"data": data})


def killer(moment: str, number: int) -> Callable[[str, int], None]:
    """A hook that kills its own process, without grace, before or after the n-th tool call."""

    def hook(when: str, call: int) -> None:
        if (when, call) == (moment, number):
            os.kill(os.getpid(), signal.SIGKILL)

    return hook
