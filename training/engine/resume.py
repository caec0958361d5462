"""Checkpoints within a stage: which of them are whole, and whether this run can go on from them."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from core_model.errors import RunError
from core_model.files import write_value

LAYOUT, STATE = "layout.json", "trainer_state.json"


@dataclass(frozen=True)
class CheckpointLayout:
    """The division of a checkpoint into files: by how many processes, and under which engine."""

    world: int
    """Processes that wrote it."""
    zero: int
    """DeepSpeed's ZeRO stage; 0: without DeepSpeed."""

    def write(self, checkpoint: Path) -> None:
        """Leave it with the checkpoint."""
        write_value(checkpoint / LAYOUT, asdict(self))

    def is_whole(self, checkpoint: Path) -> bool:
        """Whether the files of every process are there."""
        if self.world == 1:
            states = [checkpoint / "rng_state.pth"]
        else:
            states = [checkpoint / f"rng_state_{rank}.pth" for rank in range(self.world)]
        if not self.zero:
            return all(path.is_file() for path in (*states, checkpoint / "optimizer.pt"))
        try:
            shards = checkpoint / (checkpoint / "latest").read_text().strip()
        except OSError:
            return False
        weights = self.world if self.zero == 3 else 1
        return (
            all(path.is_file() for path in states)
            and len(list(shards.glob("*_optim_states.pt"))) == self.world
            and len(list(shards.glob("*_model_states.pt"))) == weights
        )


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of the Trainer that was written to its end; trainer_state.json comes last.

    The others are removed.
    """
    whole = []
    for path in folder.glob("checkpoint-*"):
        try:
            json.loads((path / STATE).read_text())
            complete = layout_of(path).is_whole(path)
        except (OSError, ValueError, TypeError):
            complete = False
        if complete:
            whole.append(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
    return max(whole, key=step_of, default=None)


def layout_of(checkpoint: Path) -> CheckpointLayout:
    """Read how a checkpoint is divided. Raises OSError, ValueError or TypeError where it does not say so."""
    return CheckpointLayout(**json.loads((checkpoint / LAYOUT).read_text()))


def checkpoint_for(folder: Path, layout: CheckpointLayout) -> Path | None:
    """The checkpoint to go on from. Raises RunError where other processes than these wrote it."""
    checkpoint = last_whole_checkpoint(folder)
    if checkpoint is not None and (wrote := layout_of(checkpoint)) != layout:
        raise RunError(
            f"this checkpoint was written by {_in_words(wrote)} and cannot be resumed by {_in_words(layout)}",
            where=checkpoint,
            fix=f"resume with {_in_words(wrote)}, or start the stage again without --resume",
        )
    return checkpoint


def step_of(checkpoint: Path | None) -> int:
    """Steps that had been done; 0 without checkpoint."""
    return int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint else 0


def _in_words(layout: CheckpointLayout) -> str:
    processes = "1 process" if layout.world == 1 else f"{layout.world} processes"
    return f"{processes} {f'under ZeRO-{layout.zero}' if layout.zero else 'without ZeRO'}"
