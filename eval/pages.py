"""What a person reads of an evaluation: `summary.md` and `index.html`, from results and summary alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.trace import write_text
from eval.figures import modes_of
from eval.results import Result, label

ABOUT = ("data", "weights", "max_steps", "votes", "seed", "giant", "commit", "hardware", "python", "torch")
"""Conditions named at the head of the page, where they are known."""


def write_pages(
    folder: Path, results: Sequence[Result], summary: Mapping[str, Any], plots: Sequence[Path]
) -> None:
    """Both files. Raises `RunError` where one cannot be written."""
    write_text(folder / "summary.md", markdown(summary))
    write_text(folder / "index.html", page(folder, results, summary, plots))


def page(folder: Path, results: Sequence[Result], summary: Mapping[str, Any], plots: Sequence[Path]) -> str:
    """The page: figures, comparisons, plots, and every question with a link to its run where it was kept."""
    about = summary["about"]
    texts = [
        (task, mode, {name: _text(value) for name, value in f["text"].items()})
        for task, modes in summary["tasks"].items()
        for mode, f in modes.items()
        if f.get("text")
    ]
    return _environment().get_template("page.html.j2").render(
        about=about,
        facts=[(name.replace("_", " "), about[name]) for name in ABOUT if about.get(name) is not None],
        count=len(results),
        leaks=[summary["leakage"]["text"]] if summary.get("leakage", {}).get("text") else [],
        tasks=summary["tasks"],
        pairs={task: rows for task, rows in summary["pairs"].items() if rows},
        texts=texts,
        text_names=list(dict.fromkeys(name for *_, values in texts for name in values)),
        plots=[path.relative_to(folder).as_posix() for path in plots],
        parts=summary["parts"],
        modes=modes_of(results),
        unusable=summary.get("unusable", []),
        results=results,
        verdict=verdict,
    )  # fmt: skip


def verdict(result: Result) -> str:
    """How a result is coloured: right, wrong, or none."""
    if result.metric == "text":
        return ""
    said = label(result)
    return "none" if said is None else "right" if said == result.truth else "wrong"


def markdown(summary: Mapping[str, Any]) -> str:
    """The figures as Markdown tables, shares in per cent."""
    about = summary["about"]
    lines = [f"# {_md(about.get('benchmark'))}, {_md(about.get('model') or 'no model')}", ""]
    known = [f"{name.replace('_', ' ')} {about[name]}" for name in ABOUT if about.get(name) is not None]
    lines += [_md("; ".join(known)) + ".", ""] if known else []
    if summary.get("leakage", {}).get("text"):
        lines += [f"**{_md(summary['leakage']['text'])}**", ""]
    lines += _table(
        ("task", "mode", "n", "% ± sd", "95 %", "best constant", "chance", "abstained", "unread", "failed",
         "steps", "regions", "s", "USD"),
        (_row(task, mode, f) for task, modes in summary["tasks"].items() for mode, f in modes.items()),
    )  # fmt: skip
    lines += ["", "Abstentions, failures and replies without an answer count as wrong.", ""]
    pairs = [(task, pair) for task, rows in summary["pairs"].items() for pair in rows]
    if pairs:
        lines += _table(
            ("task", "first", "second", "n", "second - first, %", "95 %", "p McNemar", "p bootstrap"),
            (
                (task, p["first"], p["second"], p["n"], f"{100 * p['difference']:+.1f}",
                 f"{100 * p['low']:+.1f} to {100 * p['high']:+.1f}", f"{p['p_mcnemar_holm']:.4f}",
                 f"{p['p_bootstrap_holm']:.4f}")
                for task, p in pairs
            ),
        )  # fmt: skip
        lines += ["", "p-values are corrected by Holm's method for the pairs of a task.", ""]
    return "\n".join(lines) + "\n"


def _row(task: str, mode: str, f: Mapping[str, Any]) -> tuple[object, ...]:
    cost = (f"{f['steps']:.1f}", f"{f['regions']:.1f}", f"{f['seconds']:.1f}")
    money = "-" if f["usd"] is None else f"{f['usd']:.4f}"
    counts = (f["abstained"], f["unread"], f["failed"])
    if f["value"] is None:
        return (task, mode, f["n"], "words", "", "", "", *counts, *cost, money)
    name = f"{task} (balanced)" if f["metric"] == "balanced_accuracy" else task
    value = f"{100 * f['value']:.1f} ± {100 * f['sd']:.1f}"
    ends = f"{100 * f['low']:.1f} to {100 * f['high']:.1f}"
    guesses = (f"{100 * f['best_constant']:.1f}", f"{100 * f['random']:.1f}")
    return (name, mode, f["n"], value, ends, *guesses, *counts, *cost, money)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    made = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return made + [f"| {' | '.join(_md(cell) for cell in row)} |" for row in rows]


def _md(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["round1"] = lambda value: f"{value:.1f}"
    return made
