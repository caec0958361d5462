"""The order of the steps, and which of them are already done.

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

from core_model.atomic import write_value
from core_model.errors import CohortError, RunError
from training import steps
from training.context import Run
from training.engine import ranks
from training.engine.fit import Progress, quiet
from training.settings import PretrainedLanguage, PretrainedTiles, Recipe

DONE = "done.json"
COHORT_FILES = ("split.json", "reports.jsonl", "instructions.json", "questions.csv")
OPTIONAL = ("questions.csv",)


@dataclass(frozen=True)
class Step:
    """One step of a recipe."""

    work: Callable[[Run, bool], None]
    """What to do; the second argument says whether to continue from what lies in the folder."""
    needs: tuple[str, ...]
    """Steps whose folders it reads."""
    settings: tuple[str, ...]
    """Fields of the recipe that decide its result, beside those of the steps it needs."""
    together: bool = False
    """Whether all processes do it, not the first alone."""


STEPS: dict[str, Step] = {
    "tiles": Step(steps.tiles, (), ("tiles", "tile_encoder")),
    "language": Step(steps.language, (), ("vocabulary", "texts_per_slide", "language", "seed")),
    "features": Step(steps.features, ("tiles",), ("name", "tile_encoder", "feature_mpp", "feature_side")),
    "start": Step(
        steps.start,
        ("tiles", "language"),
        (
            *("seed", "n_tokens", "pooling", "feature_dim", "slide_encoder", "slide_weights"),
            *("tile_encoder", "language", "alignment", "text_encoder"),
        ),
    ),
    "stage1": Step(steps.stage1, ("features", "start"), ("regions", "stage1"), together=True),
    "tokens": Step(steps.tokens, ("start", "stage1"), ()),
    "stage2": Step(steps.stage2, ("tokens",), ("stage2",), together=True),
    "stage3": Step(steps.stage3, ("stage2",), ("stage3",), together=True),
    "model": Step(steps.model, ("stage3",), ("calibrate", "tiles_source")),
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
    ranks.start()
    run = Run(recipe, Path(data), Path(out), progress if ranks.is_main() else quiet)
    known = steps_of(run)
    if command in STEPS and command not in known:
        raise RunError(
            f"the recipe '{recipe.name}' has no step '{command}' for this cohort",
            where=data,
            fix=f"its steps are {', '.join(name for name in known if name not in PREPARATIONS)}",
        )
    wanted = tuple(name for name in COMMANDS[command] if name in known)
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
    ranks.wait()  # nobody writes before everybody has looked
    for name in wanted:
        _step(run, name, marks[name], keep=resume or name in PREPARATIONS)
    return run


def steps_of(run: Run) -> dict[str, Step]:
    """The steps that recipe and cohort ask for.

    What is pretrained is not trained; where the cohort holds slide tokens, the slide encoder that made
    them stays as it is.
    """
    out = set()
    if isinstance(run.recipe.tile_encoder, PretrainedTiles):
        out.add("tiles")
    if isinstance(run.recipe.language, PretrainedLanguage):
        out.add("language")
    if (run.data / "tokens").is_dir():
        out |= {"features", "stage1"}
    return {
        name: replace(step, needs=tuple(other for other in step.needs if other not in out))
        for name, step in STEPS.items()
        if name not in out
    }


def _step(run: Run, name: str, mark: str, keep: bool) -> None:
    """Do one step unless it is done and kept."""
    folder, step = run.folder(name), steps_of(run)[name]
    if keep and _mark_of(folder) == mark:
        return
    started = folder / "started.json"
    same = _read(started) == mark
    ranks.wait()
    if ranks.is_main():
        (folder / DONE).unlink(missing_ok=True)
        if not (keep and (same or name in SELF_RESUMING)):
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_value(started, {"fingerprint": mark})
    ranks.wait()
    if step.together:
        step.work(run, keep and same)
    elif ranks.is_main():
        with ranks.alone():
            step.work(run, keep and same)
    if ranks.is_main():
        folder.mkdir(parents=True, exist_ok=True)
        write_value(folder / DONE, {"fingerprint": mark})
    ranks.wait()


def fingerprints(run: Run) -> dict[str, str]:
    """Of every step: a digest of all that decides its result."""
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
    for name, step in steps_of(run).items():
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
        for other in steps_of(run)[name].needs:
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
