"""What a person says while a run goes on: go there, look at this instead, think of that, stop.

Everything a person said is kept in the journal under the moment of the run at which it was heard (every
decision and every confirmation is one), so a resumed run does not ask again and a replay hears the same.
`Control` is the handle by which a program or a terminal takes part.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from agent.journal import Journal
from agent.records import Action, Record
from tools.records import SolidBox

KIND = "person"


class Said(Record):
    """One thing that a person said."""

    do: Literal["accept", "look", "hint", "stop"]
    box: SolidBox | None = None
    """With "look": the place, in level-0 px."""
    mpp: float | None = None
    """With "look": the resolution wished for, µm/px; None for as fine as one image shows."""
    text: str = ""
    """With "hint": what to consider."""

    @model_validator(mode="after")
    def _whole(self) -> Said:
        if (self.do == "look") != (self.box is not None) or (self.do == "hint") != bool(self.text.strip()):
            raise ValueError("'look' needs a box and 'hint' a text, and nothing else has them")
        return self


Asker = Callable[[Action, int], Said]
"""Asked before each look, with the action decided on and the number of its step."""


class Control:
    """Takes part in a run from outside: a thread, a notebook, a terminal. Every method returns at once."""

    def __init__(self, confirm: Asker | None = None) -> None:
        self.confirm = confirm
        """Asked before each look; None where nobody wants to be."""
        self.run: Path | None = None
        """Folder of the run, as soon as there is one."""
        self._paused = threading.Event()
        self._said: list[Said] = []
        self._lock = threading.Lock()

    def pause(self) -> None:
        """End the stream after the step in hand. The run resumes from there at any later time."""
        self._paused.set()

    def redirect(self, said: Said) -> None:
        """Say something before the next decision."""
        with self._lock:
            self._said.append(said)

    @property
    def paused(self) -> bool:
        """Whether a pause was asked for."""
        return self._paused.is_set()

    def take(self) -> list[Said]:
        """What was said and not yet taken."""
        with self._lock:
            said, self._said = self._said, []
        return said


def keep(journal: Journal, moment: int, said: list[Said]) -> None:
    """Keep what was said at a moment of the run, after anything kept for it before."""
    first = len(heard(journal, moment))
    for number, one in enumerate(said, first + 1):
        journal.put(KIND, f"{moment:04d}-{number:03d}", one.model_dump(mode="json"))


def heard(journal: Journal, moment: int) -> list[Said]:
    """Everything that was said at a moment, in order."""
    found: list[Said] = []
    while (value := journal.get(KIND, f"{moment:04d}-{len(found) + 1:03d}")) is not None:
        found.append(Said.model_validate(value))
    return found
