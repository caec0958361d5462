"""Pictures of an evaluation: accuracy by mode, accuracy against regions read, confusion, calibration, steps.

Each function draws one figure from results and gives None where there is nothing to draw. Matplotlib's
object interface is used, without a global state or a window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core_model.errors import GiantError, RunError
from core_model.files import replacing
from eval.asking.baselines import CONSTANT
from eval.asking.results import Result, label
from eval.metrics.classification import spread
from eval.scores.figures import modes_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#3b5b92", "#b4513c", "#4f8a5b", "#8a6bb0", "#c08a2e", "#5f6b76", "#a05178")
BINS = 10
LEAST = 5
"""Answers that a point of the calibration needs: fewer would show chance."""


def write_plots(folder: Path, results: Sequence[Result], summary: Mapping[str, Any]) -> list[Path]:
    """All figures as PNG files; what was drawn. Raises `GiantError` without matplotlib, `RunError`."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise GiantError("plots need matplotlib", fix="pip install 'giant-pathology[eval]'") from error
    choice_results = [r for r in results if r.metric != "text"]
    drawings: dict[str, Callable[[], Figure | None]] = {
        "accuracy.png": lambda: accuracy_by_mode(summary),
        "regions.png": lambda: accuracy_by_regions(choice_results),
        "calibration.png": lambda: calibration(choice_results),
        "steps.png": lambda: steps(choice_results),
    }
    for task in dict.fromkeys(r.benchmark for r in choice_results):
        members = [r for r in choice_results if r.benchmark == task]
        for mode in modes_of(members):
            group = [r for r in members if r.mode == mode]
            drawings[f"confusion-{_safe(task)}-{_safe(mode)}.png"] = lambda group=group: confusion(group)  # type: ignore[misc]
    paths = []
    for name, draw in drawings.items():
        figure = draw()
        if figure is not None:
            paths.append(_save(figure, folder / name))
    return paths


def accuracy_by_mode(summary: Mapping[str, Any]) -> Figure | None:
    """For each task a bar per mode with its 95 % interval; a line where the best constant answer stands."""
    tasks = {t: m for t, m in summary["tasks"].items() if any(f["value"] is not None for f in m.values())}
    if not tasks:
        return None
    modes = list(dict.fromkeys(mode for by_mode in tasks.values() for mode in by_mode))
    if len(modes) > 1 and CONSTANT in modes:
        modes.remove(CONSTANT)  # the line stands for it
    figure, axes = _figure(max(5.0, 1.2 + 0.26 * len(tasks) * (len(modes) + 1)), 4.2)
    for place, by_mode in enumerate(tasks.values()):
        start = place * (len(modes) + 1.0)
        for number, mode in enumerate(modes):
            if mode not in by_mode:
                continue
            f, x = by_mode[mode], start + number
            ends = [[100 * (f["value"] - f["low"])], [100 * (f["high"] - f["value"])]]
            axes.bar(x, 100 * f["value"], 0.82, color=_colour(number), label=mode if place == 0 else None)
            axes.errorbar(x, 100 * f["value"], yerr=np.maximum(ends, 0), color="#222222", capsize=3, lw=1)
        constant = 100 * max(f["best_constant"] for f in by_mode.values())
        axes.hlines(constant, start - 0.5, start + len(modes) - 0.5, colors="#222222", linestyles=":", lw=1.3)
    axes.plot([], [], color="#222222", ls=":", label="best constant answer")
    axes.set_xticks([i * (len(modes) + 1.0) + (len(modes) - 1) / 2 for i in range(len(tasks))])
    names = [f"{t}\n(balanced)" if _balanced(m) else t for t, m in tasks.items()]
    rotation = {"rotation": 20, "ha": "right"} if max(map(len, names)) > 12 else {}
    axes.set_xticklabels(names, fontsize=8, **rotation)
    axes.set(ylabel="accuracy, %", ylim=(0, 100), title="Accuracy with 95 % intervals")
    _legend(axes, len(modes) + 1)
    return figure


def accuracy_by_regions(results: Sequence[Result]) -> Figure | None:
    """Share answered rightly against how many regions were read, per mode, with 95 % intervals."""
    with_regions = [r for r in results if r.regions > 0]
    if len({r.regions for r in with_regions}) < 2:
        return None
    figure, axes = _figure(6.0, 4.0)
    for number, mode in enumerate(modes_of(with_regions)):
        members = [r for r in with_regions if r.mode == mode]
        points = [(n, [r for r in members if r.regions == n]) for n in sorted({r.regions for r in members})]
        rows = [(n, len(rs), spread("accuracy", *_answers(rs))) for n, rs in points if len(rs) >= LEAST]
        if not rows:
            continue
        x, y = [n for n, _, _ in rows], np.array([100 * s.value for *_, s in rows])
        below, above = zip(*((s.value - s.low, s.high - s.value) for *_, s in rows), strict=True)
        ends = np.maximum(100 * np.array([below, above]), 0)  # (2, N)
        axes.errorbar(
            x, y, yerr=ends, marker="o", ms=4, lw=1.3, capsize=3, color=_colour(number), label=mode
        )  # fmt: skip
    axes.set(xlabel="regions read", ylabel="accuracy, %", ylim=(0, 100))
    axes.set_title(f"Accuracy against regions read (at least {LEAST} questions a point)")
    _legend(axes, 3)
    return figure


