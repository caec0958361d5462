"""Time and memory of a part of the work, in the process that does it.

Linux says the memory a process holds and, since a reset, held at most. Elsewhere only the peak since the
start is known, and parts inherit the peak of those before them.
"""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core_model.errors import GiantError

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MIB = 1 << 20


@dataclass(frozen=True)
class Part:
    """Time and memory of one part of the work."""

    name: str
    seconds: float
    held: int
    """Bytes of memory that the process holds more after it than before."""
    peak: int
    """Bytes that the process held at most while it ran."""
    note: str = ""


class ResourceMeter:
    """Collects parts: `with meter.part("open") as note: …; note.append("5 levels")`."""

    def __init__(self) -> None:
        self.parts: list[Part] = []

    @contextmanager
    def part(self, name: str) -> Iterator[list[str]]:
        """Measure the body; what is appended to the list becomes the part's note."""
        note: list[str] = []
        before = memory_held()
        reset_memory_peak()
        start = time.perf_counter()
        yield note
        seconds = time.perf_counter() - start
        self.parts.append(Part(name, seconds, memory_held() - before, memory_peak(), "; ".join(note)))


def in_own_process(module: str, *args: str, where: object = None) -> Any:
    """Run a module in a process of its own, and give what it passed to `answer_parent`.

    Raises `GiantError` with the last line of its standard error; `where` names what was measured.
    """
    process = subprocess.run([sys.executable, "-m", module, *args], capture_output=True, text=True)
    if process.returncode:
        last = process.stderr.strip().splitlines()[-1:] or ["no message"]
        raise GiantError(f"the measuring process failed: {last[0]}", where=where)
    return json.loads(process.stdout)


def answer_parent(work: Callable[..., Any]) -> None:
    """In a process of `in_own_process`: call `work` with its arguments and print what it gives as JSON.

    A `GiantError` ends the process with its message.
    """
    try:
        print(json.dumps(work(*sys.argv[1:])))
    except GiantError as error:
        sys.exit(str(error))


def reset_memory_peak() -> None:
    """Let the peak count from now, where the system can."""
    if RESET.exists():
        RESET.write_text("5")


def memory_peak() -> int:
    """Bytes that this process held at most since the last reset."""
    if STATUS.exists():
        return _memory("VmHWM")
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib if sys.platform == "darwin" else kib * 1024


def memory_held() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    return _memory("VmRSS")


def hardware() -> str:
    """CPU, cores and memory of this machine, in words."""
    name, total = platform.machine(), ""
    cpus, memory = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if cpus.exists() and (match := re.search(r"model name\s*:\s*(.+)", cpus.read_text())):
        name = match.group(1).strip()
    if memory.exists() and (match := re.search(r"MemTotal:\s*(\d+) kB", memory.read_text())):
        total = f", {int(match.group(1)) / 2**20:.0f} GiB"
    return f"{name}, {os.cpu_count()} cores{total}"


def _memory(field: str) -> int:
    """A field of the process's status in bytes; 0 where the system has none."""
    if not STATUS.exists():
        return 0
    match = re.search(rf"{field}:\s*(\d+) kB", STATUS.read_text())
    return int(match.group(1)) * 1024 if match else 0
