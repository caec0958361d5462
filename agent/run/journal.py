"""The journal of a run: what models and people said, kept as soon as it is known; and the run's seal.

    journal/<kind>-<key>.json

A run that is killed and resumed finds here what was heard already, so no paid call is repeated and no person
is asked twice. A replay reads nothing else: with the journal and the recorded observations every decision
is taken again by the same code, without model, network or slide.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agent.run.folder import ANSWER, TRACE
from agent.run.folder import JOURNAL as FOLDER
from agent.run.records import RunRecord, Step
from core_model.errors import RunError
from core_model.files import write_text

NOTICE = "notice"
"""Kind of the entries about what the server of a chat model turned out not to take; `said` is a sentence."""
_KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,150}")


class Journal:
    """The journal of one run folder. Values are JSON values."""

    def __init__(self, run: Path, *, replaying: bool = False) -> None:
        self.folder, self.replaying = run / FOLDER, replaying

    def once(self, kind: str, key: str, make: Callable[[], Any]) -> Any:
        """The value kept under this name, else that of `make`, kept before it is returned.

        A value is returned as JSON gives it back, so that the first time is like every other. Raises
        `RunError` while replaying where nothing is kept under this name.
        """
        path = self._path(kind, key)
        if not path.exists():
            if self.replaying:
                raise RunError(
                    f"the journal of this run has no {path.name}: the run as recorded took another way",
                    where=self.folder.parent,
                )
            self.put(kind, key, make())
        return self._read(path)

    def get(self, kind: str, key: str) -> Any | None:
        """The value kept under this name, or None."""
        path = self._path(kind, key)
        return self._read(path) if path.exists() else None

    def put(self, kind: str, key: str, value: Any) -> None:
        """Keep a value, in place of any before it. Raises `RunError` where it cannot be written."""
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(f"this folder cannot be made ({error.strerror})", where=self.folder) from error
        text = json.dumps({"version": 1, "value": value}, ensure_ascii=False, allow_nan=False)
        write_text(self._path(kind, key), text + "\n")

    def has(self, kind: str) -> bool:
        """Whether anything of this kind is kept."""
        return any(self.folder.glob(f"{kind}-*.json"))

    def keys(self, kind: str) -> list[str]:
        """The keys of a kind, in order."""
        return sorted(path.stem.removeprefix(f"{kind}-") for path in self.folder.glob(f"{kind}-*.json"))

    def values(self, kind: str) -> Iterator[Any]:
        """Every value of a kind, in the order of their names."""
        for path in sorted(self.folder.glob(f"{kind}-*.json")):
            yield self._read(path)

    def notices(self) -> list[str]:
        """What the server of a chat model turned out not to take, in the order in which it was noticed."""
        return [entry["said"] for entry in sorted(self.values(NOTICE), key=lambda entry: entry["number"])]

    def _path(self, kind: str, key: str) -> Path:
        if not _KEY.fullmatch(f"{kind}-{key}"):
            raise ValueError(f"{kind}-{key} is no name for a file")
        return self.folder / f"{kind}-{key}.json"

    def _read(self, path: Path) -> Any:
        try:
            return json.loads(path.read_text(encoding="utf-8"))["value"]
        except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"this entry of the journal cannot be read ({error})", where=path) from error


def seal(folder: Path) -> dict[str, str]:
    """SHA-256 of the answer, of each line of the trace, and of each file of the journal, by name."""
    hashes = {ANSWER: _sha256(_read(folder / ANSWER))}
    # Bytes, because str.splitlines also breaks at characters that JSON leaves inside strings.
    lines = _read(folder / TRACE).split(b"\n")
    for number, line in enumerate(lines[:-1] if lines[-1] == b"" else lines, 1):
        hashes[f"{TRACE} line {number}"] = _sha256(line)
    for path in sorted((folder / FOLDER).glob("*.json")):
        hashes[f"{FOLDER}/{path.name}"] = _sha256(_read(path))
    return hashes


def broken_seals(folder: Path, record: RunRecord) -> list[str]:
    """The changes since the run was finished, one clause each."""
    recorded_hashes, actual = record.sealed, seal(folder)
    problems = []
    for name in sorted({*recorded_hashes, *actual}):
        if name not in actual:
            problems.append(f"{name} is missing")
        elif name not in recorded_hashes:
            problems.append(f"{name} was not there when the run was finished")
        elif recorded_hashes[name] != actual[name]:
            problems.append(f"{name} was changed after the run was finished")
    return problems


def broken_images(folder: Path, steps: list[Step]) -> list[str]:
    """Images of regions that are not those of the trace, one clause each."""
    problems = []
    for step in steps:
        image, digest = step.observation.image, step.observation.image_sha256
        if image is None:
            continue
        path = (folder / image).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            problems.append(f"step {step.index}: {image} is not in the run folder")
        elif digest is None:
            problems.append(f"step {step.index}: the trace has no hash of {image}")
        elif _sha256(_read(path)) != digest:
            problems.append(f"step {step.index}: {image} was changed after it was shown")
    return problems


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"this file cannot be read ({error.strerror})", where=path) from error
