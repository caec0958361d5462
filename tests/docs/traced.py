"""Run `giant` and say which files of ours took part: `python traced.py FILES.json ROOT ask SLIDE QUESTION …`.

FILES.json becomes {file: "function", "class" or "module"}: the most that ran of each file, relative to ROOT.
A file that ran at module level only was imported; one of which a function ran took part.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

PACKAGES = ("agent", "core_model", "eval", "tools", "training")
KINDS = ("module", "class", "function")
COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
"""Frames of their own up to Python 3.11, also at module level."""


def trace(argv: list[str], root: Path) -> dict[str, str]:
    """Run the command line with these arguments; files of our packages with the most that ran of each."""
    ran: set[tuple[str, str]] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_name not in COMPREHENSIONS:
            optimized = code.co_flags & inspect.CO_OPTIMIZED
            kind = "function" if optimized else "module" if code.co_name == "<module>" else "class"
            ran.add((code.co_filename, kind))

    threading.setprofile(note)
    sys.setprofile(note)
    sys.argv = ["giant", *argv]
    with contextlib.suppress(SystemExit):
        from agent.cli.app import main

        main()
    sys.setprofile(None)
    files: dict[str, str] = {}
    for name, kind in sorted(ran, key=lambda item: KINDS.index(item[1])):
        path = Path(name)
        if path.is_relative_to(root) and path.relative_to(root).parts[0] in PACKAGES:
            files[str(path.relative_to(root))] = kind
    return files


if __name__ == "__main__":
    out, root, *rest = sys.argv[1:]
    sys.path.insert(0, root)
    Path(out).write_text(json.dumps(trace(rest, Path(root)), indent=1, sort_keys=True))
