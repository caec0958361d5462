"""The pages of an evaluation: `summary.md` and `index.html`, made from results and summary alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from core_model.files import write_text
from eval.asking.results import Result, label
from eval.scores.figures import modes_of
from eval.scores.summary import remarks

ENDS = ("_sd", "_low", "_high", "_n")
"""Figures that stand behind the one that they belong to."""

ABOUT = (
    *("data", "weights", "slide_model", "profile", "votes", "max_steps", "patches", "patch_px", "patch_mpp"),
    *("base_url", "max_cost", "seed", "workers", "giant", "commit", "hardware", "python", "torch"),
)
"""Conditions named at the head of the page, where they are known."""


def write_pages(
    folder: Path, results: Sequence[Result], summary: Mapping[str, Any], plots: Sequence[Path]
) -> None:
    """Both files. Raises `RunError` where one cannot be written."""
    write_text(folder / "summary.md", markdown(summary))
    write_text(folder / "index.html", page(folder, results, summary, plots))


def page(folder: Path, results: Sequence[Result], summary: Mapping[str, Any], plots: Sequence[Path]) -> str:
    """The page: figures, comparisons, plots, and every question with a link to its run where it was kept."""
    facts = summary["about"]
    texts = [
        (task, mode, {name: _text(f["text"], name) for name in f["text"] if not name.endswith(ENDS)})
        for task, modes in summary["tasks"].items()
        for mode, f in modes.items()
        if f.get("text")
    ]
    return _environment().get_template("page.html.j2").render(
        title=title(facts),
        notes=facts.get("modes", {}),
        facts=[(name.replace("_", " "), facts[name]) for name in ABOUT if facts.get(name) is not None],
        count=len(results),
        leaked=bool((summary.get("leakage") or {}).get("patients")),
        remarks=remarks(summary),
        tasks=summary["tasks"],
        pairs={task: rows for task, rows in summary["pairs"].items() if rows},
        texts=texts,
        text_names=list(dict.fromkeys(name for *_, values in texts for name in values)),
        plots=[path.relative_to(folder).as_posix() for path in plots],
        parts=summary["parts"],
        modes=modes_of(results),
        missing=summary.get("missing", []),
        unusable=summary.get("unusable", []),
        trace=lambda result: run_link(folder, result),
        results=results,
        verdict=result_class,
    )  # fmt: skip


def run_link(folder: Path, result: Result) -> str | None:
    """Link to a question's run where that was kept: its report, else what was said."""
    if result.run is None:
        return None
    report = f"{result.run}/report.html"
    return quote(report if (folder / report).is_file() else f"{result.run}/")


def result_class(result: Result) -> str:
    """The CSS class that colours a result: right, wrong or none; empty for an open question."""
    if result.metric == "text":
        return ""
    answer = label(result)
    return "none" if answer is None else "right" if answer == result.truth else "wrong"


def markdown(summary: Mapping[str, Any]) -> str:
    """The figures as Markdown tables, shares in per cent."""
    conditions = summary["about"]
    lines = [f"# {_md(title(conditions))}", ""]
    facts = [
        f"{name.replace('_', ' ')} {conditions[name]}" for name in ABOUT if conditions.get(name) is not None
    ]
    lines += [_md("; ".join(facts)) + ".", ""] if facts else []
    for remark in remarks(summary):
        lines += [_md(remark), ""]
    lines += _table(
        ("task", "mode", "n", "% ± sd", "95 %", "best constant", "chance", "abstained", "unread", "failed",
         "steps", "regions", "s", "USD"),
        (_row(task, mode, f) for task, modes in summary["tasks"].items() for mode, f in modes.items()),
    )  # fmt: skip
    lines += [""]
    for mode, words in conditions.get("modes", {}).items():
        lines.append(f"- {_md(mode)}: {_md(words)}")
    lines += [""] * bool(conditions.get("modes"))
    texts = [
        (t, m, f["text"]) for t, modes in summary["tasks"].items() for m, f in modes.items() if f.get("text")
    ]
    if texts:
        names = list(dict.fromkeys(n for *_, values in texts for n in values if not n.endswith(ENDS)))
        rows = ((t, m, *(_text(values, n) if n in values else "" for n in names)) for t, m, values in texts)
        lines += [*_table(("task", "mode", *(n.replace("_", " ") for n in names)), rows), ""]
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
    if missing := summary.get("missing"):
        lines += ["## Slides not found", ""]
        lines += _table(
            ("slide", "questions", "looked for"),
            ((m["slide"], m["questions"], m["looked_for"]) for m in missing),
        )
        lines += [""]
    if unusable := summary.get("unusable"):
        lines += ["## Rows that cannot be used", "", *_table(("row", "why"), unusable), ""]
    return "\n".join(lines) + "\n"


def title(conditions: Mapping[str, Any]) -> str:
    """Benchmark and model."""
    return f"{conditions.get('benchmark') or 'results'}, {conditions.get('model') or 'no model'}"


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
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return lines + [f"| {' | '.join(_md(cell) for cell in row)} |" for row in rows]


def _md(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def _text(figures: Mapping[str, Any], name: str) -> str:
    """A figure of texts, with its 95 % interval where it has one."""
    value, low, high = (figures.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None else "")


def _environment() -> Any:
    from agent.report.pages import jinja_environment

    filters = {"round1": lambda value: f"{value:.1f}"}
    return jinja_environment(Path(__file__).parent / "templates", filters, autoescape=True)
