"""Kill the driver of a batch for real and resume it. Started by `test_batch_kills.py`, because it forks.

For each moment a forked child works until it kills itself with SIGKILL, and a second child resumes. One JSON
line per moment: how the first ended, which slides the second took up, and what stands in `reports.jsonl`.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import batch_jobs as jobs
import langgraph.graph  # noqa: F401 - loaded once here, not in every child
from cli_fakes import PaintModel
from forks import forked

from agent.batch import batch, manifest
from agent.batch import slide as batch_slide
from agent.batch.batch import Batch
from agent.batch.plan import BatchPlan
from agent.session.options import AskOptions
from tools.toolbox import Toolbox


def die_at(place: Any, name: str, moment: str, number: int) -> None:
    """Die before or after the n-th call of a function."""
    real, count = getattr(place, name), [0]

    def watched(*args: Any, **kwargs: Any) -> Any:
        count[0] += 1
        if (moment, count[0]) == ("before", number):
            jobs.die()
        made = real(*args, **kwargs)
        if (moment, count[0]) == ("after", number):
            jobs.die()
        return made

    setattr(place, name, watched)


PLACES: dict[str, tuple[Any, str]] = {
    "tool": (Toolbox, "call"),
    "begun": (manifest, "prepare"),
    "pages": (batch_slide, "write_slide_pages"),
    "manifest": (manifest, "complete"),
    "index": (batch, "write_index"),
}


def run(out: Path, slides: list[Path], way: tuple[str, str, int] | None) -> list[str]:
    """One batch in this process; returns the slides that were taken up and were not complete already."""
    if way is not None:
        die_at(*PLACES[way[0]], *way[1:])
    batch.SLOW_PAGES = math.inf  # a loaded machine too writes them after each slide
    plan = BatchPlan(out, AskOptions(model=PaintModel(), mpp=2.0, max_steps=3), jobs.SHORT[1:])
    watched = jobs.Watched()
    Batch(plan, resume=True).run(slides, watched)
    return [told[1] for told in watched.told if told[0] == "ended" and told[2] == "reported"]


def main() -> None:
    root, slides = Path(sys.argv[1]), [Path(path) for path in json.loads(sys.argv[2])]
    for way in [None, *json.loads(sys.argv[3])]:
        out = root / ("unbroken" if way is None else "-".join(map(str, way)))
        died, _ = forked(run, out, slides, way)
        index = (out / "reports.jsonl").read_text() if (out / "reports.jsonl").exists() else ""
        before = [json.loads(line)["slide"] for line in index.splitlines()]
        _, again = forked(run, out, slides, None)
        line = {"way": way, "signal": died, "before": before, "again": again, "out": str(out)}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
