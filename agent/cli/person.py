"""The person at the terminal, who is asked before each look.

Lines are read from stdin, so that a script can take part as well; where stdin ends the run is paused.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from rich.text import Text

from agent.graph.control import Said
from core_model.slides.box import Box

if TYPE_CHECKING:
    from rich.console import Console

    from agent.run.records import Action

KEYS = "Enter: go   x y w h [mpp]: look there instead   q: answer now   p: pause   other text: a hint"
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


class Person:
    """Asks on `console`, reads from stdin; `Control(confirm=person)` lets it take part."""

    def __init__(self, console: Console) -> None:
        self.console, self.waiting, self._told = console, False, False

    def __call__(self, action: Action, step: int) -> Said | None:
        """Ask the person about the action of this step. Returns what they said; None to pause."""
        self.console.print(_proposed(action, step), soft_wrap=True)
        if not self._told:
            self.console.print(Text(f"     {KEYS}", style="dim"), soft_wrap=True)
            self._told = True
        while True:
            reply = understood(self._line())
            if not isinstance(reply, str):
                return reply
            self.console.print(f"     {reply}")

    def _line(self) -> str | None:
        self.console.print("   > ", end="")
        self.waiting = True
        try:
            return sys.stdin.readline() or None
        finally:
            self.waiting = False
            if not sys.stdin.isatty():
                self.console.print()  # nobody pressed Enter


def understood(line: str | None) -> Said | str | None:
    """Read a line: `Said`, None to pause (also at the end of stdin), or advice where it is not understood."""
    text = (line or "").strip()
    if line is None or text.casefold() == "p":
        return None
    if not text:
        return Said(do="accept")
    if text.casefold() == "q":
        return Said(do="stop")
    words = text.replace(",", " ").split()
    if not all(_NUMBER.fullmatch(word) for word in words):
        return Said(do="hint", text=text)
    box, mpp = [float(word) for word in words[:4]], [float(word) for word in words[4:]]
    sound = len(box) == 4 and all(v.is_integer() for v in box) and min(box[2:]) >= 1
    if not sound or len(mpp) > 1 or not all(0 < v <= 1000 for v in mpp):
        return "A place is x y w h in level-0 px, whole numbers, and where wished its µm/px."
    return Said(do="look", box=Box(*(int(v) for v in box)), mpp=mpp[0] if mpp else None)


def _proposed(action: Action, step: int) -> Text:
    line = Text().append(f"{step:>3}  {action.tool.replace('_', ' ')}?", style="bold cyan")
    box, mpp = action.args.get("box"), action.args.get("mpp")
    place = f"  box {', '.join(map(str, box))}" if box else ""
    scale = f" at {mpp:.3g} µm/px" if mpp else ""
    arguments = {k: v for k, v in action.args.items() if k not in ("box", "mpp") and v is not None}
    words = "".join(f"  {name}: {' '.join(str(value).split())}" for name, value in arguments.items())
    return line.append(f"{place}{scale}{words}\n").append(f"     {action.reason}", style="dim")
