"""`trace.jsonl`: one step per line, in order, complete after every step.

The checkpoint is what a run resumes from; the trace is what people and tools read. A run killed between the
two leaves a trace that may be a line short, a line long or cut in a line, so it is rebuilt from the
checkpoint before a resumed run goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from agent.run.records import Step
from core_model.atomic import write_text
from core_model.errors import RunError

TRACE = "trace.jsonl"


def append_step(folder: Path, step: Step) -> None:
    """Add one line to the trace."""
    try:
        with (folder / TRACE).open("a", encoding="utf-8") as file:
            file.write(step.model_dump_json() + "\n")
    except OSError as error:
        raise RunError(f"cannot be written ({error.strerror})", where=folder / TRACE) from error


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
        raise RunError(f"is no readable trace ({error})", where=path) from error
    steps = []
    for number, line in enumerate(lines if lines != [""] else [], 1):
        try:
            steps.append(Step.model_validate_json(line))
        except ValidationError as error:
            raise RunError(
                f"line {number} is not a step ({error.error_count()} faults)", where=path
            ) from error
    return steps
