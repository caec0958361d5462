"""One call to a chat model, against a server that does everything a server may do wrong."""

from __future__ import annotations

import email.utils
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chat_server as served
import pytest
from chat_server import ChatServer, Served
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage, messages_from_dict

from agent.llm.client import ChatClient, OverBudget, Reply, open_chat, recorded_chat
from agent.run.journal import Journal
from core_model.errors import GiantError, ProviderError, RunError, UsageError

PIXEL = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAP//////////////////////////////////////////////////////////////////////"
    "////////////////wgALCAABAAEBAREA/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQABPxA="
)
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Call {name}.",
            "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}},
        },
    }
    for name in ("zoom", "answer")
]
KEY = "sk-planted-0123456789-abcdefghij"
OTHER_KEY = "correct horse battery"
LIKELY_KEY = "sk-ant-" + "a1" * 12
SETTINGS = ("OPENAI_", "ANTHROPIC_", "GOOGLE_", "GEMINI_", "GIANT_", "LANGSMITH_", "LANGCHAIN_")


def asked(number: int = 0) -> list[Any]:
    """A conversation with an image, a little different for every number."""
    image = {"type": "image", "base64": PIXEL, "mime_type": "image/jpeg"}
    question = {"type": "text", "text": f"{number}?"}
    return [SystemMessage("You look at slides."), HumanMessage([question, image])]


class Desk:
    """A client of a scripted server, its journal, and the waits it was made to take."""

    def __init__(self, folder: Path, server: ChatServer, **options: Any) -> None:
        self.waits: list[float] = []
        self.journal, self.server = Journal(folder), server
        self.client: ChatClient = open_chat(
            "openai:tiny", base_url=server.url, sleep=self.waits.append, **options
        )

    def ask(self, number: int = 1, **options: Any) -> Reply:
        return self.client.ask(self.journal, "run-1", f"{number:03d}-decide", asked(number), TOOLS, **options)

    def files(self) -> str:
        return "".join(path.read_text() for path in sorted(self.journal.folder.glob("*.json")))


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(SETTINGS):
            monkeypatch.delenv(name)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Any]:
    """Opens a desk at a server that says `replies`, one after another and the last for ever."""
    servers: list[ChatServer] = []

    def opened(*replies: Served, **options: Any) -> Desk:
        servers.append(ChatServer(lambda request, number: replies[min(number, len(replies)) - 1]).__enter__())
        return Desk(tmp_path, servers[-1], **options)

    yield opened
    for server in servers:
        server.__exit__()


def test_a_call_is_made_once_and_kept(desk: Any) -> None:
    at = desk(served.calls(("zoom", {"x": 1}), ("answer", {}), text="Look there."))
    first, again = at.ask(), at.ask()
    assert first == again
    assert [(call.name, call.args) for call in first.calls] == [("zoom", {"x": 1}), ("answer", {})]
    assert (first.text, first.garbled, first.refusal, first.cut) == ("Look there.", [], None, False)
    assert len(at.server.requests) == 1
    other = open_chat("openai:tiny", base_url=at.server.url)  # another process, the same run
    assert other.ask(at.journal, "run-1", "001-decide", asked(1), TOOLS) == first
    assert len(at.server.requests) == 1
    assert at.client.spent(at.journal).calls == 1
    assert first.tokens_in > served.IMAGE_TOKENS


def test_what_is_sent_suits_a_small_server(desk: Any) -> None:
    at = desk(served.say("Fine."))
    at.ask(force="answer")
    at.client.ask(at.journal, "run-1", "002-review", asked(2), [])
    forced, plain = (request.body for request in at.server.requests)
    assert [tool["function"]["name"] for tool in forced["tools"]] == ["answer"]
    assert not {"tool_choice", "parallel_tool_calls", "max_completion_tokens"} & forced.keys()
    assert forced["max_tokens"] == at.client.profile.max_tokens
    assert "tools" not in plain
    assert at.server.requests[0].headers["authorization"] == "Bearer none"
    assert len(served.images_of(forced)) == 1


def test_the_journal_holds_hashes_in_place_of_images(desk: Any) -> None:
    at = desk(served.say("Fine."))
    at.ask()
    kept = json.loads(at.files())["value"]
    image = kept["request"]["messages"][1]["content"][1]
    assert image.keys() == {"image_sha256", "bytes"}
    assert PIXEL[:40] not in at.files()
    assert kept["request"]["tools"] == TOOLS
    assert kept["idempotency_key"] == at.server.requests[0].key
    assert at.server.requests[0].key.startswith("giant-run-1-001-decide-")


