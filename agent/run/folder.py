"""The run folder: where it is, whose it is, and what makes a resumed run the same run.

run.json            what was asked of which slide and model, and how the run stands
trace.jsonl         one step per line
regions/*.jpg       what was shown
checkpoint.sqlite   what a killed run resumes from
journal/*.json      what chat models and people said, each thing as it was heard
votes/1, 2, …       run folders of the votes, where the answer is their majority
answer.json         the answer, once there is one
report.html, report.md, evidence.geojson
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import ValidationError

from agent.run.records import CHANGEABLE, Answer, RunRecord, SettingChange, SlideRecord, Step
from core_model.errors import RunError, SlideError, UsageError
from core_model.files import held, place_of, write_json, write_text

log = logging.getLogger(__name__)
TRACE = "trace.jsonl"


VOTES, JOURNAL = "votes", "journal"


OVERBUDGET = "overbudget"
"""Kind of a journal's entries on calls that were not made because of the spending limit."""


RUNS, RUN, ANSWER = "giant-runs", "run.json", "answer.json"


def default_folder(record: RunRecord, resume: bool) -> Path:
    """`giant-runs/<slide>-<8 hex>` in the working folder; a number is added where that is taken.

    It is made empty, so that of several runs that start at once each has its own; whoever does not come to
    use it gives it back with `give_back`. With `resume`, the last of these that holds a run; where none
    does, the run starts from its beginning. Raises `RunError` where it cannot be made.
    """
    settings = record.settings
    facts = [record.question, record.options, record.model.fingerprint, record.seed, settings.mpp]
    # Only where they are set: runs made before they existed keep their names.
    facts += [settings.mpp_override] * (settings.mpp_override is not None)
    facts += [settings.profile] * (settings.profile is not None) + [settings.votes] * (settings.votes > 1)
    facts += [settings.regions] * (settings.regions is not None)
    facts += [settings.index] * (settings.index is not None)
    digest = hashlib.sha256(json.dumps([*facts, record.slide.id]).encode()).hexdigest()[:8]
    base = Path.cwd() / RUNS / f"{record.slide.name}-{digest}"
    if resume:
        return _last_run(base) or base
    number, folder = 1, base
    while not _claim(folder):
        number, folder = number + 1, base.with_name(f"{base.name}-{number + 1}")
    return folder


def _last_run(base: Path) -> Path | None:
    """Of a default folder and its numbered ones the last that holds a run; numbers may be missing between."""
    runs = {1: base} if (base / RUN).exists() else {}
    for run in base.parent.glob(f"{glob.escape(base.name)}-*/{RUN}"):
        number = run.parent.name.removeprefix(f"{base.name}-")
        if number.isdecimal():
            runs[int(number)] = run.parent
    return runs[max(runs)] if runs else None


def _claim(folder: Path) -> bool:
    """Make a folder that is this run's from now on; False where another run was faster."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
    except FileExistsError:
        return False
    except FileNotFoundError:
        return _claim(folder)  # giant-runs/ was empty, and another run has just removed it
    except OSError as error:
        raise _unmade(folder, error) from error
    return True


def give_back(folder: Path) -> None:
    """Remove a run folder in which nothing is, and giant-runs/ where nothing else is in it."""
    for place in (folder, folder.parent):
        if folder.parent.name == RUNS:
            with suppress(OSError):
                place.rmdir()


def choose_folder(record: RunRecord, out: Path | None, resume: bool) -> Path:
    """The folder of this run, absolute; the default one is made, others not yet.

    Raises `RunError` where it must not be used.
    """
    if out is None:
        return default_folder(record, resume)
    folder = place_of(out, "--out")
    if folder.exists() and not folder.is_dir():
        raise RunError(
            "a run folder is needed, and this is a file", where=folder, fix="Give a folder as --out"
        )
    if (folder / RUN).exists() and not resume:
        raise RunError(
            "this folder already holds a run", where=folder, fix="Add --resume, or choose another --out"
        )
    return folder


@contextmanager
def open_run(folder: Path, record: RunRecord, resume: bool) -> Iterator[RunRecord]:
    """Make or reopen the folder, for this process alone. Yields the record that stands in `run.json`.

    Raises `RunError` where the folder holds another run or another process works in it. A new folder is
    removed again where the slide or the question turns out to be unusable, or where somebody interrupts the
    run before its first step: nothing is worth resuming then.
    """
    claimed = folder.parent.name == RUNS and folder.is_dir() and not any(folder.iterdir())
    new = claimed or not folder.exists()
    _make(folder, exist_ok=claimed or resume or not new)
    try:
        with held(folder, wait=False, remove=True):
            try:
                yield _started(folder, record)
            except BaseException as error:
                unused = isinstance(error, KeyboardInterrupt) and not is_begun(folder)
                unusable = isinstance(error, SlideError | UsageError) or not (folder / RUN).exists()
                if new and (unused or unusable):
                    shutil.rmtree(folder, ignore_errors=True)
                raise
    finally:
        if new:
            give_back(folder)


def is_begun(folder: Path) -> bool:
    """Whether a run, or a vote of it, holds anything that was seen or heard: a step, or a journal's entry."""
    trace = folder / TRACE
    begun = (trace.is_file() and trace.stat().st_size > 0) or any((folder / JOURNAL).glob("*.json"))
    return begun or any(map(is_begun, (folder / VOTES).glob("*")))


