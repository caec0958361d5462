"""Everything that is computed from results: summary, pages, plots. Neither a model nor a slide is needed.

    results.jsonl [+ about.json] ──> summary.json, summary.md, plots/*.png, index.html

`about.json` says what was evaluated and what of it could not be. Without it the figures are the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from core_model.errors import RunError
from core_model.files import write_text
from eval.asking.results import RESULTS, read_results
from eval.scores.judge import Judge
from eval.scores.pages import write_pages
from eval.scores.plots import write_plots
from eval.scores.summary import summarise, write_summary
from eval.scores.texts import add_texts

ABOUT, SUMMARY, PLOTS = "about.json", "summary.json", "plots"


def score_folder(
    folder: Path,
    say: Callable[[str], None],
    judge: Judge | None = None,
    workers: int = 1,
    tell: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Compute and write everything anew; `say` hears in a line what could not be.

    With a `judge` the claims of open answers are judged, those alone that were not yet; that asks its model.
    Raises `RunError` for no results, and what a judge raises.
    """
    results = read_results(folder / RESULTS)
    if not results:
        raise RunError("the folder holds no results", where=folder, fix="Give a folder that giant eval wrote")
    record = read_about(folder)
    summary = summarise(results, record.pop("about", {}))
    total = record.pop("wanted", len(results))
    summary |= {"left": max(0, total - len(results)), **record}
    texts = _missing("sacrebleu", "rouge_score", "nltk") if any(r.metric == "text" for r in results) else ""
    if texts and judge is None:
        say(f"No text metrics: {texts}")
    else:
        add_texts(summary, results, folder, judge, workers, tell)
    write_summary(folder / SUMMARY, summary)
    plots = []
    if why := _missing("matplotlib"):
        say(f"No plots: {why}")
    else:
        plots = write_plots(folder / PLOTS, results, summary)
    write_pages(folder, results, summary, plots)
    return summary


def _missing(*packages: str) -> str:
    """Name the packages that are not installed and say how to get them; empty where all are."""
    absent = [name for name in packages if find_spec(name) is None]
    return f"{', '.join(absent)} not installed; pip install 'giant-pathology[eval]'" if absent else ""


def write_about(folder: Path, record: dict[str, Any]) -> None:
    """Write the notes on what is evaluated."""
    write_text(folder / ABOUT, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def read_about(folder: Path) -> dict[str, Any]:
    """Read the notes on what was evaluated; empty where there are none. Raises `RunError`."""
    path = folder / ABOUT
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"the file cannot be read ({error})", where=path, fix="Remove it: the figures do not need it"
        ) from error
    return record if isinstance(record, dict) else {}
