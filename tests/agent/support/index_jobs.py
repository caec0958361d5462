"""What the workers of the tests of `giant index` do. Fresh processes import this module by name."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from paint_encoder import PaintEncoder

from tools import indexing
from tools.indexing import Indexed, IndexPlan, SlideFailed, SlideJob


class BuggyEncoder(PaintEncoder):
    """Divides by zero."""

    def encode(self, images: list[Any]) -> Any:
        raise ZeroDivisionError("division by zero")


def painted(plan: IndexPlan, job: SlideJob) -> Indexed | SlideFailed:
    """`index_slide` by an encoder of paint; "killer" kills its worker, and "bug" meets one."""
    if job.path.stem == "killer":
        os.kill(os.getpid(), signal.SIGKILL)
    encoders: Any = ModuleType("tile_encoders")  # the real one would load torch in each worker
    encoders.load_tile_encoder = lambda *_, **__: BuggyEncoder() if job.path.stem == "bug" else PaintEncoder()
    sys.modules["core_model.models.tile_encoders"] = encoders
    return indexing.Indexer(plan).index(job)


def where(plan: IndexPlan, job: SlideJob) -> Indexed:
    """Where the slide is read, and whether it is there."""
    assert job.local is not None
    return Indexed(job.local, int(job.local.exists()), 0, new=True)


def gpu(job: str) -> tuple[int, str | None]:
    """This process, and the GPU it may see. "dies" kills the first who has it."""
    marker = Path(f"{job}.marker")
    if job == "dies" and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")


def gpu_together(folder: Path, count: int, job: int) -> str | None:
    """The GPU of this worker, told once all `count` workers have a job: each opens a pipe of its own."""
    (folder / f"{job}.begun").touch()
    while len(list(folder.glob("*.begun"))) < count:
        os.sched_yield()
    return os.environ.get("CUDA_VISIBLE_DEVICES")