def test_a_reply_can_be_sent_back(desk: Any) -> None:
    at = desk(served.calls(("zoom", {"x": 1})), served.say("Done."))
    first = at.ask()
    turn = [
        *asked(),
        *messages_from_dict([first.message]),
        ToolMessage("Seen.", tool_call_id=first.calls[0].id),
    ]
    at.client.ask(at.journal, "run-1", "002-decide", turn, TOOLS)
    sent = at.server.requests[-1].body["messages"]
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool"]
    assert sent[2]["tool_calls"][0]["id"] == sent[3]["tool_call_id"] == first.calls[0].id
    assert json.loads(sent[2]["tool_calls"][0]["function"]["arguments"]) == {"x": 1}


FAULTS = {
    "too many requests": served.error(429),
    "conflict": served.error(409),
    "server error": served.error(500),
    "overloaded": served.error(529),
    "unavailable, in HTML": served.garbage(b"<html>503</html>", kind="text/html", status=503),
    "a proxy's page": served.garbage(b"<html>Sign in</html>", kind="text/html"),
    "a proxy's page as JSON": served.garbage(b"<html>Sign in</html>"),
    "not UTF-8": served.garbage(b"\xff\xfe\x00garbage"),
    "half a JSON": served.garbage(b'{"id": "1", "choices": [{"mess'),
    "nothing": served.garbage(b""),
    "a list": served.garbage(b"[]"),
    "too deep": served.garbage(b"[" * 100_000),
    "no choices": served.other({"id": "1", "object": "chat.completion", "choices": []}),
    "null for choices": served.other({"id": "1", "object": "chat.completion", "choices": None}),
    "no message": served.other({"id": "1", "choices": [{"index": 0, "finish_reason": "stop"}]}),
    "an error with status 200": served.other({"error": {"message": "no", "code": 500}}),
    "dropped in the body": served.dropped(served.say("Fine.")),
    "dropped at once": Served(share=0.0),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_tried_again_with_the_same_key(desk: Any, fault: Served) -> None:
    at = desk(fault, fault, served.say("Fine."))
    reply = at.ask()
    assert (reply.text, reply.attempts) == ("Fine.", 3)
    assert len({request.key for request in at.server.requests}) == 1
    assert len(at.server.requests) == 3
    attempts = json.loads(at.files())["value"]["attempts"]
    assert [attempt["waited"] for attempt in attempts] == [round(wait, 3) for wait in at.waits]


def test_a_fault_that_stays_ends_the_run(desk: Any) -> None:
    at = desk(served.error(503, "try later"))
    with pytest.raises(
        ProviderError, match="openai:tiny: no reply after 6 attempts, the last with status 503"
    ):
        at.ask()
    assert len(at.server.requests) == 6
    assert all(0 <= wait <= 60 for wait in at.waits)
    assert len(at.waits) == 5
    assert [fault["status"] for fault in next(at.journal.values("chatfault"))["attempts"]] == [503] * 6
    assert not at.journal.has("chat")


def test_a_server_that_never_answers(desk: Any) -> None:
    at = desk(served.silent(), timeout=0.05)
    with pytest.raises(ProviderError, match="no answer in time"):
        at.ask()
    assert len(at.server.requests) == 6
    assert {fault["kind"] for fault in next(at.journal.values("chatfault"))["attempts"]} == {"timeout"}


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with ChatServer(lambda request, number: served.say("")) as server:
        pass
    at = Desk(tmp_path, server, max_cost=1.0, prices=_prices(tmp_path, 1.0))
    with pytest.raises(ProviderError, match="no connection"):
        at.ask()
    assert at.client.spent(at.journal).lost_usd == 0.0  # nothing was sent, so nothing can be charged


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (400, "refused the request (400): bad box"),
        (422, "refused the request (422): bad box"),
        (401, "OPENAI_API_KEY"),
        (403, "OPENAI_API_KEY"),
        (404, "--model and --base-url"),
    ],
)
def test_what_cannot_get_better_is_not_tried_again(desk: Any, status: int, says: str) -> None:
    at = desk(served.error(status, "bad box"))
    with pytest.raises(ProviderError) as caught:
        at.ask()
    assert says in str(caught.value)
    assert len(at.server.requests) == 1
    assert at.waits == []


