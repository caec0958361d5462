"""Follow a finished run again, from its folder alone, and compare what comes out byte for byte.

    trace.jsonl   ──> RecordedToolbox ─┐
    journal/      ──> Journal          ├──> the same graph ──> answer, trace, reports ──> compared
    run.json      ──> RecordedSlide    ┘

Every decision is taken again by the same code; only what was measured once (seconds, the local model's
tokens) and the names of run and folder are taken over. A run that another version of giant made is compared
by its facts (see `agent.replay.facts`), since that version may have put the same things in other words.
With the slide, every region that was shown is read again too. Nothing is written into the run folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agent.graph.state import AgentContext
from agent.replay.facts import facts_of
from agent.replay.stand_ins import RecordedModel, RecordedSlide, RecordedToolbox, StoppedMeter
from agent.replay.verdict import Compared, Replayed
from agent.run.folder import ANSWER, RUN, TRACE, giant_version, read_answer, read_run, read_trace
from agent.run.journal import FOLDER, Journal, broken_images, broken_seals
from agent.run.records import Answer, ModelRecord, RunRecord, SlideRecord, Step, TokensRecord
from core_model.errors import GiantError, RunError
from core_model.files import place_of, write_json

PAGES = ("report.html", "report.md")
FILES = (RUN, ANSWER, TRACE, *PAGES, "evidence.geojson")
SHOWN = 80
"""Characters of a line that differs."""


def follow_again(run_folder: Path, slide: Path | None = None, *, name: str | None = None) -> Replayed:
    """Follow the run again and compare; with `slide`, compare the regions too. `name` is told in its place.

    Raises `RunError` where the folder holds no finished run, or `slide` is another slide or none.
    """
    folder = place_of(run_folder, "the call")
    record, steps = _finished(folder), read_trace(folder)
    answer = read_answer(folder)
    votes = [follow_again(folder / vote, slide, name=vote) for vote in _votes(folder, record)]
    problems = broken_seals(folder, record) + broken_images(folder, steps)
    files: list[Compared] = []
    with TemporaryDirectory(prefix="giant-replay-") as temporary:
        copy = Path(temporary)
        try:
            _copy(folder, copy, votes)
            _follow(folder, copy, record, steps, answer)
            same_version = record.giant == giant_version()
            files = [_compared(folder / file, copy / file, same_version) for file in FILES]
        except GiantError as error:
            problems.append(str(error).replace(str(copy), str(folder)).rstrip("."))
        except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
            # What a record may hold after somebody changed it has no end; none of it may be a traceback.
            problems.append(f"the record contradicts itself ({type(error).__name__}: {error})")
    if (problems or any(file.differs for file in files)) and record.giant != giant_version():
        problems.append(f"the run was made by giant {record.giant}, and this is {giant_version()}")
    result = Replayed(run=name or str(folder), files=files, problems=problems, votes=votes)
    if slide is None or votes:
        return result
    from agent.replay.regions import read_regions_again

    return result.model_copy(update=read_regions_again(record, steps, slide))


def _finished(folder: Path) -> RunRecord:
    record = read_run(folder)
    if record.status != "finished":
        raise RunError("this run is not finished", where=folder, fix="Repeat its command with --resume first")
    return record


def _votes(folder: Path, record: RunRecord) -> list[str]:
    """Folders of the votes, in order; empty for a single run. A spending limit may have ended them early."""
    if record.settings.votes == 1:
        return []
    from agent.run.folder import VOTES

    names = (f"{VOTES}/{number}" for number in range(1, record.settings.votes + 1))
    return [name for name in names if (folder / name / RUN).is_file()]


def _copy(folder: Path, copy: Path, votes: Sequence[Replayed]) -> None:
    """Copy the inputs of reports and seals. Votes are replayed by themselves; their files are inputs here."""
    for part in ("regions", FOLDER):
        if (folder / part).is_dir():
            shutil.copytree(folder / part, copy / part)
    for vote in votes:
        names = shutil.ignore_patterns("checkpoint.sqlite*", "report.*")
        shutil.copytree(folder / vote.run, copy / vote.run, ignore=names)


def _follow(folder: Path, copy: Path, record: RunRecord, steps: list[Step], answer: Answer) -> None:
    """Write into `again` what the run leaves behind when it is followed again."""
    unwritten: dict[str, Any] = {"tiles": None, "unreadable": [], "unsupported": [], "sealed": {}}
    unwritten |= {"out_of_focus": None, "blurred": []}
    start = record.model_copy(update={"status": "running", **unwritten})
    write_json(copy / RUN, start)
    if isinstance(record.slide, TokensRecord):
        _tokens_again(folder, copy, start, answer)
    elif record.settings.votes > 1:
        from agent.session.votes import write_whole

        write_whole(start, copy, run_dir=answer.run_dir)
    else:
        _steps_again(folder, copy, start, record.slide, steps, answer)


def _steps_again(
    folder: Path, copy: Path, record: RunRecord, slide_record: SlideRecord, steps: list[Step], answer: Answer
) -> None:
    from agent.graph.follow import build, finish, initial_state, run_config

    context = _context(folder, copy, record, slide_record, steps)
    toolbox, config = context.toolbox, run_config(record.most_steps)
    start: Any = initial_state(record)
    state: dict[str, Any] = {}
    parts: Any = build().stream(start, config, context=context, stream_mode=["updates", "values"])
    for kind, part in parts:
        if kind == "values":
            state = part
            continue
        for changes in part.values():
            indices = [step["index"] for step in (changes or {}).get("steps", [])]
            toolbox.done = max([toolbox.done, *indices])
    if toolbox.done != len(steps):
        raise RunError(f"the trace has {len(steps)} steps, and followed again the run takes {toolbox.done}")
    finish(record, _with_measures(state, steps, answer, context), context)


def _context(
    folder: Path, copy: Path, record: RunRecord, slide_record: SlideRecord, steps: list[Step]
) -> AgentContext:
    """A context for the nodes in which everything is recorded and nothing is open."""
    from agent.session.ask import navigator_for
    from agent.session.models import NoSlideModel

    slide, journal = RecordedSlide(slide_record), Journal(folder, replaying=True)
    chat = None
    if record.settings.navigator == "chat":
        from agent.llm.client import recorded_chat

        chat = recorded_chat(record.model.name, journal)
    local = record.model if chat is None else record.slide_model
    model = RecordedModel(local or ModelRecord(name=NoSlideModel.name, version="", fingerprint=""))
    return AgentContext(
        slide=slide,
        model=model,
        toolbox=RecordedToolbox(slide, steps),
        navigator=navigator_for(record.settings),
        folder=copy,
        mode=record.settings.mode,
        meter=StoppedMeter(model, 0.0),
        journal=journal,
        name=record.model.name,
        run_id=record.id,
        chat=chat,
        max_cost=record.settings.max_cost,
    )


def _with_measures(
    state: dict[str, Any], steps: list[Step], answer: Answer, context: AgentContext
) -> dict[str, Any]:
    """The final state with what was measured when the run was made, and with the name of its folder."""
    bill = context.chat.spent(context.journal) if context.chat is not None else None
    cost = answer.cost
    usage = {
        "seconds": cost.seconds,
        "tokens_in": cost.tokens_in - (bill.tokens_in if bill else 0),
        "tokens_out": cost.tokens_out - (bill.tokens_out if bill else 0),
    }
    seconds = {step.index: step.seconds for step in steps}
    return {
        **state,
        "spent": usage,
        "steps": [{**step, "seconds": seconds[step["index"]]} for step in state["steps"]],
        "answer": {**state["answer"], "run_dir": answer.run_dir},
    }


def _tokens_again(folder: Path, copy: Path, record: RunRecord, answer: Answer) -> None:
    from agent.session.tokens import answer_from_journal

    answer_from_journal(record, copy, Journal(folder, replaying=True), RecordedModel(record.model), answer)


def _compared(original: Path, rebuilt: Path, same_version: bool) -> Compared:
    """One file with its verdict. Another version of giant may word and lay out things in its own way."""
    differs = _differs(original, rebuilt)
    if differs is None or same_version or not original.is_file():
        return Compared(file=original.name, differs=differs)
    if original.name in PAGES:
        return Compared(file=original.name, reworded=True)
    if facts_of(original) == facts_of(rebuilt):
        return Compared(file=original.name, reworded=True)
    return Compared(file=original.name, differs=differs)


def _differs(original: Path, rebuilt: Path) -> str | None:
    """The place where two files first differ; None where they are the same, byte for byte."""
    if not original.is_file():
        return "it is missing"
    before, after = original.read_bytes(), rebuilt.read_bytes()
    if before == after:
        return None
    lines = zip(before.split(b"\n"), after.split(b"\n"), strict=False)
    pairs = ((number, pair) for number, pair in enumerate(lines, 1) if pair[0] != pair[1])
    number, (old, new) = next(pairs, (0, (b"", b"")))
    if not number:
        return f"it has {len(before)} bytes, and built again {len(after)}"
    first = next(
        (i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new))
    )
    return f"line {number} has “{_part(old, first)}”, and built again “{_part(new, first)}”"


def _part(line: bytes, at: int) -> str:
    """A few characters of a line around the place where it differs."""
    start = max(0, at - SHOWN // 4)
    return line[start : start + SHOWN].decode("utf-8", errors="replace").strip()
