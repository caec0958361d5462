"""Lets the tests of evaluations import helpers: theirs, those of slides, the agent's chat server."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parent / "agent" / "support", HERE.parent / "core_model"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