def test_an_account_without_credit_is_not_tried_again(desk: Any) -> None:
    at = desk(served.error(429, "no credit", code="insufficient_quota"))
    with pytest.raises(ProviderError, match="nothing left to pay with"):
        at.ask()
    assert len(at.server.requests) == 1


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"retry-after": "120"}, 120.0, 120.0),
        ({"retry-after-ms": "90500"}, 90.5, 90.5),
        ({"retry-after": "soon"}, 0.0, 2.0),
        ({"retry-after": "-5"}, 0.0, 2.0),
    ],
)
def test_a_server_may_ask_for_time(desk: Any, headers: dict[str, str], least: float, most: float) -> None:
    at = desk(served.error(429, headers=headers), served.say("Fine."))
    assert at.ask().text == "Fine."
    assert least <= at.waits[0] <= most


@pytest.mark.parametrize(("ahead", "least", "most"), [(250, 190.0, 251.0), (-200, 0.0, 2.0)])
def test_a_server_may_name_the_time(desk: Any, ahead: int, least: float, most: float) -> None:
    until = email.utils.formatdate(time.time() + ahead, usegmt=True)
    at = desk(served.error(429, headers={"retry-after": until}), served.say("Fine."))
    assert at.ask().text == "Fine."
    assert least <= at.waits[0] <= most


def test_a_server_that_asks_for_too_much_time_ends_the_run(desk: Any) -> None:
    at = desk(served.error(429, headers={"retry-after": "7200"}))
    with pytest.raises(ProviderError, match=r"resume it after \d{4}-\d\d-\d\d \d\d:\d\d UTC"):
        at.ask()
    assert at.waits == []


def test_waits_grow_and_are_the_same_for_the_same_call(desk: Any) -> None:
    waits = []
    for _ in range(2):
        at = desk(served.error(500))
        with pytest.raises(ProviderError):
            at.ask()
        waits.append(at.waits)
    assert waits[0] == waits[1]
    assert len(set(waits[0])) == 5


def test_refusals_and_empty_replies_are_replies(desk: Any) -> None:
    at = desk(
        served.refused("I cannot look at this."),
        served.filtered(),
        served.say(None),
        served.say("I am still thin", finish="length"),
    )
    refused, filtered, empty, cut = (at.ask(number) for number in range(1, 5))
    assert refused.refusal == "I cannot look at this."
    assert "content_filter" in (filtered.refusal or "")
    assert (empty.text, empty.calls, empty.refusal, empty.cut) == ("", [], None, False)
    assert (cut.text, cut.cut) == ("I am still thin", True)
    assert len(at.server.requests) == 4


GARBLED = {
    "no JSON": '{"x": 1',
    "a list": "[1, 2]",
    "a number": "7",
    "not a number": '{"x": NaN}',
    "infinite": '{"x": 1e999}',
    "too deep": '{"x":' * 200 + "1" + "}" * 200,
    "far too deep": '{"x":' * 5000 + "1" + "}" * 5000,
    "a huge number": '{"x": ' + "9" * 5000 + "}",
    "words": "zoom into the upper left",
}


@pytest.mark.parametrize("arguments", GARBLED.values(), ids=GARBLED.keys())
def test_arguments_that_are_none_reach_the_caller_as_words(desk: Any, arguments: str) -> None:
    at = desk(served.calls(("zoom", arguments), ("answer", {"x": 2})), served.say("Fine."))
    reply = at.ask()
    assert [call.name for call in reply.calls] == ["answer"]
    assert len(reply.garbled) == 1
    assert reply.garbled[0].startswith("zoom")
    assert len(reply.garbled[0]) <= 500
    assert reply.attempts == 1
    at.client.ask(at.journal, "run-1", "002-decide", [*asked(), *messages_from_dict([reply.message])], TOOLS)
    assert len(at.server.requests[-1].body["messages"][-1]["tool_calls"]) == 1


