"""Kill runs for real and resume them. Started by `test_resume.py`, because it forks: no threads may be about.

For each way to die, a forked child runs the agent until it kills itself with SIGKILL, and a second child
resumes. One JSON line per way: how the first child ended, how many tool calls the second one made, and what
it left.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import agent_fakes as fakes
import langgraph.graph  # noqa: F401 - loaded once here, not in every child
from forks import forked
from langgraph.checkpoint.sqlite import SqliteSaver

from agent.session import ask as session

QUESTION, STEPS, SEED = "Which tissue is it?", 8, 5


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_tool_call(moment: str, number: int) -> Callable[[str, int], None]:
    def hook(when: str, call: int) -> None:
        if (when, call) == (moment, number):
            die()

    return hook


def at_checkpoint(moment: str, number: int) -> None:
    """Die before or after the n-th write to the checkpoint."""
    real, count = SqliteSaver.put, [0]

    def put(self: SqliteSaver, *args: Any) -> Any:
        count[0] += 1
        if moment == "before" and count[0] == number:
            die()
        written = real(self, *args)
        if moment == "after" and count[0] == number:
            die()
        return written

    SqliteSaver.put = put  # type: ignore[method-assign]


def run(folder: Path, way: tuple[str, str, int] | None, resume: bool, options: list[str] | None) -> int:
    """One run in this process; returns how many tool calls it made."""
    boxes: list[fakes.FakeToolbox] = []
    what, moment, number = way or ("", "", 0)
    hook = at_tool_call(moment, number) if what == "tool" else lambda when, call: None
    if what == "checkpoint":
        at_checkpoint(moment, number)

    def reports(folder: Path) -> None:
        if what == "report":
            die()

    def toolbox(slide: Any, model: Any, folder: Path, progress: Any, frame: Any) -> fakes.FakeToolbox:
        boxes.append(fakes.FakeToolbox(slide, model, folder, hook=hook))
        return boxes[0]

    sys.modules["agent.report.pages"] = SimpleNamespace(write_reports=reports)  # type: ignore[assignment]
    session.open_toolbox = toolbox
    session.ask(
        fakes.fake_slide(),
        QUESTION,
        options=options,
        model=fakes.FakeModel(sharpness=0.2),
        max_steps=STEPS,
        seed=SEED,
        out=folder,
        resume=resume,
    )
    return boxes[0].calls


def main() -> None:
    root, ways = Path(sys.argv[1]), json.loads(sys.argv[2])
    for kind, options in (("closed", fakes.OPTIONS), ("open", None)):
        _, calls = forked(run, root / kind / "unbroken", None, False, options)
        print(json.dumps({"kind": kind, "way": None, "calls": calls}), flush=True)
        for what, moment, number in ways[kind]:
            folder = root / kind / f"{what}-{moment}-{number}"
            died, _ = forked(run, folder, (what, moment, number), False, options)
            _, calls = forked(run, folder, None, True, options)
            line = {"kind": kind, "way": folder.name, "signal": died, "calls": calls, "number": number}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