def confusion(results: Sequence[Result]) -> Figure | None:
    """Right answers (rows) against given ones (columns) of one task and mode; none where labels are many."""
    from sklearn.metrics import confusion_matrix

    answers = [label(r) for r in results]
    names = sorted({r.truth for r in results})
    if not 2 <= len(names) <= 30 or len(results) < 2 * len(names):
        return None
    columns = [*names, "another", "none"]
    given_labels = ["none" if a is None else a if a in names else "another" for a in answers]
    table = confusion_matrix([r.truth for r in results], given_labels, labels=columns)[: len(names)]
    shown_columns = [i for i in range(len(columns)) if i < len(names) or table[:, i].any()]
    table, columns = table[:, shown_columns], [columns[i] for i in shown_columns]
    figure, axes = _figure(2.8 + 0.34 * len(columns), 2.4 + 0.3 * len(names))
    axes.imshow(table / table.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(table):
        if count:
            dark = count / table[row].sum() > 0.6
            ink = "white" if dark else "black"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=ink)
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set(xlabel="answered", ylabel="right", title=f"{results[0].benchmark}, {results[0].mode}")
    return figure


def calibration(results: Sequence[Result]) -> Figure | None:
    """Share answered rightly against the confidence stated; abstentions and failures are not in it."""
    with_confidence = [r for r in results if r.confidence is not None and label(r) is not None]
    if not with_confidence:
        return None
    figure, axes = _figure(4.8, 4.6)
    axes.plot([0, 1], [0, 1], color="#999999", lw=1, ls="--")
    for number, mode in enumerate(modes_of(with_confidence)):
        members = [r for r in with_confidence if r.mode == mode]
        sure = np.array([r.confidence for r in members], dtype=float)
        hits = np.array([label(r) == r.truth for r in members], dtype=float)
        bins = np.minimum((sure * BINS).astype(int), BINS - 1)
        full_bins = [b for b in range(BINS) if (bins == b).sum() >= LEAST]
        error = expected_calibration_error(sure, hits)
        axes.plot(
            [sure[bins == b].mean() for b in full_bins], [hits[bins == b].mean() for b in full_bins],
            marker="o", ms=4, lw=1.3, color=_colour(number), label=f"{mode} (ECE {error:.2f})",
        )  # fmt: skip
    axes.set(xlabel="confidence stated", ylabel="share right", xlim=(0, 1), ylim=(0, 1), title="Calibration")
    _legend(axes, 2)
    return figure


def expected_calibration_error(sure: np.ndarray, hits: np.ndarray) -> float:
    """Mean distance of confidence (N,) and accuracy over ten bins, weighted by size (Naeini et al. 2015)."""
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    return float(
        sum(
            (bins == b).mean() * abs(sure[bins == b].mean() - hits[bins == b].mean())
            for b in range(BINS)
            if (bins == b).any()
        )
    )


def steps(results: Sequence[Result]) -> Figure | None:
    """A histogram of the steps taken, for each mode in which their number varies."""
    modes = [m for m in modes_of(results) if len({r.steps for r in results if r.mode == m}) > 1]
    members = [r for r in results if r.mode in modes]
    if not members:
        return None
    figure, axes = _figure(6.0, 3.6)
    values = [[r.steps for r in members if r.mode == mode] for mode in modes]
    edges = np.arange(0.5, max(map(max, values)) + 1.5)
    axes.hist(values, bins=list(edges), color=[_colour(i) for i in range(len(modes))], label=modes)
    axes.set(xlabel="steps", ylabel="questions", title="Steps taken")
    axes.margins(y=0.25)  # room for the legend
    axes.xaxis.get_major_locator().set_params(integer=True)
    _legend(axes, 3)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            figure.savefig(part, format="png", metadata={"Software": None})
    except OSError as error:
        raise RunError(f"the picture cannot be written ({error.strerror})", where=path) from error
    return path


def _legend(axes: Any, columns: int) -> None:
    """Beneath the axes: within them it would lie on bars that reach 100 %."""
    handles, names = axes.get_legend_handles_labels()
    if handles:
        axes.figure.legend(
            handles, names, frameon=False, fontsize=8, ncols=columns, loc="outside lower center"
        )


def _answers(results: Sequence[Result]) -> tuple[list[str], list[str | None]]:
    return [r.truth for r in results], [label(r) for r in results]


def _balanced(modes: Mapping[str, Any]) -> bool:
    return any(f["metric"] == "balanced_accuracy" for f in modes.values())


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
