"""What a finished run looked like: a hash of everything that a replay builds on, kept in `run.json`.

A replay shows that answer and reports follow from journal and trace. That these are still what they were, no
replay can show; their hashes do.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from agent.run.folder import ANSWER
from agent.run.journal import FOLDER
from agent.run.records import RunRecord, Step
from agent.run.trace import TRACE
from core_model.errors import RunError


def seal(folder: Path) -> dict[str, str]:
    """SHA-256 of the answer, of each line of the trace, and of each file of the journal, by name."""
    found = {ANSWER: _sha256(_read(folder / ANSWER))}
    # Bytes, because str.splitlines also breaks at characters that JSON leaves inside strings.
    lines = _read(folder / TRACE).split(b"\n")
    for number, line in enumerate(lines[:-1] if lines[-1] == b"" else lines, 1):
        found[f"{TRACE} line {number}"] = _sha256(line)
    for path in sorted((folder / FOLDER).glob("*.json")):
        found[f"{FOLDER}/{path.name}"] = _sha256(_read(path))
    return found


def broken_seals(folder: Path, record: RunRecord) -> list[str]:
    """What is not as it was when the run was finished, one clause each."""
    then, now = record.sealed, seal(folder)
    problems = []
    for name in sorted({*then, *now}):
        if name not in now:
            problems.append(f"{name} is missing")
        elif name not in then:
            problems.append(f"{name} was not there when the run was finished")
        elif then[name] != now[name]:
            problems.append(f"{name} was changed after the run was finished")
    return problems


def broken_images(folder: Path, steps: list[Step]) -> list[str]:
    """Images of regions that are not those of the trace, one clause each."""
    problems = []
    for step in steps:
        image, known = step.observation.image, step.observation.image_sha256
        if image is None:
            continue
        path = (folder / image).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            problems.append(f"step {step.index}: {image} is not in the run folder")
        elif known is None:
            problems.append(f"step {step.index}: the trace has no hash of {image}")
        elif _sha256(_read(path)) != known:
            problems.append(f"step {step.index}: {image} was changed after it was shown")
    return problems


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot be read ({error.strerror})", where=path) from error
