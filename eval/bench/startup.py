"""Time of `giant --help`, as a multiple of importing typer and rich, in one run on one machine."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from core_model.errors import GiantError
from eval.bench.measure import hardware

ROUNDS = 15
HELP = "import sys; sys.argv = ['giant', '--help']; from agent.cli.app import main; main()"
IMPORT = "import typer, rich"


def main() -> None:
    """Print both medians and their ratio."""
    base, ours = time_startup()
    print(f"{hardware()}; median of {ROUNDS}")
    print(f'python -c "{IMPORT}"  {base * 1000:.0f} ms')
    print(f"giant --help                   {ours * 1000:.0f} ms, {ours / base:.2f} times that")


def time_startup(rounds: int = ROUNDS) -> tuple[float, float]:
    """Median seconds of the import alone and of `giant --help`, measured in turns."""
    _seconds(IMPORT), _seconds(HELP)  # both once unmeasured: files are read from disk and compiled
    pairs = [(_seconds(IMPORT), _seconds(HELP)) for _ in range(rounds)]
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)


def _seconds(code: str) -> float:
    start = time.perf_counter()
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise GiantError(f"'{code}' fails: {process.stderr.strip()[-200:]}")
    return seconds