def read_run(folder: Path) -> RunRecord:
    """The record of a run folder. Raises `RunError` where there is none or it is damaged."""
    try:
        return RunRecord.model_validate_json((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"this folder has no readable {RUN} ({error})", where=folder) from error
    except ValidationError as error:
        raise RunError(f"{RUN} is damaged ({error.error_count()} faults)", where=folder) from error


def read_answer(folder: Path) -> Answer:
    """The answer of a finished run. Raises `RunError` where there is none or it is damaged."""
    try:
        return Answer.model_validate_json((folder / ANSWER).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        fix = "Finish the run first: repeat its command with --resume"
        raise RunError("this run has no answer yet", where=folder, fix=fix) from error
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise RunError(
            f"{ANSWER} was written by another version of giant, or is damaged", where=folder
        ) from error


def differences(before: RunRecord, new: RunRecord) -> list[str]:
    """The differences that keep one run from being continued as another, one clause each."""

    def facts(record: RunRecord) -> dict[str, object]:
        slide, slide_model = record.slide, record.slide_model
        size, mpp = None, None
        if isinstance(slide, SlideRecord):
            size, mpp = (slide.width, slide.height), slide.mpp
        return {
            "the slide": slide.id,
            "the slide's size": size,
            "the slide's µm/px": mpp,
            "the question": record.question,
            "the options": record.options,
            "the model": (record.model.name, record.model.fingerprint),
            "the slide model": slide_model and (slide_model.name, slide_model.fingerprint),
            "the seed": record.seed,
            **{_option(name): value for name, value in record.settings if name not in CHANGEABLE},
        }

    old = facts(before)
    return [
        f"{name} was {old[name]!r} and is {value!r}"
        for name, value in facts(new).items()
        if old[name] != value
    ]


def _changed(before: RunRecord, new: RunRecord) -> list[SettingChange]:
    """The settings that may change and have."""
    pairs = ((name, getattr(before.settings, name), getattr(new.settings, name)) for name in CHANGEABLE)
    return [SettingChange(name=_option(name), was=was, now=now) for name, was, now in pairs if was != now]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _started(folder: Path, record: RunRecord) -> RunRecord:
    if not (folder / RUN).exists():
        write_json(folder / RUN, record)
        return record
    before = read_run(folder)
    changes = differences(before, record)
    if changes:
        raise RunError(
            f"this folder holds another run: {'; '.join(changes)}",
            where=folder,
            fix="Ask the same, or choose another --out",
        )
    changed = _changed(before, record)
    if not changed:
        return before
    if before.status == "finished":
        names = " and ".join(change.name for change in changed)
        log.warning("%s: the run is finished, so its answer stands whatever %s says.", folder, names)
        return before
    settings = {name: getattr(record.settings, name) for name in CHANGEABLE}
    before = before.model_copy(
        update={
            "settings": before.settings.model_copy(update=settings),
            "changes": [*before.changes, *changed],
        }
    )
    write_json(folder / RUN, before)
    return before


def _make(folder: Path, exist_ok: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
        raise _unmade(folder, error) from error


def _unmade(folder: Path, error: OSError) -> RunError:
    return RunError(
        f"this folder cannot be made ({error.strerror})", where=folder, fix="Choose another --out"
    )


def giant_version() -> str:
    """Version of the installed package; "source" where it runs without being installed."""
    try:
        return version("giant-pathology")
    except PackageNotFoundError:
        return "source"


def append_step(folder: Path, step: Step) -> None:
    """Add one line to the trace."""
    try:
        with (folder / TRACE).open("a", encoding="utf-8") as file:
            file.write(step.model_dump_json() + "\n")
    except OSError as error:
        raise RunError(f"this file cannot be written ({error.strerror})", where=folder / TRACE) from error


def rebuild_trace(folder: Path, steps: Iterable[Step]) -> None:
    """Replace the trace by exactly these steps."""
    write_text(folder / TRACE, "".join(step.model_dump_json() + "\n" for step in steps))


def read_trace(folder: Path) -> list[Step]:
    """The steps of a run. Raises `RunError` naming the line that is not a step."""
    path = folder / TRACE
    try:
        # Not splitlines: it also breaks at characters that JSON leaves inside strings, such as U+2028.
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"this trace cannot be read ({error})", where=path) from error
    steps = []
    for number, line in enumerate(lines if lines != [""] else [], 1):
        try:
            steps.append(Step.model_validate_json(line))
        except ValidationError as error:
            raise RunError(
                f"line {number} is not a step ({error.error_count()} faults)", where=path
            ) from error
    return steps
