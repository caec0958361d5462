"""Evaluations with a scripted chat model over small drawn slides; also started by itself, to be killed.

    python eval_runs.py ROOT URL CSV MODES DEATHS

runs the evaluation of ROOT/slides into ROOT/out once for each of DEATHS (a JSON list of numbers) in a forked
child that dies by SIGKILL at that passage through the places where a run can die, and once to its end. One
JSON line a child: the signal that ended it, how often it passed those places, and what the results were then.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "agent" / "support"))

import numpy as np
from chat_server import Served, calls, say
from forks import forked
from PIL import Image, ImageDraw

from agent.session.options import AskOptions
from eval.asking.runner import EvaluationPlan, Outcome, ask_all
from eval.benchmarks.questions import Question

CHAT = ("agent", "thumbnail", "patches", "joint", "blind", "constant")
LOCAL = ("agent", "patches", "slide", "constant")
KINDS = 4
"""Slides that differ; all others are links to one of them."""
SHARED = AskOptions(max_steps=3, profile="giant", patches=2, patch_px=60, patch_mpp=2.0)


def draw_slides(folder: Path, names: Iterable[str]) -> Path:
    """A small pyramid of two pieces of tissue under each of the names."""
    from training.phantom.slide_writer import write_slide

    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for kind in range(KINDS):
        image = Image.new("RGB", (640, 480), (244, 244, 244))
        pen = ImageDraw.Draw(image)
        pen.rectangle((40, 40, 280, 440), fill=(222, 150 + 9 * kind, 190))
        pen.rectangle((360, 40, 600, 440), fill=(150, 90 + 9 * kind, 170))
        path = folder / f".kind{kind}.tiff"
        write_slide(path, np.asarray(image), 1.0, 80)
        drawn.append(path)
    for number, name in enumerate(dict.fromkeys(names)):
        (folder / name).hardlink_to(drawn[number % KINDS])
    return folder


def script(request: dict[str, Any], number: int) -> Served:
    """Looks once where it may, then chooses by a hash of what it was asked; now and then it only talks."""
    words = json.dumps(request.get("messages", [])[:2], sort_keys=True)  # so a question is refused for good
    dice = int(hashlib.sha256(words.encode()).hexdigest()[:8], 16)
    tools = {tool["function"]["name"]: tool["function"] for tool in request["tools"]}
    if "zoom" in tools and not any(message["role"] == "tool" for message in request["messages"]):
        return calls(("zoom", {"x": 50, "y": 50, "w": 200, "h": 200}))
    if dice % 10 == 0:
        return say("I cannot tell.")
    last = "verdict" if "verdict" in tools else "answer"
    options = tools[last]["parameters"]["properties"]["choice"].get("enum") or ["A", "B", "C", "D"]
    if last == "verdict":
        return calls((last, {"choice": options[0], "confidence": 0.6, "reason": "So it is."}))
    said = {"choice": options[dice % len(options)], "text": "So it is.", "confidence": 0.7, "abstain": False}
    return calls(("answer", said | {"reason": "", "claims": []}))


def plan(
    root: Path, url: str, questions: Sequence[Question], modes: Sequence[str] = CHAT, **more: Any
) -> EvaluationPlan:
    """An evaluation of the slides in `root` by the scripted model."""
    from dataclasses import replace

    base_options = replace(more.pop("base_options", SHARED), base_url=url)
    return EvaluationPlan(
        questions, root / "slides", modes, root / "out", "openai:scripted", "mini", base_options, **more
    )


def local_plan(root: Path, questions: Sequence[Question]) -> EvaluationPlan:
    """The same by a local model that tells purple from pink."""
    from cli_fakes import PaintModel

    base_options = AskOptions(max_steps=4, patches=3)
    return EvaluationPlan(
        questions, root / "slides", LOCAL, root / "out", PaintModel(), base_options=base_options
    )


class Deadly:
    """Counts passages, and dies at one of them."""

    def __init__(self, at: int | None) -> None:
        self.at, self.count = at, 0

    def around(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with a passage before and after it."""

        def wrapped(*args: Any, **more: Any) -> Any:
            self._pass()
            result = real(*args, **more)
            self._pass()
            return result

        return wrapped

    def _pass(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def evaluate_once(
    root: Path, url: str, questions: Sequence[Question], modes: Sequence[str], at: int | None
) -> int:
    """One start of the evaluation in this process; how often it passed a place where it can die."""
    from agent.llm.providers import Line
    from eval.asking import runner

    deadly = Deadly(at)
    Line.send = deadly.around(Line.send)  # type: ignore[method-assign]
    Path.replace = deadly.around(Path.replace)  # type: ignore[method-assign]
    runner.append_line = deadly.around(runner.append_line)
    runner.shutil.rmtree = deadly.around(runner.shutil.rmtree)  # type: ignore[attr-defined]
    wanted = local_plan(root, questions) if "slide" in modes else plan(root, url, questions, modes)
    outcome: Outcome = ask_all(wanted, resume=True)
    assert outcome.left == 0
    return deadly.count


def main() -> None:
    root, url, table = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    modes, deaths = sys.argv[4].split(","), json.loads(sys.argv[5])
    import langgraph.graph  # noqa: F401 - loaded once here, not in every child
    from langgraph.checkpoint.sqlite import SqliteSaver  # noqa: F401

    import agent.report.pages  # noqa: F401
    import core_model.features.extract  # noqa: F401
    import tools.toolbox  # noqa: F401
    from agent.llm.client import open_chat
    from eval.benchmarks.registry import load_benchmark

    if url:
        import langchain_openai  # noqa: F401

        open_chat("openai:scripted", base_url=url)

    questions = load_benchmark("multipathqa", table)
    for at in [*deaths, None]:
        ended, count = forked(evaluate_once, root, url, questions, modes, at)
        results = root / "out" / "results.jsonl"
        lines = results.read_text().count("\n") if results.exists() else 0
        print(json.dumps({"ended": ended, "passages": count, "lines": lines}), flush=True)


if __name__ == "__main__":
    main()
