"""Servers that are common and take less than others, each played for whole runs that reach their answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import chat_fakes as chat
import chat_server as server
import played_servers as played
import pytest
from played_servers import Played

from agent.llm.client import open_chat
from agent.replay.follow import follow_again
from agent.run.folder import read_run, read_trace
from agent.run.journal import NOTICE, Journal
from agent.run.records import Answer
from agent.servers.asking import manner_before
from agent.servers.manner import Manner
from agent.session import ask as session
from core_model.errors import ProviderError

STRICT = "Conversation roles must alternate user/assistant/user/assistant/..."


def alternates(before: str, role: str) -> bool:
    """Whether a strict template refuses this order."""
    return before == role or role == "tool"


SERVERS: dict[str, Callable[[], Played]] = {
    "ollama: no tools": lambda: Played(played.no_tools(400, "llava:7b does not support tools")),
    "vllm: no tool parser": lambda: Played(
        played.no_tools(
            400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        )
    ),
    "llama.cpp: no jinja": lambda: Played(played.no_tools(500, "tools param requires --jinja flag")),
    "openrouter: no tools": lambda: Played(
        played.no_tools(404, "No endpoints found that support tool use.")
    ),
    "vllm: one image": lambda: Played(
        played.most_images(1, "At most 1 image(s) may be provided in one request.")
    ),
    "groq: three images": lambda: Played(
        played.most_images(3, "Too many images provided. This model supports up to 3 images")
    ),
    "ollama: one image": lambda: Played(
        played.most_images(1, "vision model only supports a single image per message", 500)
    ),
    "somebody: too many images": lambda: Played(played.most_images(2, "too many images")),
    "nginx: 413": lambda: Played(
        played.most_bytes(40_000, server.garbage(b"<html>413 Request Entity Too Large</html>", status=413))
    ),
    "vllm: context": lambda: Played(
        played.most_tokens(
            3000,
            "This model's maximum context length is 3000 tokens. However, you requested {asked} tokens",
        )
    ),
    "llama.cpp: context": lambda: Played(
        played.most_tokens(3000, "request ({asked} tokens) exceeds the available context size (3000 tokens)")
    ),
    "somebody: context": lambda: Played(played.most_tokens(3000, "prompt is too long")),
    "openai: more than a minute allows": lambda: Played(
        played.most_tokens(
            3000, "Request too large for m on tokens per min (TPM): Limit 3000, Requested {asked}.", 429
        )
    ),
    "mistral: user after tool": lambda: Played(
        played.no_order(
            lambda before, role: (before, role) == ("tool", "user"),
            "Unexpected role 'user' after role 'tool'",
        )
    ),
    "templates: alternating": lambda: Played(played.no_order(alternates, STRICT, 500)),
    "gemma: no system": lambda: Played(
        played.no_order(lambda before, role: role == "system", "System role not supported")
    ),
    "everything at once": lambda: Played(
        played.no_tools(400, "m does not support tools"),
        played.most_images(1, "At most 1 image(s) may be provided in one request."),
        played.no_order(alternates, STRICT),
    ),
}  # fmt: skip


@dataclass
class Run:
    """What came of a run against a played server."""

    folder: Path
    answer: Answer
    played: Played
    requests: list[dict[str, Any]]


@pytest.fixture
def run_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Runs a question against a played server, and gives back what came of it."""
    chat.bind_tools(monkeypatch)
    slide = chat.draw_slide(tmp_path / f"{chat.NAME}.png")

    def run(script: Played, name: str = "openai:gpt-4o", **more: Any) -> Run:
        out = tmp_path / more.pop("out", "run")
        with server.ChatServer(script) as served:
            opened = open_chat(name, base_url=served.url, sleep=_no_waits)
            about = replace(opened.profile, max_image_px=chat.PX, **more.pop("profile", {}))
            options = {"options": chat.OPTIONS, "max_steps": 6, "out": out} | more
            items = list(
                session.stream(
                    slide, chat.QUESTION, mpp=chat.MPP, model=replace(opened, profile=about),
                    slide_model=chat.SlideModel(), **options,
                )
            )  # fmt: skip
        answer = items[-1]
        assert isinstance(answer, Answer)
        return Run(out, answer, script, [asked.body for asked in served.requests])

    return run


