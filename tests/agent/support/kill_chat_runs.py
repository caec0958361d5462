"""Kill chat runs for real and resume them. Started by `test_kill_chat.py`, whose process has the server.

This process forks, so it has no threads. For each way to die, forked children run the agent against the
server: each of the first ones dies where the way says, by SIGKILL, and the last one goes on to the answer.
One JSON line per way: the signals the children ended by, and the calls that the journal held after each.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import chat_fakes as chat
import langchain_openai  # noqa: F401 - loaded once here, not in every child
import langgraph.graph  # noqa: F401
from forks import forked
from langgraph.checkpoint.sqlite import SqliteSaver

import agent.navigators.chat  # noqa: F401
from agent.graph.control import Control, Said
from agent.llm.client import open_chat
from agent.llm.providers import Line
from agent.session import ask as session
from tools.toolbox import Toolbox

NOW = "now.json"
"""Who runs at the moment, where, and at which of its requests the server kills it."""


class Counter:
    """Dies before or after the n-th passage through a function; counts them where the way is another."""

    def __init__(self, way: list[Any] | None) -> None:
        self.what, self.moment, self.number = way or ("", "", 0)
        self.counts: dict[str, int] = {}

    def around(self, what: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with a death in it where the way says so."""

        def wrapped(*args: Any, **more: Any) -> Any:
            self.counts[what] = self.counts.get(what, 0) + 1
            self._die(what, "before")
            try:
                return real(*args, **more)
            finally:  # a refusal comes after a passage too
                self._die(what, "after")

        return wrapped

    def _die(self, what: str, moment: str) -> None:
        if (what, moment, self.counts[what]) == (self.what, self.moment, self.number):
            os.kill(os.getpid(), signal.SIGKILL)


def run(root: Path, url: str, folder: Path, profile: str, way: list[Any] | None) -> dict[str, int]:
    """One run in this process; how often it passed each place where runs die."""
    count, votes = Counter(way), 2 if profile == "votes" else 1
    person = count.around("person", lambda action, step: Said(do="accept"))
    plain_replace, journaled = Path.replace, count.around("journal", Path.replace)

    def renamed(self: Path, target: Path) -> Path:
        made: Path = (journaled if Path(target).parent.name == "journal" else plain_replace)(self, target)
        return made

    class Tools(Toolbox):
        call = count.around("tool", Toolbox.call)  # type: ignore[assignment]

    def toolbox(slide: Any, model: Any, folder: Path, progress: Any, frame: Any) -> Toolbox:
        frame = replace(frame, max_px=chat.PX)
        return Tools(slide, model, features=chat.tile_features(), folder=folder, frame=frame)

    Path.replace = renamed  # type: ignore[method-assign, assignment]
    SqliteSaver.put = count.around("checkpoint", SqliteSaver.put)  # type: ignore[method-assign]
    Line.send = count.around("request", Line.send)  # type: ignore[method-assign]
    reports = count.around("report", lambda folder: None)
    sys.modules["agent.report.pages"] = SimpleNamespace(write_reports=reports)  # type: ignore[assignment]
    session.open_toolbox = toolbox
    flight = count.number if count.what == "flight" else 0
    (root / NOW).write_text(json.dumps({"pid": os.getpid(), "number": flight, "folder": str(folder)}))
    os.environ["GIANT_CACHE"] = str(folder.with_name(f"{folder.name}-cache"))  # nobody else's model sees yet
    session.ask(
        root / "slide.png",
        chat.QUESTION,
        options=chat.OPTIONS,
        model=replace(open_chat("openai:scripted", base_url=url), profile=chat.PROFILE),
        slide_model=chat.SlideModel(sharpness=0.5),
        profile="survey" if profile == "survey" else "giant",
        votes=votes,
        sight_check=profile == "strict",
        mpp=chat.MPP,
        max_steps=16,
        out=folder,
        resume=True,
        control=Control(person) if votes == 1 else None,  # nobody leads votes
    )
    return count.counts


def placed(death: list[Any], counts: dict[str, int]) -> list[Any]:
    """A way to die with its number, from the share of all passages of an unbroken run."""
    what, moment, share = death
    return [what, moment, 1 + int(share * counts["request" if what == "flight" else what])]


def main() -> None:
    root, url, ways = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    usual: dict[str, dict[str, int]] = {}
    for profile, name, deaths in ways:
        folder, signals, kept = root / profile / name, [], []
        places = [placed(death, usual[profile]) for death in deaths]
        for place in places:
            signals.append(forked(run, root, url, folder, profile, place)[0])
            entries = folder.rglob("journal/chat-*.json")
            kept.append(sorted(str(path.relative_to(folder)) for path in entries))
        ended, counts = forked(run, root, url, folder, profile, None)
        usual.setdefault(profile, counts)  # the first run of a profile is unbroken
        line = {"profile": profile, "name": name, "places": places, "signals": signals, "kept": kept}
        print(json.dumps({**line, "ended": ended}), flush=True)


if __name__ == "__main__":
    main()