def test_calls_in_odd_forms_are_understood(desk: Any) -> None:
    calls = [
        {"id": None, "type": "function", "function": {"name": "zoom", "arguments": {"x": 1}}},
        {"id": "a", "type": "function", "function": {"name": "zoom", "arguments": None}},
        {"id": "a", "type": "function", "function": {"name": "zoom", "arguments": ""}},
        {"id": "b", "function": {"name": None, "arguments": "{}"}},
        {"id": "c"},
    ]
    choice = {
        "index": 0,
        "finish_reason": "tool_calls",
        "message": {"role": "assistant", "tool_calls": calls},
    }
    at = desk(served.other({"id": "1", "object": "chat.completion", "choices": [choice]}))
    reply = at.ask()
    assert [call.args for call in reply.calls] == [{"x": 1}, {}, {}]
    assert len({call.id for call in reply.calls}) == 3
    assert len(reply.garbled) == 2
    assert reply.tokens_in > 0  # it gave no usage, so ours counts


def test_a_reply_of_garbled_calls_alone_still_says_something(desk: Any) -> None:
    at = desk(served.calls(("zoom", "{")))
    message = messages_from_dict([at.ask().message])[0]
    assert isinstance(message, AIMessage)
    assert message.tool_calls == []
    assert "could not be read" in str(message.content)


def test_text_that_no_file_could_hold(desk: Any) -> None:
    at = desk(served.say("half \ud800 a pair \x00"), served.say("x" * 3_000_000))
    assert at.ask(1).text == "half ? a pair \x00"
    huge = at.ask(2)
    assert len(huge.text) == 100_000
    assert huge.cut
    assert len(json.dumps(huge.message)) < 101_000


def test_a_replay_sends_nothing(desk: Any) -> None:
    at = desk(served.say("Fine."))
    first = at.ask()
    journal = Journal(at.journal.folder.parent, replaying=True)
    replayed = recorded_chat("openai:tiny", journal)
    assert replayed.profile == at.client.profile
    assert replayed.ask(journal, "run-1", "001-decide", asked(1), TOOLS) == first
    assert replayed.spent(journal) == at.client.spent(at.journal)
    with pytest.raises(RunError):
        replayed.ask(journal, "run-1", "002-decide", asked(2), TOOLS)
    assert len(at.server.requests) == 1


def _prices(folder: Path, usd: float) -> Path:
    path = folder / "prices.json"
    path.write_text(json.dumps({"openai:tiny": {"in": usd, "out": usd}}))
    return path


def test_a_call_over_the_limit_is_not_made(desk: Any, tmp_path: Path) -> None:
    at = desk(served.say("Fine."), max_cost=0.005, prices=_prices(tmp_path, 1.0))
    with pytest.raises(OverBudget) as caught:  # 2,048 tokens may come back, twice
        at.ask()
    assert at.server.requests == []
    assert caught.value.text.startswith("up to $0.0000 of the limit of $0.0050 is spent")
    assert at.ask(2, last=True).usd == pytest.approx(_usd(at))
    with pytest.raises(OverBudget) as again:  # decided once, and so for good
        at.ask()
    assert again.value.text == caught.value.text
    replaying = Journal(at.journal.folder.parent, replaying=True)
    with pytest.raises(OverBudget):
        recorded_chat("openai:tiny", replaying).ask(replaying, "run-1", "001-decide", asked(1), TOOLS)


def _usd(at: Desk) -> float:
    paid = next(at.journal.values("chat"))["paid"]
    return (paid["tokens_in"] + paid["tokens_out"]) / 1e6


def test_replies_that_got_lost_count_towards_the_limit(desk: Any, tmp_path: Path) -> None:
    lost = served.dropped(served.say("Fine."))
    at = desk(lost, max_cost=0.01, prices=_prices(tmp_path, 1.0))
    with pytest.raises(OverBudget):
        at.ask()
    assert 0 < len(at.server.requests) < 6
    assert at.client.spent(at.journal).lost_usd > 0.004
    assert at.client.spent(at.journal).usd is None


def test_the_estimate_learns_from_what_a_call_really_took(desk: Any, tmp_path: Path) -> None:
    usage = {"prompt_tokens": 400_000, "completion_tokens": 1, "total_tokens": 400_001}
    at = desk(served.say("Fine.", usage=usage), max_cost=1.0, prices=_prices(tmp_path, 1.0))
    at.ask(1)
    with pytest.raises(OverBudget):  # the next would take 400,000 as well, and another to answer
        at.ask(2)


def test_a_server_cannot_lower_the_bill(desk: Any, tmp_path: Path) -> None:
    usage = {"prompt_tokens": -1_000_000, "completion_tokens": -5, "total_tokens": 0}
    at = desk(served.say("Fine.", usage=usage), max_cost=1.0, prices=_prices(tmp_path, 1.0))
    assert (at.ask().usd or 0) > 0