def _no_waits(seconds: float) -> None:
    raise AssertionError("a request that was refused for its form is not sent again as it is")


@pytest.mark.parametrize("name", SERVERS)
def test_the_answer_is_reached_and_calls_are_counted(name: str, run_at: Callable[..., Run]) -> None:
    run = run_at(SERVERS[name]())
    assert (run.answer.choice, run.answer.abstained) == ("pink tissue", False)
    assert [step.action.tool for step in read_trace(run.folder)][-1] == "zoom"
    assert all(step.observation.ok for step in read_trace(run.folder))
    assert run.answer.cost.calls == len(run.played.answered) == 3
    assert 1 <= len(run.played.refused) <= 6
    notices = list(Journal(run.folder).values("notice"))
    assert len(notices) == len(run.played.refused)  # every refusal is noticed once, and remembered
    said = [notice["said"] for notice in sorted(notices, key=lambda notice: notice["number"])]
    assert read_run(run.folder).server_notices == said  # and stands where a reader looks
    pages = [(run.folder / f"report.{kind}").read_text() for kind in ("html", "md")]
    assert all("Its server" in page and said[-1][-20:-1] in page for page in pages)
    again = follow_again(run.folder)
    assert (again.problems, [file.file for file in again.files if file.differs]) == ([], [])


WRITTEN: dict[str, played.Write] = {
    "tool_call": lambda name, args: server.say(
        f"<tool_call>{json.dumps({'name': name, 'arguments': args})}</tool_call>"
    ),
    "ReAct": lambda name, args: server.say(f"Action: {name}\nAction Input: {json.dumps(args)}"),
    "Python": lambda name, args: server.say(
        f"Action: {name}({', '.join(f'{field}={value!r}' for field, value in args.items())})"
    ),
    "TOOL_CALLS": lambda name, args: server.say(
        f"[TOOL_CALLS] [{json.dumps({'name': name, 'arguments': args})}]"
    ),
    "function": lambda name, args: server.say(f"<function={name}>{json.dumps(args)}</function>"),
    "fenced": lambda name, args: server.say(f"```json\n{json.dumps({'tool': name, **args})}\n```"),
    "lost brace": lambda name, args: server.calls((name, json.dumps(args)[:-1])),
    "single quotes": lambda name, args: server.calls((name, str(args))),
    "text around": lambda name, args: server.calls((name, f"Here: {json.dumps(args)} as asked")),
    "numbers as texts": lambda name, args: server.calls(
        (name, {field: str(v) if isinstance(v, int | float) else v for field, v in args.items()})
    ),
    "lists as texts": lambda name, args: server.calls(
        (name, {field: json.dumps(v) if isinstance(v, list) else v for field, v in args.items()})
    ),
    "nulls": lambda name, args: server.calls((name, {**args, "mpp": None, "step": None})),
    "a box": lambda name, args: server.calls(
        (
            name,
            {k: v for k, v in args.items() if k not in "xywh"}
            | {"box": [args[k] for k in "xywh" if k in args] or None},
        )
    ),
}


@pytest.mark.parametrize("write", WRITTEN.values(), ids=WRITTEN.keys())
def test_calls_in_odd_forms_reach_the_answer(write: played.Write, run_at: Callable[..., Run]) -> None:
    run = run_at(Played(write=write))
    assert (run.answer.choice, run.answer.abstained) == ("pink tissue", False)
    assert [step.action.tool for step in read_trace(run.folder)][-1] == "zoom"
    assert all(step.observation.ok for step in read_trace(run.folder))
    assert len(run.requests) == 3  # nothing had to be said twice


