"""The tools bound to one slide and one model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from core_model.errors import BoxError
from core_model.slides.box import Box
from tools.ask_region import ask_region
from tools.looks import overview, pan, zoom
from tools.records import AskRegionArgs, Observation, OverviewArgs, PanArgs, RetrieveArgs, ZoomArgs
from tools.retrieve import retrieve
from tools.workbench import Workbench


@dataclass(frozen=True)
class Tool:
    """One tool: its arguments, what runs it, and one line on it for whoever chooses."""

    args: type[BaseModel]
    run: Callable[[Toolbox, Any], Observation]
    about: str


TOOLS: Mapping[str, Tool] = {
    "overview": Tool(OverviewArgs, overview, "Show the whole slide and say where its tissue lies."),
    "zoom": Tool(ZoomArgs, zoom, "Show a box (x, y, w, h in level-0 px) at a resolution in µm/px."),
    "pan": Tool(PanArgs, pan, "Show the neighbour of the box shown last."),
    "retrieve": Tool(RetrieveArgs, retrieve, "Find the tiles most like a box, or most like a phrase."),
    "ask_region": Tool(AskRegionArgs, ask_region, "Ask the slide model a question about a box."),
}


class Toolbox(Workbench):
    """`Toolbox(slide, model).zoom(box, mpp)` and its siblings, each returning an `Observation`."""

    def overview(self) -> Observation:
        """The whole slide, its tissue, and what cannot be read."""
        return self.call("overview", {})

    def zoom(self, box: Box, mpp: float) -> Observation:
        """`box` at `mpp` µm/px."""
        return self.call("zoom", {"box": box, "mpp": mpp})

    def pan(self, direction: str, fraction: float = 0.5) -> Observation:
        """The neighbour of the box shown last: left, right, up or down by `fraction` of its size."""
        return self.call("pan", {"direction": direction, "fraction": fraction})

    def retrieve(self, box: Box | None = None, text: str | None = None, k: int = 5) -> Observation:
        """The `k` tiles most like a box or a phrase."""
        return self.call("retrieve", {"box": box, "text": text, "k": k})

    def ask_region(self, box: Box, question: str, options: Iterable[str] | None = None) -> Observation:
        """The model's answer to `question` about `box`, chosen from `options` where there are any."""
        choices = tuple(options) if options is not None else None
        return self.call("ask_region", {"box": box, "question": question, "options": choices})

    def call(self, name: str, args: Mapping[str, Any]) -> Observation:
        """Run a tool by name. A mistake of the caller becomes an observation naming what is valid."""
        tool = TOOLS.get(name)
        if tool is None:
            text = f"There is no tool “{name}”. The tools are {', '.join(TOOLS)}."
            return Observation(tool=name, ok=False, text=text)
        try:
            return tool.run(self, _parse(tool.args, args))
        except _BadArgs as error:
            return Observation(tool=name, ok=False, text=f"Refused: {error}.")
        except BoxError as error:
            # Not str(error): that names the file, and file names may hold patient data.
            return Observation(tool=name, ok=False, text=f"Refused: {error.what}. {error.fix}.")


class _BadArgs(Exception):
    """Arguments that do not fit the tool, in one line."""


def _parse(model: type[BaseModel], args: Mapping[str, Any]) -> BaseModel:
    try:
        return model.model_validate(dict(args))
    except ValidationError as error:
        parts = (
            f"{'.'.join(str(p) for p in item['loc']) or 'arguments'}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        raise _BadArgs("; ".join(parts).replace("Value error, ", "")) from error
