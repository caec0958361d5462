"""The result of a replay, as a record."""

from __future__ import annotations

from pydantic import Field

from core_model.records import Record


class Compared(Record):
    """One file, as it is and as it was built again."""

    file: str
    differs: str | None = None
    """Where; None where both are the same, byte for byte, or `reworded`."""
    reworded: bool = False
    """Whether another version of giant wrote it in other words. Of records every fact is the same; pages,
    which hold nothing of their own, are then not compared."""


class Replayed(Record):
    """A replay of one run."""

    run: str
    """The run folder; of a vote, its folder within that of the whole."""
    files: list[Compared] = Field(default_factory=list)
    problems: list[str] = Field(default_factory=list)
    """What was changed in the folder, and why the run could not be followed again, one clause each."""
    regions: int | None = None
    """Regions shown; None where no slide was given to read them from again."""
    equal: int | None = None
    """Of these, how many have the same pixels on the slide."""
    changed: list[str] = Field(default_factory=list)
    """The others, one clause each: step, box, what differs."""
    votes: list[Replayed] = Field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything is as recorded."""
        files_match = not self.problems and bool(self.files) and not any(file.differs for file in self.files)
        return files_match and not self.changed and all(vote.ok for vote in self.votes)

    @property
    def first_fault(self) -> str:
        """The first thing that is not as recorded, in one clause."""
        for vote in self.votes:
            if not vote.ok:
                return f"{vote.run}: {vote.first_fault}"
        faults = [*self.problems, *(f"{file.file}: {file.differs}" for file in self.files if file.differs)]
        return next(iter([*faults, *self.changed]), "nothing was built again")