def test_a_call_that_cannot_be_understood_is_refused_with_an_example(run_at: Callable[..., Run]) -> None:
    def write(name: str, args: dict[str, Any]) -> server.Served:
        return server.calls((name, {"where": "upper left"} if name == "zoom" else args))

    run = run_at(Played(write=write))
    assert run.answer.choice == "pink tissue"
    assert "A call in the right form: {" in server.text_of(run.requests[1])


def test_what_was_noticed_holds_for_the_run(run_at: Callable[..., Run]) -> None:
    run = run_at(SERVERS["ollama: no tools"]())
    assert [bool(request.get("tools")) for request in run.requests] == [True, False, False, False]
    assert all(not message.get("tool_calls") for message in run.requests[-1]["messages"])


def test_a_contact_sheet_holds_what_was_shown_under_labels(run_at: Callable[..., Run]) -> None:
    run = run_at(SERVERS["vllm: one image"]())
    assert [len(server.images_of(request)) for request in run.requests] == [3, 1, 1, 1]
    words = server.text_of(run.requests[1])
    assert "[Step 1 is a panel of the contact sheet at the end.]" in words
    assert "[Step 3 is a panel of the contact sheet at the end.]" in words


def test_a_request_that_no_size_fits_ends_in_one_line(run_at: Callable[..., Run], tmp_path: Path) -> None:
    message = "This model's maximum context length is 200 tokens. However, you requested {asked} tokens"
    script = Played(played.most_tokens(200, message))
    with pytest.raises(ProviderError, match="maximum context length is 200 tokens"):
        run_at(script)
    assert len(script.refused) <= 6
    assert not script.answered


def test_a_run_with_nothing_to_notice_has_no_such_field(run_at: Callable[..., Run]) -> None:
    """So a run folder of an earlier version is one of this version too, byte for byte."""
    run = run_at(Played())
    assert "server_notices" not in json.loads((run.folder / "run.json").read_text())
    assert read_run(run.folder).server_notices == []
    assert "Its server" not in (run.folder / "report.html").read_text()


def test_votes_tell_what_any_of_them_noticed_once(run_at: Callable[..., Run]) -> None:
    run = run_at(SERVERS["ollama: no tools"](), votes=2)
    (said,) = read_run(run.folder).server_notices
    assert "calls no tools" in said
    again = follow_again(run.folder)
    assert (again.problems, [file.file for file in again.files if file.differs]) == ([], [])


@pytest.mark.parametrize("status", [400, 404, 422, 500])
def test_a_server_that_takes_no_images_is_told_at_once_with_what_helps(
    status: int, run_at: Callable[..., Run]
) -> None:
    script = Played(played.most_images(0, "this model does not support image input", status))
    with pytest.raises(ProviderError, match=r"takes no images.*Choose a model that sees images"):
        run_at(script)
    assert (len(script.refused), len(script.answered)) == (1, 0)


def test_the_longest_request_of_a_profile_is_kept_to(run_at: Callable[..., Run]) -> None:
    free, held = run_at(Played()), run_at(Played(), profile={"max_input_tokens": 5000}, out="held")
    assert held.answer.choice == "pink tissue"
    assert not held.played.refused
    assert max(map(played.tokens_of, held.requests)) < max(map(played.tokens_of, free.requests))
    with pytest.raises(ProviderError, match="above the 200 that it takes"):
        run_at(Played(), profile={"max_input_tokens": 200}, out="short")


def test_what_a_later_turn_of_the_same_number_noticed_is_not_known_before_it(tmp_path: Path) -> None:
    """A decision for which there is no money leaves its number to the answer."""
    journal, client = Journal(tmp_path), open_chat("openai:gpt-4o", base_url="http://127.0.0.1:9/v1")
    noticed = Manner(level=2)
    journal.put(
        NOTICE, "001-answer-0", {"turn": "001-answer", "number": 0, "manner": noticed.record(), "said": ""}
    )
    for turn in ("000-survey", "001-decide", "001-answer"):
        assert manner_before(journal, turn, client) == Manner(), turn
    for turn in ("001-repair", "001-review", "001-review-repair", "002-decide", "010-decide"):
        assert manner_before(journal, turn, client) == noticed, turn
