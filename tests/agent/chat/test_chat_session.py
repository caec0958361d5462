"""A chat model from the command line and from Python: its settings, its people, its votes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import chat_fakes as chat
import pytest
from chat_server import ChatServer, Served, calls, images_of, text_of
from cli_fakes import PaintModel, giant, one_line, only_json, paint
from langchain_core.messages import AIMessage, BaseMessage

from agent.graph.control import Control, Said
from agent.run.folder import read_run, read_trace
from agent.run.records import RunRecord, Vote
from core_model.slides.box import Box

KEY = "sk-test-0123456789abcdef0123456789abcdef"
LOOK = Said(do="look", box=Box(900, 200, 300, 300))
Ask = Callable[..., chat.Ran]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_reports: None) -> Ask:
    return chat.asker(tmp_path, monkeypatch)


# ---- the command line ----

ANSWER = {"text": "Purple.", "choice": "purple", "confidence": 0.9, "abstain": False, "reason": ""}


def script(request: dict[str, Any], number: int) -> Served:
    names = {tool["function"]["name"] for tool in request["tools"]}
    if "verdict" in names:
        return calls(("verdict", {"choice": "purple", "confidence": 0.8}))
    if names == {"answer"} or any(message["role"] == "assistant" for message in request["messages"]):
        return calls(("answer", ANSWER | {"claims": [{"text": "It is purple.", "steps": [2]}]}))
    return calls(("zoom", {"x": 200, "y": 200, "w": 300, "h": 300, "mpp": 0, "reason": "Closer."}))


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("core_model.models.wsi_llava.load_model", lambda *_, **__: PaintModel())
    paint(tmp_path / "a.png")

    def run(url: str, *more: object) -> Any:
        base = ("ask", "a.png", "Which?", "--option", "purple", "--option", "pink", "--mpp", "2")
        return giant(*base, "--model", "openai:scripted", "--base-url", url, *more)

    return run


def test_a_chat_model_on_a_server_answers(cli: Callable[..., Any], tmp_path: Path) -> None:
    with ChatServer(script) as server:
        result = cli(server.url, "--out", "run", "--json")
        asked = server.requests
    answer = only_json(result)
    assert (answer["choice"], answer["model"]) == ("purple", "openai:scripted")
    assert answer["cost"]["calls"] == len(asked) == 3
    assert all(images_of(request.body) for request in asked)
    run = read_run(tmp_path / "run")
    assert (run.model.name, run.model.version) == ("openai:scripted", "")
    assert len(run.model.fingerprint) == 16
    assert run.slide_model is not None
    assert run.slide_model.name == PaintModel.name
    settings = run.settings
    assert (settings.navigator, settings.profile, settings.max_steps) == ("chat", "survey", 20)
    assert settings.base_url == server.url
    assert "Closer." in [step.action.reason for step in read_trace(tmp_path / "run")]


def test_the_key_is_written_nowhere(cli: Callable[..., Any], tmp_path: Path) -> None:
    with ChatServer(script) as server:
        result = cli(server.url, "--out", "run")
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in result.output
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {"checkpoint.sqlite", "run.json", "report.html"} <= {path.name for path in written}
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


def test_the_published_way_needs_no_slide_model(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_needed(*_: Any, **__: Any) -> Any:
        raise AssertionError("a slide model was loaded")

    monkeypatch.setattr("core_model.models.wsi_llava.load_model", not_needed)
    with ChatServer(script) as server:
        only_json(cli(server.url, "--out", "run", "--profile", "giant", "--json"))
        tools = {tool["function"]["name"] for tool in server.requests[0].body["tools"]}
    assert tools == {"zoom", "answer"}
    run = read_run(tmp_path / "run")
    assert run.slide_model is None
    assert run.tiles is None  # no features were computed
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (("--profile", "giant"), "--profile was 'survey' and is 'giant'"),
        (("--votes", "2"), "--votes was 1 and is 2"),
    ],
)
def test_other_settings_are_another_run(cli: Callable[..., Any], changed: tuple[str, str], says: str) -> None:
    with ChatServer(script) as server:
        assert cli(server.url, "--out", "run").exit_code == 0
        made = len(server.requests)
        result = cli(server.url, "--out", "run", "--resume", *changed)
        assert says in one_line(result)
        assert cli(server.url, "--out", "run", "--resume", "--hint", "hm").exit_code == 0
        assert len(server.requests) == made  # a finished run is not asked again


def test_another_model_is_another_run(cli: Callable[..., Any]) -> None:
    with ChatServer(script) as server:
        assert cli(server.url, "--out", "run").exit_code == 0
        again = cli(server.url, "--out", "run", "--resume", "--model", "openai:other")
        assert "the model was" in one_line(again)


def test_a_run_goes_on_at_another_server_with_another_budget(cli: Callable[..., Any], tmp_path: Path) -> None:
    from chat_server import error

    from agent.replay.follow import follow_again

    def ill(request: dict[str, Any], number: int) -> Any:
        return script(request, number) if number == 1 else error(400, "gone")

    with ChatServer(ill) as server, ChatServer(script) as other:
        assert cli(server.url, "--out", "run", "--max-steps", "9").exit_code == 1
        more = ("--max-steps", "12", "--timeout", "900", "--resume", "--json")
        answer = only_json(cli(other.url, "--out", "run", *more))
        assert answer["cost"]["calls"] == len(
            [asked for asked in server.requests if asked.status == 200]
        ) + len(other.requests)
    record = read_run(tmp_path / "run")
    assert [(change.name, change.was, change.now) for change in record.changes] == [
        ("--max-steps", 9, 12),
        ("--timeout", None, 900.0),
        ("--base-url", server.url, other.url),
    ]
    assert (record.settings.max_steps, record.settings.base_url) == (12, other.url)
    again = follow_again(tmp_path / "run")
    assert (again.problems, [file.file for file in again.files if file.differs]) == ([], [])


def test_a_finished_run_says_that_its_answer_stands(
    cli: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    with ChatServer(script) as server:
        first = only_json(cli(server.url, "--out", "run", "--json"))
        again = only_json(cli(server.url, "--out", "run", "--max-steps", "7", "--resume", "--json"))
    assert again["answer"] == first["answer"]
    assert "the run is finished, so its answer stands whatever --max-steps says" in caplog.text


def test_a_wrong_key_is_one_line(cli: Callable[..., Any]) -> None:
    from chat_server import error

    with ChatServer(lambda request, number: error(401, f"Incorrect API key provided: {KEY}")) as server:
        result = cli(server.url, "--out", "run", "--quiet")
    assert result.exit_code == 1
    assert "OPENAI_API_KEY" in one_line(result)
    assert KEY not in result.output


# ---- people ----


def told(message: BaseMessage) -> str:
    content = message.content
    parts = [{"text": content}] if isinstance(content, str) else content
    return " ".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def test_a_hint_reaches_the_next_request(ask: Ask) -> None:
    hints = iter([Said(do="accept"), Said(do="hint", text="mind the violet part")])
    control = Control(lambda action, step: next(hints, Said(do="accept")))
    way = chat.line(
        chat.calls(chat.zoom(100, 100, 200, 200)),
        chat.calls(chat.zoom(900, 100, 200, 200)),
        chat.calls(chat.answer()),
    )
    ran = ask(way, profile="giant", control=control)
    heard = ["mind the violet part" in told(request[-1]) for request in way.asked]
    assert heard == [False, False, True]
    assert [step.action.args.get("box") for step in ran.steps] == [None, [100, 100, 200, 200]]


def test_a_place_that_a_person_chose_is_shown_to_the_model(ask: Ask) -> None:
    control = Control(lambda action, step: LOOK if step == 2 else Said(do="accept"))
    way = chat.line(chat.calls(chat.zoom(100, 100, 200, 200)), chat.calls(chat.answer()))
    ran = ask(way, profile="giant", control=control)
    assert [(step.action.by, step.observation.box) for step in ran.steps[1:]] == [("person", LOOK.box)]
    parts = [part for message in way.asked[1] for part in message.content if isinstance(part, dict)]
    assert sum(part["type"] == "image" for part in parts) == 2  # the overview, and the place


def test_a_person_ends_it_and_the_model_answers_with_what_was_seen(ask: Ask) -> None:
    control = Control(lambda action, step: Said(do="stop"))
    way = chat.line(chat.calls(chat.zoom(100, 100, 200, 200)), chat.calls(chat.answer()))
    ran = ask(way, profile="giant", control=control)
    assert ran.answer.choice == "pink tissue"
    assert way.forced[-1] == "answer"
    assert len(ran.steps) == 1


def test_a_paused_chat_is_redirected_and_resumed_without_a_call_twice(ask: Ask, tmp_path: Path) -> None:
    first, out = Control(), tmp_path / "run"

    def pause(messages: Sequence[BaseMessage]) -> AIMessage:
        first.pause()
        return chat.calls(chat.zoom(100, 100, 200, 200))

    way = chat.line(pause, chat.calls(chat.zoom(300, 300, 200, 200)), chat.calls(chat.answer()))
    assert [step.index for step in ask(way, profile="giant", control=first, out=out).items] == [1, 2]
    again = Control()
    again.redirect(Said(do="hint", text="mind the violet part"))
    again.redirect(LOOK)
    ran = ask(way, profile="giant", control=again, out=out, resume=True)
    assert [step.action.by for step in ran.steps] == ["navigator", "navigator", "person", "navigator"]
    assert len(way.asked) == len(set(way.keys)) == ran.answer.cost.calls == 3
    assert "mind the violet part" in told(way.asked[1][-1])


# ---- votes ----


def voter(*chosen: str) -> Callable[[], Any]:
    """Votes of one look each: the overview, then this answer."""
    names = itertools.cycle(chosen)

    def reply(messages: Sequence[BaseMessage]) -> AIMessage:
        name = next(names)
        return chat.calls(chat.answer(text=f"{name}.", choice=name))

    return reply  # type: ignore[return-value]


def test_votes_of_a_chat_model_are_told_the_options_in_other_orders(ask: Ask) -> None:
    way = chat.line(voter("pink tissue", "grey tissue", "pink tissue"))
    ran = ask(way, profile="giant", votes=3)
    assert ran.answer.choice == "pink tissue"
    assert ran.answer.agreement == pytest.approx(2 / 3)
    assert ran.answer.cost.calls == len(way.asked)
    assert [item.choice for item in ran.items if isinstance(item, Vote)] == [
        "pink tissue",
        "grey tissue",
        "pink tissue",
    ]
    orders = []
    for number in (1, 2, 3):
        run = RunRecord.model_validate_json((ran.folder / f"votes/{number}/run.json").read_text())
        task = told(way.asked[number - 1][1])
        places = [task.index(option) for option in run.options or []]
        assert places == sorted(places)
        orders.append(tuple(run.options or []))
    assert len(set(orders)) > 1
    assert len(set(way.keys)) == 3


def test_a_spending_limit_is_that_of_all_votes(ask: Ask) -> None:
    way = chat.line(voter("pink tissue"))
    one = ask(way, profile="giant").answer.cost.usd
    assert one is not None
    dearest = 2 * (one + chat.PROFILE.max_tokens * 10e-6)  # a call and another to answer, at their longest
    limit = dearest + 2.5 * one
    ran = ask(way, profile="giant", votes=9, max_cost=limit)
    number = len(ran.answer.votes)
    assert 3 <= number < 9
    assert f"The spending limit was reached after {number} of 9 votes." in (ran.answer.reason or "")
    assert (ran.answer.choice, ran.answer.agreement) == ("pink tissue", 1.0)
    assert (ran.answer.cost.usd or 0.0) <= limit
    lefts = [read_run(ran.folder / vote.run).settings.max_cost for vote in ran.answer.votes]
    assert lefts == [pytest.approx(limit - n * one) for n in range(number)]


def test_texts_of_the_slide_file_are_not_sent(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a.png").rename(tmp_path / "Jane-Doe-1950.png")
    with ChatServer(script) as server:
        base = ("ask", "Jane-Doe-1950.png", "Which?", "--option", "purple", "--option", "pink")
        more = ("--mpp", "2", "--model", "openai:scripted", "--base-url", server.url, "--out", "run")
        assert giant(*base, *more).exit_code == 0
        assert not [request for request in server.requests if "Jane" in json.dumps(request.body)]
        assert "µm" in text_of(server.requests[0].body)
