"""Lets the tests of evaluations import their helpers, and the chat server of the agent's tests."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parent / "agent" / "support"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
