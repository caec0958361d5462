"""Stand-ins that say what was recorded: the slide, the tools, the model and the clock of a replay.

None of them can do anything new: what is asked of them that the run did not ask is an error that names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from agent.graph.state import Meter, Spent
from agent.run.records import ModelRecord, SlideRecord, Step
from core_model.errors import RunError
from core_model.slides.slide import Slide
from tools.records import Observation


class RecordedSlide(Slide):
    """A slide of which only the record is there: sizes and bounds, no pixels."""

    def __init__(self, record: SlideRecord) -> None:
        sides = (record.mpp_x, record.mpp_y) if record.mpp_x and record.mpp_y else None
        source = _NoPixels(record)
        super().__init__(Path(record.name), source, record.id, record.mpp, "property", record.name, sides)
        self.mpp_source = record.mpp_source  # type: ignore[assignment]  # of another version, perhaps
        self.warnings = tuple(record.warnings)


class _NoPixels:
    """A pixel source that knows its size."""

    vendor, reader = "record", "nothing"
    made_levels: tuple[tuple[int, int], ...] = ()

    def __init__(self, record: SlideRecord) -> None:
        names = ("x", "y", "width", "height")
        self.properties: Mapping[str, str] = {
            f"openslide.bounds-{name}": str(value) for name, value in zip(names, record.bounds, strict=True)
        }
        self.level_dimensions: tuple[tuple[int, int], ...] = ((record.width, record.height),)

    def tile_size(self, level: int) -> NoReturn:
        """There are no tiles."""
        raise RunError("a replay reads no slide")

    def read_level(self, level: int, x: int, y: int, w: int, h: int) -> NoReturn:
        """There are no pixels."""
        raise RunError("a replay reads no slide")

    def close(self) -> None:
        """Nothing is open."""


class RecordedModel:
    """A model that is there by name. What it said is in the journal and in the observations."""

    def __init__(self, record: ModelRecord) -> None:
        self.name, self.version, self.fingerprint = record.name, record.version, record.fingerprint
        self.usage = SimpleNamespace(tokens_in=0, tokens_out=0)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise RunError(f"the run as recorded did not ask the model for “{name}” here")


class RecordedToolbox:
    """Gives the observations of a trace, in order, to a run that makes the same calls."""

    def __init__(self, slide: RecordedSlide, steps: Sequence[Step]) -> None:
        self.slide = slide
        self.last_shown: Any = None
        self.done = 0
        """Steps that the run has taken so far; its follower counts them."""
        self._steps = {step.index: step for step in steps}

    def call(self, name: str, args: Mapping[str, Any]) -> Observation:
        """The recorded observation of the call. Raises `RunError` where the run made another call."""
        number = self.done + 1
        step = self._steps.get(number)
        if step is None:
            raise RunError(f"step {number} would be {_told(name, args)}, and none is recorded")
        if (step.action.tool, step.action.args) != (name, dict(args)):
            original = _told(step.action.tool, step.action.args)
            raise RunError(f"step {number} was {original}, and would be {_told(name, args)}")
        return step.observation

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise RunError(f"the run as recorded did not need the slide's “{name}” here")


class StoppedMeter(Meter):
    """A clock that stands: what a run used was measured once."""

    def lap(self) -> Spent:
        """Nothing."""
        return Spent(seconds=0.0, tokens_in=0, tokens_out=0)


def _told(name: str, args: Mapping[str, Any], most: int = 160) -> str:
    text = f"{name} with {', '.join(f'{key} {value}' for key, value in args.items()) or 'nothing'}"
    return text if len(text) <= most else text[: most - 1] + "…"
