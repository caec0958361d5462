"""The agent's own cost per step of a chat run: time, and memory that grows.

The model answers at once from a script and the tools show one image that is there already, so what is left
is the graph with its checkpoints, the journal, the trace, and the conversation built anew for each call, with
nine images of a common size in it. It runs in a process of its own.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from core_model.slides.box import Box
from eval.bench.measure import MIB, answer_parent, hardware, in_own_process, memory_held
from eval.tables import figures_table

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage
    from rich.table import Table

    from agent.graph.state import AgentContext

STEPS = 100
LIMIT_MS, LIMIT_MB = 30.0, 50.0
SIDE, MPP, IMAGE_PX = 100_000, 0.5, 1000
NAME = "openai:script"


@dataclass(frozen=True)
class Steps:
    """Time and memory of the steps of one run."""

    profile: str
    steps: int
    median_ms: float
    worst_ms: float
    first_ms: float
    """Median of the first ten steps."""
    last_ms: float
    """Median of the last ten."""
    grown_mb: float
    """Memory held at the end beyond that at the first step, MB."""
    folder_mb: float
    """Size of the run folder, MB."""


def main(as_json: bool) -> None:
    """Measure both profiles, each in a process of its own, and print them."""
    from agent.cli.terminal import stdout

    runs = [Steps(**in_own_process("eval.bench.agent_steps", profile)) for profile in ("survey", "giant")]
    if as_json:
        record = {"hardware": hardware(), "limit_ms": LIMIT_MS, "limit_mb": LIMIT_MB}
        print(json.dumps(record | {"runs": [asdict(run) for run in runs]}))
        return
    stdout().print(f"{hardware()}; {STEPS} steps, model and tools for nothing")
    stdout().print(steps_table(runs))
    good = all(run.median_ms <= LIMIT_MS and run.grown_mb <= LIMIT_MB for run in runs)
    verdict = "within" if good else "OVER"
    stdout().print(
        f"{verdict} the limits of {LIMIT_MS:.0f} ms a step (median) and {LIMIT_MB:.0f} MB of growth"
    )


def measure_steps(profile: str, folder: Path, steps: int = STEPS) -> Steps:
    """Run `steps` steps and time each, from the one before to its own record."""
    from agent.graph.follow import follow
    from agent.run.records import Step

    record, context = _run(profile, folder, steps)
    seconds: list[float] = []
    start, first, last_index = time.perf_counter(), 0, 0
    for item in follow(record, context):
        if (
            isinstance(item, Step) and item.index > last_index
        ):  # a step comes again where it is put into words
            moment = time.perf_counter()
            last_index, start = item.index, moment if not last_index else start
            seconds += [moment - start] if last_index > 1 else []
            start, first = moment, first or memory_held()
    growth = memory_held() - first
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    ms = [1000 * value for value in seconds]
    return Steps(
        profile=profile,
        steps=last_index,
        median_ms=statistics.median(ms),
        worst_ms=max(ms),
        first_ms=statistics.median(ms[:10]),
        last_ms=statistics.median(ms[-10:]),
        grown_mb=growth / MIB,
        folder_mb=size / MIB,
    )


def steps_table(runs: Sequence[Steps]) -> Table:
    """Both profiles, for a terminal."""
    figures = ("steps", "median ms", "worst ms", "first ten", "last ten", "grown MB", "folder MB")
    table = figures_table(["profile"], figures)
    for run in runs:
        values = (run.median_ms, run.worst_ms, run.first_ms, run.last_ms, run.grown_mb, run.folder_mb)
        table.add_row(run.profile, str(run.steps), *(f"{value:.1f}" for value in values))
    return table


class Script:
    """A model that always wants to see another place, says what it saw, and answers when it must."""

    def __init__(self) -> None:
        self.asked = 0

    def send(self, messages: Sequence[Any], tools: Sequence[Any], force: str | None, key: str) -> AIMessage:
        """The reply; nothing is sent anywhere."""
        from langchain_core.messages import AIMessage

        self.asked += 1
        name, args = force or "zoom", self._look()
        if force == "answer":
            claim = {"text": "Tumour in glands.", "steps": [2], "against": False, "section": ""}
            args = {"text": "Tumour.", "choice": "tumour", "confidence": 0.9, "claims": [claim]}
        elif force == "verdict":
            args = {"choice": "tumour", "confidence": 0.9, "conflict": False, "reason": ""}
        call = {"type": "tool_call", "id": f"call-{self.asked}", "name": name, "args": args}
        return AIMessage(content="", tool_calls=[call])

    def _look(self) -> dict[str, Any]:
        n = self.asked
        return {
            "seen": [{"step": n + 1, "finding": f"Glands of place {n}, crowded, with stroma between them."}],
            "leaning": [{"answer": "tumour", "probability": 0.7}, {"answer": "normal", "probability": 0.3}],
            "reason": "The next place may tell the two apart.",
            "x": 700 * n,
            "y": 300 * n,
            "w": 1000,
            "h": 1000,
            "mpp": 0.5,
        }


def _run(profile: str, folder: Path, steps: int) -> tuple[Any, AgentContext]:
    """A run folder with one image, and the context of a run that shows it at every step."""
    from agent.graph.state import AgentContext, Meter
    from agent.llm.client import ChatClient
    from agent.llm.profiles import ModelProfile
    from agent.navigators.chat import ChatNavigator
    from agent.run.journal import Journal
    from agent.run.records import ModelRecord, RunRecord, Settings, SlideRecord
    from core_model.files import write_json

    box = Box(0, 0, SIDE, SIDE)
    slide = SimpleNamespace(
        width=SIDE,
        height=SIDE,
        mpp=MPP,
        mpp_x=MPP,
        mpp_y=MPP,
        box=box,
        id="none",
        name="none",
        bounds=box,
        mpp_source="property",
        warnings=(),
    )
    slide.effective_mpp = lambda mpp: max(mpp, MPP)
    slide.overview_mpp = lambda px: max(MPP, MPP * SIDE / px)
    record = RunRecord(
        giant="bench",
        question="Is there tumour?",
        options=["tumour", "normal"],
        model=ModelRecord(name=NAME, version="", fingerprint=""),
        slide=SlideRecord(id="none", width=SIDE, height=SIDE, mpp=MPP, name="none", bounds=box),
        settings=Settings(mode="agent", navigator="chat", max_steps=steps, profile=profile),
    )
    (folder / "regions").mkdir(parents=True)
    _write_image(folder / "regions" / "place.jpg")
    write_json(folder / "run.json", record)
    model = SimpleNamespace(name="none", usage=SimpleNamespace(tokens_in=0, tokens_out=0))
    model.slide_unfamiliarity = lambda features: 0.0
    model.question_unfamiliarity = lambda question, options: (0.0, [])
    context = AgentContext(
        slide=slide,  # type: ignore[arg-type]
        model=model,
        toolbox=_Tools(slide),
        navigator=ChatNavigator(profile),
        folder=folder,
        mode="agent",
        meter=Meter(model, time.perf_counter()),
        journal=Journal(folder),
        name=NAME,
        chat=ChatClient(NAME, ModelProfile(), line=Script()),  # type: ignore[arg-type]
    )
    return record, context


class _Tools:
    """Every look shows the same image, at the box that was asked for."""

    def __init__(self, slide: Any) -> None:
        import numpy as np

        from core_model.features.tiles import TileFeatures
        from core_model.slides.tissue import TissueMask
        from core_model.specimen.quality import Quality, nothing_of

        mask = np.ones((1250, 1250), dtype=bool)  # 50 mm at 40 µm/px
        self.tissue = TissueMask(mask, ~mask, SIDE * MPP / 1250, slide.box, MPP)
        self.quality = Quality(self.tissue, nothing_of(self.tissue))
        coords = np.stack(np.meshgrid(*[np.arange(0, SIDE, 2000)] * 2), axis=-1).reshape(-1, 2)  # (N, 2)
        features = (coords / SIDE).astype(np.float32)
        self.features = TileFeatures(features, coords, 512, 256.0, MPP, "none")
        self.last_shown: Any = None

    def call(self, name: str, args: dict[str, Any]) -> Any:
        """The observation of a look."""
        from tools.records import Observation

        box = Box(*args.get("box", (0, 0, SIDE, SIDE)))
        mpp, data = args.get("mpp", SIDE * MPP / IMAGE_PX), {"width_px": IMAGE_PX, "height_px": IMAGE_PX}
        text = f"Box {tuple(box)} in level-0 px, shown at {mpp:.3g} µm/px. Tissue covers 100% of it."
        return Observation(tool=name, text=text, box=box, mpp=mpp, image="regions/place.jpg", data=data)


def _write_image(path: Path) -> None:
    """A region as large as real ones: smooth noise, which compresses as tissue does."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(90, 255, (IMAGE_PX // 4, IMAGE_PX // 4, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BICUBIC).save(path, quality=90)


def _measure_in_new_folder(profile: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="giant-bench-") as folder:
        return asdict(measure_steps(profile, Path(folder)))


if __name__ == "__main__":
    answer_parent(_measure_in_new_folder)
