"""How a person takes part in a run: go there, look at this instead, think of that, stop.

Everything a person said is kept in the journal under the moment of the run at which it was heard (every
decision is one), so a resumed run does not ask again and a replay hears the same. What was said before a
decision and what was said to it have names of their own: moments count alike whether or not anyone confirms.
`Control` is the handle by which a program or a terminal takes part.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from agent.run.journal import Journal
from agent.run.records import Action
from core_model.errors import UsageError
from core_model.records import Record
from core_model.slides.box import Box
from tools.records import SolidBox

KIND = "person"
"""Said before a decision."""
CONFIRM = "confirm"
"""Said to a decision."""


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


Asker = Callable[[Action, int], Said | None]
"""Asked before each look, with the action decided on and the number of its step; None pauses the run."""


def said_before(hints: Sequence[str], look: Sequence[int] | None = None) -> list[Said]:
    """Hints and a place to look at, as a person says them. Raises `UsageError`."""
    if not all(hint.strip() for hint in hints):
        raise UsageError("a hint is empty", fix="Give every --hint a text")
    messages = [Said(do="hint", text=hint) for hint in hints]
    if look is None:
        return messages
    box = Box(*look)
    if min(box.w, box.h) < 1:
        raise UsageError(f"--look {' '.join(map(str, look))} has no area", fix="Give x y width height")
    return [*messages, Said(do="look", box=box)]


class Control:
    """Takes part in one run from outside: a thread, a notebook, a terminal. Every method returns at once.

    A paused run that is resumed takes a new one.
    """

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

    @property
    def leads(self) -> bool:
        """Whether somebody wants to say where to look: is asked before each look, or has spoken already."""
        return self.confirm is not None or bool(self._said)

    def take(self) -> list[Said]:
        """What was said and not yet taken, up to the first thing that decides the next move."""
        with self._lock:
            deciding = (n for n, message in enumerate(self._said, 1) if message.do in ("look", "stop"))
            upto = next(deciding, len(self._said))
            messages, self._said = self._said[:upto], self._said[upto:]
        return messages


def keep(journal: Journal, moment: int, messages: list[Said], kind: str = KIND) -> None:
    """Keep what was said at a moment of the run, after anything kept for it before."""
    first = len(heard(journal, moment, kind))
    for number, message in enumerate(messages, first + 1):
        journal.put(kind, f"{moment:04d}-{number:03d}", message.model_dump(mode="json"))


def heard(journal: Journal, moment: int, kind: str = KIND) -> list[Said]:
    """Everything that was said at a moment, in order."""
    messages: list[Said] = []
    while (value := journal.get(kind, f"{moment:04d}-{len(messages) + 1:03d}")) is not None:
        messages.append(Said.model_validate(value))
    return messages
