"""The pipeline of a recipe: which steps it has, in which order, and which of them are already done.

A step is done when its `done.json`, written last, carries the fingerprint of everything that decided its
result: its settings, the cohort's texts, and the fingerprints of the steps it reads. `--resume` skips those
and continues the one that was interrupted. Nothing finished is ever overwritten because settings changed:
that is an error which names the folders to remove.

Under several processes (torchrun, deepspeed) the three stages are trained by all of them; everything else,
and every file, is the work of the first one, while the others wait.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core_model.errors import CohortError, RunError
from core_model.files import write_value
from training import final_model, steps
from training.context import TrainingRun
from training.engine import ranks
from training.engine.fit import StageProgress, quiet
from training.settings import PretrainedLanguage, PretrainedTiles, Recipe

DONE = "done.json"
COHORT_FILES = ("split.json", "reports.jsonl", "instructions.json", "questions.csv")
OPTIONAL = ("questions.csv",)


@dataclass(frozen=True)
class RecipeStep:
    """One step of a recipe."""

    work: Callable[[TrainingRun, bool], None]
    """What to do; the second argument says whether to continue from what lies in the folder."""
    needs: tuple[str, ...]
    """Steps whose folders it reads."""
    settings: tuple[str, ...]
    """Fields of the recipe that decide its result, beside those of the steps it needs."""
    together: bool = False
    """Whether all processes do it, not the first alone."""


STEPS: dict[str, RecipeStep] = {
    "tiles": RecipeStep(steps.pretrain_tiles, (), ("tiles", "tile_encoder")),
    "language": RecipeStep(
        steps.pretrain_language, (), ("vocabulary", "texts_per_slide", "language", "seed")
    ),
    "features": RecipeStep(
        steps.compute_features, ("tiles",), ("name", "tile_encoder", "feature_mpp", "feature_side")
    ),
    "start": RecipeStep(
        steps.make_first_checkpoint,
        ("tiles", "language"),
        (
            *("seed", "n_tokens", "pooling", "feature_dim", "slide_encoder", "slide_weights"),
            *("tile_encoder", "language", "alignment", "text_encoder"),
        ),
    ),
    "stage1": RecipeStep(steps.train_stage1, ("features", "start"), ("regions", "stage1"), together=True),
    "tokens": RecipeStep(steps.make_token_pool, ("start", "stage1"), ()),
    "stage2": RecipeStep(steps.train_stage2, ("tokens",), ("stage2",), together=True),
    "stage3": RecipeStep(steps.train_stage3, ("stage2",), ("stage3",), together=True),
    "model": RecipeStep(final_model.make_model, ("stage3",), ("calibrate", "tiles_source")),
}
"""In order."""
COMMANDS: dict[str, tuple[str, ...]] = {
    "tiles": ("tiles",),
    "language": ("language",),
    "stage1": ("features", "start", "stage1"),
    "stage2": ("start", "tokens", "stage2"),
    "stage3": ("stage3", "model"),
    "all": tuple(STEPS),
}
"""The steps behind each command. Features, tokens and the first weights are made on the way."""
PREPARATIONS = ("features", "start", "tokens")
SELF_RESUMING = ("tiles", "features")
"""These know by themselves which of their files are valid, and refuse or redo the others."""


def train_recipe(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    command: str = "all",
    resume: bool = False,
    progress: StageProgress = quiet,
) -> TrainingRun:
    """Run the steps of a command. Returns the run, whose folders hold the results.

    `all` without `resume` needs an output folder without steps; another command makes its own step anew.
    Raises RunError where an earlier step is missing or a finished one was made with other settings.
    """
    ranks.join()
    run = TrainingRun(recipe, Path(data), Path(out), progress if ranks.is_main() else quiet)
    steps_here = recipe_steps(run)
    if command in STEPS and command not in steps_here:
        raise RunError(
            f"the recipe '{recipe.name}' has no step '{command}' for this cohort",
            where=data,
            fix=f"its steps are {', '.join(name for name in steps_here if name not in PREPARATIONS)}",
        )
    names = tuple(name for name in COMMANDS[command] if name in steps_here)
    marks = fingerprints(run)
    present = [name for name in names if run.folder(name).exists()]
    if command == "all" and present and not resume:
        raise RunError(
            f"the folder already holds steps of a training ({', '.join(present)})",
            where=out,
            fix="add --resume to go on, or choose another --out",
        )
    _require(run, names, marks)
    if resume:
        _refuse_stale(run, names, marks)
    ranks.wait()  # nobody writes before everybody has looked
    for name in names:
        _do_step(run, name, marks[name], keep=resume or name in PREPARATIONS)
    return run


def recipe_steps(run: TrainingRun) -> dict[str, RecipeStep]:
    """The steps that this recipe and this cohort ask for, by name and in order.

    What is pretrained is not trained; where the cohort holds slide tokens, the slide encoder that made
    them stays as it is.
    """
    left_out = set()
    if isinstance(run.recipe.tile_encoder, PretrainedTiles):
        left_out.add("tiles")
    if isinstance(run.recipe.language, PretrainedLanguage):
        left_out.add("language")
    if (run.data / "tokens").is_dir():
        left_out |= {"features", "stage1"}
    return {
        name: replace(step, needs=tuple(need for need in step.needs if need not in left_out))
        for name, step in STEPS.items()
        if name not in left_out
    }


def _do_step(run: TrainingRun, name: str, mark: str, keep: bool) -> None:
    """Do one step unless it is done and kept."""
    folder, step = run.folder(name), recipe_steps(run)[name]
    if keep and _mark_of(folder) == mark:
        return
    start_file = folder / "started.json"
    can_continue = _read(start_file) == mark
    ranks.wait()
    if ranks.is_main():
        (folder / DONE).unlink(missing_ok=True)
        if not (keep and (can_continue or name in SELF_RESUMING)):
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_value(start_file, {"fingerprint": mark})
    ranks.wait()
    if step.together:
        step.work(run, keep and can_continue)
    elif ranks.is_main():
        with ranks.alone():
            step.work(run, keep and can_continue)
    if ranks.is_main():
        folder.mkdir(parents=True, exist_ok=True)
        write_value(folder / DONE, {"fingerprint": mark})
    ranks.wait()


def fingerprints(run: TrainingRun) -> dict[str, str]:
    """A digest of everything that decides the result of each step, by step."""
    cohort = hashlib.sha256()
    for name in COHORT_FILES:
        if name in OPTIONAL and not (run.data / name).exists():
            continue
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
    for name, step in recipe_steps(run).items():
        inputs: list[Any] = [name, cohort.hexdigest(), [values[key] for key in step.settings]]
        inputs.append([marks[need] for need in step.needs])
        marks[name] = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
    return marks


def _mark_of(folder: Path) -> str | None:
    return _read(folder / DONE)


def _read(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text("utf-8"))["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _require(run: TrainingRun, names: Sequence[str], marks: dict[str, str]) -> None:
    """Every step that is read but not made by this command must be done, with these settings."""
    for name in names:
        for need in recipe_steps(run)[name].needs:
            if need in names or need in PREPARATIONS:
                continue
            mark = _mark_of(run.folder(need))
            if mark is None:
                raise RunError(
                    f"the step '{need}' is missing", where=run.out, fix=f"run `giant train {need}` first"
                )
            if mark != marks[need]:
                raise _stale(run, [need])


def _refuse_stale(run: TrainingRun, names: Sequence[str], marks: dict[str, str]) -> None:
    stale = [name for name in names if _mark_of(run.folder(name)) not in (None, marks[name])]
    if stale:
        raise _stale(run, stale)


def _stale(run: TrainingRun, names: Sequence[str]) -> RunError:
    folders = ", ".join(str(run.folder(name)) for name in names)
    return RunError(
        f"these steps were made with other settings or another cohort: {', '.join(names)}",
        where=run.out,
        fix=f"use the settings and cohort of then, or remove {folders} to train these steps again",
    )
