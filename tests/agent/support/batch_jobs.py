"""What the workers of the batch tests do. Fresh processes and Ray nodes import this module by name."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

from agent.batch.plan import BatchPlan
from agent.batch.questions import ReportQuestion
from agent.batch.slide import Failed, Job, Reported, report_slide
from core_model.errors import CheckpointError

SHORT = (
    ReportQuestion(
        name="description",
        section="microscopic description",
        question="Describe this slide.",
        mode="slide",
    ),
    ReportQuestion(
        name="tumour",
        section="diagnosis",
        question="Is there tumour?",
        options=("yes", "no"),
        says={"no": "No tumour was found."},
    ),
)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def doubled(folder: Path, job: tuple[int, str]) -> tuple[int, int]:
    """Twice the number, and the process it was done in. `job` also says what goes wrong on the way."""
    number, fate = job
    (folder / f"{number}-{os.getpid()}").touch()  # who tried it
    first = len(list(folder.glob(f"{number}-*"))) == 1
    if fate == "dies" or (fate == "dies once" and first):
        die()
    if fate == "refuses":
        raise CheckpointError("holds no llava", where="model")
    if fate == "breaks":
        raise ZeroDivisionError("a bug")
    if fate == "leaves":
        os._exit(3)
    return 2 * number, os.getpid()


def threads(job: int) -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def painted(plan: BatchPlan, job: Job) -> Reported | Failed:
    """`report_slide` with the model that tells purple from pink.

    A slide whose name begins with "killer" kills the worker that has it, "once" only the first time; one that
    begins with "bug" meets a bug.
    """
    from cli_fakes import PaintModel

    from core_model.models import wsi_llava

    wsi_llava.load_model = lambda *_, **__: PaintModel()  # type: ignore[attr-defined]
    marker = plan.out / f".{job.name}.killed"
    if job.name.startswith("killer") and not (job.name.startswith("killer-once") and marker.exists()):
        marker.touch()
        die()
    return report_slide(plan, job)


def stuck_once(port: int, plan: BatchPlan, job: Job) -> Reported | Failed:
    """`painted` on Ray; the slide "stuck" first tells a port which node it is on, and stays there."""
    import ray

    marker = plan.out / ".stuck"
    if job.name == "stuck" and not marker.exists():
        marker.touch()
        with socket.create_connection(("127.0.0.1", port)) as line:
            line.sendall(ray.get_runtime_context().get_node_id().encode())
            line.recv(1)
    return painted(plan, job)


class Watched:
    """Keeps what a batch tells its watcher, and acts on it."""

    def __init__(self, act: Any = None) -> None:
        self.told: list[tuple[str, ...]] = []
        self._act = act or (lambda told: None)

    def started(self, name: str) -> None:
        self.told.append(("started", name))
        self._act(self.told)

    def ended(self, name: str, said: str, new: bool) -> None:
        self.told.append(("ended", name, said))
        self._act(self.told)

    @property
    def ends(self) -> list[str]:
        return [one[1] for one in self.told if one[0] == "ended"]


def dab(path: Path, purple_share: float = 0.6) -> Path:
    """A slide of 700 x 500 px like that of `cli_fakes.paint`, a quarter as large."""
    from cli_fakes import GLASS, PINK, PURPLE
    from PIL import Image

    image, left = Image.new("RGB", (700, 500), GLASS), round(600 * purple_share)
    image.paste(PURPLE, (50, 50, 50 + left, 450))
    image.paste(PINK, (50 + left, 50, 650, 450))
    image.save(path)
    return path
