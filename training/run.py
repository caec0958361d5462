"""The order of the steps, and which of them are already done.

A step is done when its `done.json`, written last, carries the fingerprint of everything that decided its
result: its settings, the cohort's texts, and the fingerprints of the steps it reads. `--resume` skips those
and continues the one that was interrupted. Nothing finished is ever overwritten because settings changed:
that is an error which names the folders to remove.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core_model.errors import CohortError, RunError
from training import steps
from training.fit import Progress, quiet
from training.recipes import Recipe
from training.steps import Run, write_json

DONE = "done.json"
COHORT_FILES = ("split.json", "reports.jsonl", "instructions.json", "questions.csv")


@dataclass(frozen=True)
class Step:
    """One step of a recipe."""

    work: Callable[[Run, bool], None]
    """What to do; the second argument says whether to continue from what lies in the folder."""
    needs: tuple[str, ...]
    """Steps whose folders it reads."""
    settings: tuple[str, ...]
    """Fields of the recipe that decide its result, beside those of the steps it needs."""


STEPS: dict[str, Step] = {
    "tiles": Step(steps.tiles, (), ("tiles", "tile_encoder")),
    "language": Step(steps.language, (), ("vocabulary", "texts_per_slide", "language", "seed")),
    "features": Step(steps.features, ("tiles",), ("name",)),
    "stage1": Step(
        steps.stage1,
        ("features", "language"),
        ("seed", "n_tokens", "slide_encoder", "alignment", "regions", "stage1"),
    ),
    "tokens": Step(steps.tokens, ("stage1",), ()),
    "stage2": Step(steps.stage2, ("tokens",), ("stage2",)),
    "stage3": Step(steps.stage3, ("stage2",), ("stage3",)),
    "model": Step(steps.model, ("stage3",), ("calibrate", "tiles_source")),
}
"""In order."""

COMMANDS: dict[str, tuple[str, ...]] = {
    "tiles": ("tiles",),
    "language": ("language",),
    "stage1": ("features", "stage1"),
    "stage2": ("tokens", "stage2"),
    "stage3": ("stage3", "model"),
    "all": tuple(STEPS),
}
"""The steps behind each command. Features and tokens are made on the way: they are no training."""
PREPARATIONS = ("features", "tokens")
SELF_RESUMING = ("tiles", "features")
"""These know by themselves which of their files are valid, and refuse or redo the others."""


def train(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    command: str = "all",
    resume: bool = False,
    progress: Progress = quiet,
) -> Run:
    """Run the steps of a command. Returns the run, whose folders hold the results.

    `all` without `resume` needs an output folder without steps; another command makes its own step anew.
    Raises RunError where an earlier step is missing or a finished one was made with other settings.
    """
    run = Run(recipe, Path(data), Path(out), progress)
    wanted = COMMANDS[command]
    marks = fingerprints(run)
    begun = [name for name in wanted if run.folder(name).exists()]
    if command == "all" and begun and not resume:
        raise RunError(
            f"already holds {', '.join(begun)}",
            where=out,
            fix="add --resume to go on, or choose another --out",
        )
    _require(run, wanted, marks)
    if resume:
        _refuse_stale(run, wanted, marks)
    for name in wanted:
        _step(run, name, marks[name], keep=resume or name in PREPARATIONS)
    return run


def _step(run: Run, name: str, mark: str, keep: bool) -> None:
    """Do one step unless it is done and kept."""
    folder = run.folder(name)
    if keep and _mark_of(folder) == mark:
        return
    (folder / DONE).unlink(missing_ok=True)
    started = folder / "started.json"
    same = _read(started) == mark
    if not (keep and (same or name in SELF_RESUMING)):
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(started, {"fingerprint": mark})
    STEPS[name].work(run, keep and same)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / DONE, {"fingerprint": mark})


def fingerprints(run: Run) -> dict[str, str]:
    """Of every step: a digest of all that decides its result."""
    cohort = hashlib.sha256()
    for name in COHORT_FILES:
        try:
            cohort.update((run.data / name).read_bytes())
        except OSError as error:
            raise CohortError(
                f"{name} cannot be read ({error.strerror})",
                where=run.data,
                fix="write a cohort with `giant phantom --out DIR`",
            ) from error
    values = json.loads(run.recipe.model_dump_json())
    marks: dict[str, str] = {}
    for name, step in STEPS.items():
        decided: list[Any] = [name, cohort.hexdigest(), [values[key] for key in step.settings]]
        decided.append([marks[other] for other in step.needs])
        marks[name] = hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:16]
    return marks


def _mark_of(folder: Path) -> str | None:
    return _read(folder / DONE)


def _read(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text("utf-8"))["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _require(run: Run, wanted: Sequence[str], marks: dict[str, str]) -> None:
    """Every step that is read but not made by this command must be done, with these settings."""
    for name in wanted:
        for other in STEPS[name].needs:
            if other in wanted or other in PREPARATIONS:
                continue
            found = _mark_of(run.folder(other))
            if found is None:
                raise RunError(
                    f"the step '{other}' is missing", where=run.out, fix=f"run `giant train {other}` first"
                )
            if found != marks[other]:
                raise _stale(run, [other])


def _refuse_stale(run: Run, wanted: Sequence[str], marks: dict[str, str]) -> None:
    stale = [name for name in wanted if _mark_of(run.folder(name)) not in (None, marks[name])]
    if stale:
        raise _stale(run, stale)


def _stale(run: Run, names: Sequence[str]) -> RunError:
    folders = ", ".join(str(run.folder(name)) for name in names)
    return RunError(
        f"made with other settings or another cohort: {', '.join(names)}",
        where=run.out,
        fix=f"give the same ones, or remove {folders} to make anew what lies there",
    )
