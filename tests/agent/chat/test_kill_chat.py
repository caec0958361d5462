"""A chat run killed with SIGKILL resumes to the run it would have been, and pays for no call twice.

The server is in this process and outlives every run; requests go over real HTTP.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chat_fakes as chat
import played_servers as played
import pytest
from chaos_servers import Drawn
from chat_server import ChatServer, Served, calls, say
from kill_chat_runs import NOW

BROKEN = '{"seen": [], "leaning": [], "reason": "Cut of'
WRONG = {"choice": "blue tissue", "text": "Blue tissue.", "confidence": 0.7, "claims": [], "abstain": False}
RIGHT = {
    "text": "Pink tissue, seen in step 2.",
    "choice": "pink tissue",
    "confidence": 0.8,
    "abstain": False,
    "reason": "",
    "claims": [{"text": "Pink tissue on the left.", "steps": [2], "against": False, "section": ""}],
}
KINDS = {
    "survey": {"decide", "repair", "review"},
    "giant": {"decide", "repair"},
    "votes": {"decide", "repair"},
    "strict": {"sight", "decide", "repair"},
}
PROFILES = tuple(KINDS)
"""Both profiles, two votes of the second, and the second at a server that calls no tools and takes one image,
whose model is asked first whether it sees; each with the kinds of calls it makes."""
STRICT = (
    played.no_tools(400, "m does not support tools"),
    played.most_images(1, "At most 1 image(s) may be provided in one request."),
)
PLACES = {
    "tool": ("before", "after"),
    "checkpoint": ("before", "after"),
    "journal": ("before", "after"),
    "request": ("before", "after"),
    "flight": ("during",),
    "person": ("before", "after"),
}
"""Around tool calls and checkpoints, at the rename of a journal's entry, before a request goes out and after
its reply came in, while it is at the server, while a person is asked and when they have replied."""


def zoom(x: int, y: int, side: int) -> tuple[str, dict[str, Any]]:
    seen = [{"step": 1, "finding": "Two pieces of tissue."}]
    leaning = [{"answer": "pink tissue", "probability": 0.6}, {"answer": "grey tissue", "probability": 0.4}]
    place = {"x": x, "y": y, "w": side, "h": side}
    return "zoom", {"seen": seen, "leaning": leaning, "reason": "To see more.", "mpp": 0, **place}


def script(request: dict[str, Any]) -> Served:
    """What the model says follows from what it is asked, so it is the same in every run."""
    offered = set(played.offered(request))
    if "verdict" in offered:
        return calls(("verdict", {"choice": "pink tissue", "confidence": 0.7, "reason": "It is pink."}))
    if offered == {"answer"}:
        return calls(("answer", RIGHT))
    turn = sum(message["role"] == "assistant" for message in request["messages"])
    if "ask_region" in offered:
        return _survey(turn)
    return (
        [calls(zoom(100, 100, 300)), say("Let me think."), calls(zoom(900, 300, 300), zoom(1, 1, 9))][turn]
        if turn < 3
        else calls(("answer", WRONG))
    )


def _survey(turn: int) -> Served:
    thought = zoom(0, 0, 1)[1]
    beside = {name: thought[name] for name in ("seen", "leaning", "reason")}
    turns = [
        calls(zoom(100, 100, 300), zoom(900, 100, 200), ("ask_region", beside | _box(100, 100, 500))),
        calls(("zoom", BROKEN)),
        calls(("retrieve", beside | {"text": "pink", "k": 3})),
        calls(zoom(90_000, 0, 300), ("pan", beside | {"direction": "down"})),
        say("I am nearly sure."),
        calls(("answer", WRONG)),
    ]
    return turns[turn]


def _box(x: int, y: int, side: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": side, "h": side}


@dataclass
class Killer:
    """The script of the server; it kills whoever is to die while a request is in flight."""

    root: Path
    served: Counter[int] = field(default_factory=Counter)

    def __call__(self, request: dict[str, Any], number: int) -> Served:
        now = json.loads((self.root / NOW).read_text())
        self.served[now["pid"]] += 1
        if self.served[now["pid"]] == now["number"]:
            os.kill(now["pid"], signal.SIGKILL)
        folder = Path(now["folder"])
        if folder.parent.name != "strict":
            return script(request)
        server = Drawn(dict(enumerate(STRICT)))
        run_id = json.loads((folder / "run.json").read_text())["id"]
        seen = server.seen(request, run_id, random.Random(0))
        return server.refusal(request) or seen or server.written(script(request), request)


@dataclass
class Killed:
    """All runs of one test, what the driver says of each, and what the server saw."""

    root: Path
    lines: list[dict[str, Any]]
    seen: Counter[str]

    def unbroken(self, profile: str) -> Path:
        return self.root / profile / "unbroken"


def kill(root: Path, ways: list[Any]) -> Killed:
    """Make the runs of these ways to die, after an unbroken one of each profile."""
    chat.draw_slide(root / "slide.png")
    ways = [*([profile, "unbroken", []] for profile in PROFILES), *ways]
    with ChatServer(Killer(root)) as server:
        driver = Path(__file__).parents[1] / "support" / "kill_chat_runs.py"
        done = subprocess.run(
            [sys.executable, str(driver), str(root), server.url, json.dumps(ways)],
            capture_output=True,
            text=True,
            cwd=Path(__file__).resolve().parents[3],
            env={**os.environ, "PYTHONPATH": ".", "LANGGRAPH_STRICT_MSGPACK": "true", "OPENAI_API_KEY": "k"},
        )
        assert done.returncode == 0, done.stderr
        seen = Counter(asked.key for asked in server.requests)
    return Killed(root, [json.loads(line) for line in done.stdout.splitlines()], seen)


def ways_to_die(number: int, deaths: int = 1) -> list[Any]:
    """`number` random ways, the same every time. When is said as a share of the whole run."""
    dice, ways = random.Random(f"{number} {deaths}"), []
    for way in range(number):
        profile = dice.choice(PROFILES)
        possible = [place for place in PLACES if profile != "votes" or place != "person"]
        what = [dice.choice(possible) for _ in range(deaths)]
        places = [[one, dice.choice(PLACES[one]), dice.random()] for one in what]
        ways.append([profile, f"{deaths}-{way:02d}", places])
    return ways


def trace_of(folder: Path) -> list[Any]:
    lines = [json.loads(line) for line in (folder / "trace.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def answer_of(folder: Path) -> dict[str, Any]:
    answer = json.loads((folder / "answer.json").read_text())
    answer["cost"].pop("seconds")
    answer.pop("run_dir")
    return answer


def asked_by(folder: Path, seen: Counter[str]) -> Counter[str]:
    """How often the server saw each call of a run and of its votes, by the name of its journal entry."""
    found: Counter[str] = Counter()
    for path in folder.rglob("run.json"):
        start, run = f"giant-{json.loads(path.read_text())['id']}-", path.parent.relative_to(folder)
        calls_made = {key.removeprefix(start): n for key, n in seen.items() if key.startswith(start)}
        found |= {str(run / "journal" / f"chat-{key}.json"): n for key, n in calls_made.items()}
    return found


def names_of(asked: Counter[str]) -> set[str]:
    """The calls by their names; each run draws a number of its own to test sight with."""
    return {name.partition("-sight-")[0] for name in asked}


def images_of(folder: Path) -> dict[str, bytes]:
    paths = folder.rglob("regions/*.jpg")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def check(killed: Killed, line: dict[str, Any]) -> None:
    """The laws of one run that was killed."""
    folder, whole = killed.root / line["profile"] / line["name"], killed.unbroken(line["profile"])
    assert line["signals"][0] == signal.SIGKILL, line
    assert line["ended"] == 0, line
    assert trace_of(folder) == trace_of(whole), line
    assert answer_of(folder) == answer_of(whole), line
    asked = asked_by(folder, killed.seen)
    assert names_of(asked) == names_of(asked_by(whole, killed.seen)), line  # the same, under the same keys
    assert all(asked[key] == 1 for key in line["kept"][0]), line  # what was journaled is not asked again
    assert sum(asked.values()) - len(asked) <= len(line["signals"]), line  # only the one in flight is
    assert images_of(folder) == images_of(whole), line


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """A few ways to die, and two to die twice; more of them are among the slow tests."""
    return kill(tmp_path_factory.mktemp("killed"), [*ways_to_die(4), *ways_to_die(2, deaths=2)])


def test_the_unbroken_runs_have_all_that_a_chat_run_can_have(killed: Killed) -> None:
    for profile, kinds in KINDS.items():
        asked = asked_by(killed.unbroken(profile), killed.seen)
        names = [key.split("-")[1:] for key in asked]
        assert {next(part for part in name if not part.isdigit()) for name in names} == kinds
        assert set(asked.values()) == {1}
        assert answer_of(killed.unbroken(profile))["choice"] == "pink tissue"
        assert not all(step["observation"]["ok"] for step in trace_of(killed.unbroken("survey")))
    notices = json.loads((killed.unbroken("strict") / "run.json").read_text())["server_notices"]
    assert len(notices) == len(STRICT)


def test_a_killed_run_resumes_and_pays_once(killed: Killed) -> None:
    once = [line for line in killed.lines if len(line["signals"]) == 1]
    assert len(once) == 4
    for line in once:
        check(killed, line)


def check_killed_twice(killed: Killed, number: int) -> None:
    """The laws of the runs that were killed twice, of which at least one must have died both times."""
    twice = [line for line in killed.lines if len(line["signals"]) == 2]
    assert len(twice) == number
    assert [signal.SIGKILL] * 2 in [line["signals"] for line in twice]
    for line in twice:
        check(killed, line)


def test_a_run_killed_twice_in_a_row_resumes_and_pays_once(killed: Killed) -> None:
    check_killed_twice(killed, 2)


@pytest.mark.slow
def test_fifty_moments(tmp_path: Path) -> None:
    everything = kill(tmp_path, ways_to_die(50))
    assert len(everything.lines) == 50 + len(PROFILES)
    assert {line["places"][0][0] for line in everything.lines[len(KINDS) :]} == set(PLACES)
    for line in everything.lines[len(KINDS) :]:
        check(everything, line)


@pytest.mark.slow
def test_ten_runs_killed_twice_in_a_row(tmp_path: Path) -> None:
    check_killed_twice(kill(tmp_path, ways_to_die(10, deaths=2)), 10)
