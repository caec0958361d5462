"""Kill `giant index` for real and repeat it. Started by `test_index_kills.py`, because it forks.

A forked child indexes five slides and tells an event for each file that it touches in the store and each
tile that it reads. At a random event it is killed: by itself, in the midst of a write where it is one; or
from outside, while it goes on. Then the same command is given until it comes to its end, sometimes after more
kills. One JSON line per moment: what was killed, and what is wrong.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from paint_encoder import PaintEncoder
from PIL import Image

import tools.index  # noqa: F401 - loaded once here, not in every child
from agent.cli.app import build_app
from core_model.features import extract, unfinished  # noqa: F401
from core_model.models import tile_encoders
from core_model.slides.slide import Slide

OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate", "os.chmod", "fcntl.flock")
"""Audit events of Python that touch a file."""


class StepEncoder(PaintEncoder):
    """Eight tiles at once; its features tell what else was in their batch, as real ones may."""

    step = 8

    def encode(self, images: list[Image.Image]) -> np.ndarray:
        rows = super().encode(images)
        rows[:, 1] += len(images) / 7 + rows[:, 0].sum()
        return rows


def events(store: Path, tell: Callable[[str], None]) -> None:
    """From now on, tell what this process does: forever, as audit hooks are."""

    def heard(event: str, args: tuple[Any, ...]) -> None:
        if event in OPERATIONS and args and str(args[0]).startswith(str(store)):
            tell(event)

    sys.addaudithook(heard)
    read, write = Slide.read, unfinished._write_all

    def told_read(self: Slide, *args: Any) -> Any:
        tell("read")
        return read(self, *args)

    def told_write(handle: int, content: bytes) -> None:
        half = len(content) // 2
        write(handle, content[:half])
        tell("half a record")
        write(handle, content[half:])
        tell("a record")

    Slide.read, unfinished._write_all = told_read, told_write  # type: ignore[method-assign]


def index(slides: list[str], store: Path, tell: Callable[[str], None] | None) -> int:
    """`giant index` in this process; its exit code."""
    tile_encoders.load_tile_encoder = lambda *_, **__: StepEncoder()  # type: ignore[assignment]
    if tell is not None:
        events(store, tell)
    command = [
        "index",
        *slides,
        "--out",
        str(store),
        "--mpp",
        "2",
        "--readers",
        "2",
        "--quiet",
        "--no-isolate",
    ]
    try:
        build_app()(command, prog_name="giant", standalone_mode=False)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def child_of(
    slides: list[str], store: Path, dies_at: int | None = None, killed_at: int | None = None
) -> tuple[int, int, str]:
    """A forked child that indexes: the signal that ended it, the events it told, and the last of them.

    `dies_at` it kills itself at that event; `killed_at` it is killed from outside once it has told as many.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def tell(event: str) -> None:
            nonlocal count
            count += 1
            os.write(writer, f"{event}\n".encode())
            if count == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

        code = 9
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            code = index(slides, store, tell)
        finally:
            os._exit(code)
    os.close(writer)
    told: list[str] = []
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        rest = b""
        while part := pipe.read(64):
            *lines, rest = (rest + part).split(b"\n")
            told += [line.decode() for line in lines]
            if killed_at is not None and len(told) >= killed_at:
                os.kill(child, signal.SIGKILL)
                killed_at = None
    status = os.waitpid(child, 0)[1]
    ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)
    return ended, len(told), told[-1] if told else ""


def content(store: Path) -> dict[str, bytes]:
    """The files that a reader of the store would take, without what it says of the folder."""
    name = str(store).encode()
    return {
        str(path.relative_to(store)): path.read_bytes().replace(name, b"*" * len(name))
        for path in store.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def left(store: Path) -> list[str]:
    """What no reader takes, but locks."""
    return [p.name for p in store.rglob(".*") if p.is_file() and not p.name.endswith(".lock")]


def moment(
    root: Path, slides: list[str], number: int, total: int, wanted: dict[str, bytes]
) -> dict[str, Any]:
    """Kill at one to three random events, then come to the end."""
    rng, store = random.Random(number), root / f"{number:05d}"
    kills, wrong = [], []
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(1, total + 1)
        inside = (number + len(kills)) % 2 == 1  # whoever kills from outside may come too late
        ended, told, last = child_of(slides, store, at if inside else None, None if inside else at)
        kills.append((ended, told, last))
        wrong += [name for name, data in content(store).items() if wanted.get(name) != data]
    ended, _, _ = child_of(slides, store)
    if ended != 0 or content(store) != wanted or left(store):
        wrong.append(f"the end: {ended}, {sorted(content(store))}, {left(store)}")
    return {"kills": kills, "wrong": wrong}


def main() -> None:
    root, slides, count = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
    ended, total, _ = child_of(slides, root / "00000")
    wanted = content(root / "00000")
    print(json.dumps({"ended": ended, "events": total, "files": sorted(wanted)}), flush=True)
    for number in range(1, count + 1):
        print(json.dumps(moment(root, slides, number, total, wanted)), flush=True)


if __name__ == "__main__":
    main()