def test_keys_are_never_written_or_shown(
    desk: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("HOSPITAL_PASSWORD", OTHER_KEY)
    caplog.set_level(logging.DEBUG)
    leaky = {"x-echo": KEY, "set-cookie": KEY}
    both = f"{KEY} and {OTHER_KEY} and {LIKELY_KEY}"
    at = desk(
        served.calls(("zoom", {KEY: both}), ("answer", f"{both} {{"), text=both),
        served.error(500, both, headers=leaky),
        served.garbage(both.encode()),
        served.error(400, f"wrong key {both} {KEY[:25]}*****", headers=leaky),
        served.error(401, f"wrong key {both}", headers=leaky),
    )
    assert at.server.requests == []
    first = at.ask(1)
    assert at.server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    shown = [first.model_dump_json()]
    for number in (2, 3):
        with pytest.raises(ProviderError) as caught:
            at.ask(number)
        shown += [str(caught.value), repr(caught.value.__cause__), repr(caught.value.__context__)]
    everything = at.files() + caplog.text + "".join(shown)
    for secret in (KEY, OTHER_KEY, LIKELY_KEY, KEY[:25]):
        assert secret not in everything


def test_nothing_is_sent_to_a_tracing_service(desk: Any, tmp_path: Path) -> None:
    at = desk(served.say("Fine."))
    code = (
        "import sys, pathlib; sys.path.insert(0, 'tests/agent/support')\n"
        "import test_client as t\n"
        "from langchain_core.tracers.langchain import wait_for_all_tracers\n"
        "client = t.open_chat('openai:tiny', base_url=sys.argv[1])\n"
        "client.ask(t.Journal(pathlib.Path(sys.argv[2])), 'run', '001', t.asked(), t.TOOLS)\n"
        "wait_for_all_tracers()"
    )
    tracing = {"LANGSMITH_TRACING": "true", "LANGSMITH_API_KEY": KEY, "LANGSMITH_ENDPOINT": at.server.url}
    environment = os.environ | tracing | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, at.server.url, tmp_path], env=environment, check=True)
    assert [request.path for request in at.server.requests] == ["/v1/chat/completions"]


def test_a_redirection_is_not_followed(desk: Any) -> None:
    elsewhere = ChatServer(lambda request, number: served.say("Fine."))
    with elsewhere:
        at = desk(served.error(307, headers={"location": f"{elsewhere.url}/chat/completions"}))
        with pytest.raises(ProviderError, match="307"):
            at.ask()
    assert elsewhere.requests == []


def test_the_same_request_has_the_same_name_in_every_process() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests/agent/support')\n"
        "import test_client as t\n"
        "from agent.llm.profiles import UNKNOWN\n"
        "from agent.llm.request import Request\n"
        "print(Request('openai:tiny', UNKNOWN, t.asked(), t.TOOLS, None).digest)"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("name", "base_url", "says"),
    [
        ("mistral:large", None, "openai:MODEL with --base-url"),
        ("openai:", None, "is no chat model"),
        ("openai:tiny", "localhost:8000", "no http address"),
        ("openai:tiny", "http://user:secret@localhost/v1", "OPENAI_API_KEY"),
        ("openai:tiny", "http://localhost/v1?key=secret", "OPENAI_API_KEY"),
    ],
)
def test_wrong_names_and_addresses(name: str, base_url: str | None, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_chat(name, base_url=base_url)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("openai:gpt-5", "OPENAI_API_KEY"),
        ("anthropic:claude-sonnet-4-5", "ANTHROPIC_API_KEY"),
        ("google:gemini-3-flash", "GOOGLE_API_KEY or GEMINI_API_KEY"),
    ],
)
def test_a_missing_key_is_named(name: str, variable: str) -> None:
    with pytest.raises(GiantError, match=variable):
        open_chat(name)


def test_models_that_cannot_look_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(GiantError, match="takes no images"):
        open_chat("openai:o3-mini")
    assert open_chat("openai:gpt-5").profile.max_input_tokens == 272_000


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(GiantError, match=r"pip install 'giant-pathology\[anthropic\]'"):
        open_chat("anthropic:claude-sonnet-4-5")


def test_only_the_providers_own_server_has_the_listed_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert open_chat("openai:gpt-5", base_url="https://api.openai.com/v1/").price is not None
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    assert open_chat("openai:gpt-5").price is None
