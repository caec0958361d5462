"""One call to a chat model, against a server that does everything a server may do wrong."""

from __future__ import annotations

import email.utils
import json
import time
from pathlib import Path
from typing import Any

import chat_server as served
import pytest
from chat_desk import PIXEL, TOOLS, Desk, conversation, price_file
from chat_server import ChatServer, Served
from langchain_core.messages import AIMessage, ToolMessage, messages_from_dict

from agent.llm.client import OverBudget, open_chat, recorded_chat
from agent.run.journal import Journal
from core_model.errors import ProviderError, RunError


def test_a_call_is_made_once_and_kept(desk: Any) -> None:
    at = desk(served.calls(("zoom", {"x": 1}), ("answer", {}), text="Look there."))
    first, again = at.ask(), at.ask()
    assert first == again
    assert [(call.name, call.args) for call in first.calls] == [("zoom", {"x": 1}), ("answer", {})]
    assert (first.text, first.garbled, first.refusal, first.cut) == ("Look there.", [], None, False)
    assert len(at.server.requests) == 1
    other = open_chat("openai:tiny", base_url=at.server.url)  # another process, the same run
    assert other.ask(at.journal, "run-1", "001-decide", conversation(1), TOOLS) == first
    assert len(at.server.requests) == 1
    assert at.client.spent(at.journal).calls == 1
    assert first.tokens_in > served.IMAGE_TOKENS


def test_what_is_sent_suits_a_small_server(desk: Any) -> None:
    at = desk(served.say("Fine."))
    at.ask(force="answer")
    at.client.ask(at.journal, "run-1", "002-review", conversation(2), [])
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
        *conversation(),
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
        ProviderError, match="openai:tiny: no reply came after 6 attempts; the last ended with status 503"
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
    attempts = next(at.journal.values("chatfault"))["attempts"]
    assert [fault["kind"] for fault in attempts] == ["timeout"] * 6


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with ChatServer(lambda request, number: served.say("")) as server:
        pass
    at = Desk(tmp_path, server, max_cost=1.0, prices=price_file(tmp_path, 1.0))
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
        ({"retry-after-ms": "90500", "retry-after": "30"}, 90.5, 90.5),
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
    "cut in a word": '{"x": 1, "reason": "to se',
    "two objects": '{"x": 1} {"x": 2}',
    "a list": "[1, 2]",
    "a number": "7",
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
    at.client.ask(
        at.journal, "run-1", "002-decide", [*conversation(), *messages_from_dict([reply.message])], TOOLS
    )
    assert len(at.server.requests[-1].body["messages"][-1]["tool_calls"]) == 1


@pytest.mark.parametrize(
    ("arguments", "understood"),
    [
        ('{"x": 1, "y": 2', {"x": 1, "y": 2}),
        ('{"x": 1, "seen": [{"step": 1}', {"x": 1, "seen": [{"step": 1}]}),
        ("{'x': 1, 'y': None}", {"x": 1, "y": None}),
        ('"x": 1, "y": 2}', {"x": 1, "y": 2}),
        ('{"x": 1}}', {"x": 1}),
        ('{"x": 1, "mpp": NaN}', {"x": 1}),
        ('"{\\"x\\": 1}"', {"x": 1}),
        ('```json\n{"x": 1,}\n```', {"x": 1}),
        ('Here you are: {"x": 1} as asked.', {"x": 1}),
        ('[{"x": 1}]', {"x": 1}),
        ('{"x": 1, "reason": "' + "long " * 300 + '"', {"x": 1, "reason": "long " * 300}),
        ("null", {}),
    ],
)
def test_arguments_with_one_reading_are_understood(
    desk: Any, arguments: str, understood: dict[str, Any]
) -> None:
    reply = desk(served.calls(("zoom", arguments))).ask()
    assert [call.args for call in reply.calls] == [understood]
    assert reply.garbled == []


def test_what_a_reply_that_was_cut_off_lacks_is_not_made_up(desk: Any) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "zoom", "arguments": '{"x": 12'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "finish_reason": "length", "message": message}
    reply = desk(served.other({"id": "1", "object": "chat.completion", "choices": [choice]})).ask()
    assert (reply.calls, len(reply.garbled), reply.cut) == ([], 1, True)


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
    assert replayed.ask(journal, "run-1", "001-decide", conversation(1), TOOLS) == first
    assert replayed.spent(journal) == at.client.spent(at.journal)
    with pytest.raises(RunError):
        replayed.ask(journal, "run-1", "002-decide", conversation(2), TOOLS)
    assert len(at.server.requests) == 1


def test_a_call_over_the_limit_is_not_made(desk: Any, tmp_path: Path) -> None:
    at = desk(served.say("Fine."), max_cost=0.005, prices=price_file(tmp_path, 1.0))
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
        recorded_chat("openai:tiny", replaying).ask(replaying, "run-1", "001-decide", conversation(1), TOOLS)


def _usd(at: Desk) -> float:
    paid = next(at.journal.values("chat"))["paid"]
    return (paid["tokens_in"] + paid["tokens_out"]) / 1e6


def test_replies_that_got_lost_count_towards_the_limit(desk: Any, tmp_path: Path) -> None:
    lost = served.dropped(served.say("Fine."))
    at = desk(lost, max_cost=0.01, prices=price_file(tmp_path, 1.0))
    with pytest.raises(OverBudget):
        at.ask()
    assert 0 < len(at.server.requests) < 6
    assert at.client.spent(at.journal).lost_usd > 0.004
    assert at.client.spent(at.journal).usd is None


def test_the_estimate_learns_from_what_a_call_really_took(desk: Any, tmp_path: Path) -> None:
    usage = {"prompt_tokens": 400_000, "completion_tokens": 1, "total_tokens": 400_001}
    at = desk(served.say("Fine.", usage=usage), max_cost=1.0, prices=price_file(tmp_path, 1.0))
    at.ask(1)
    with pytest.raises(OverBudget):  # the next would take 400,000 as well, and another to answer
        at.ask(2)


def test_a_server_cannot_lower_the_bill(desk: Any, tmp_path: Path) -> None:
    usage = {"prompt_tokens": -1_000_000, "completion_tokens": -5, "total_tokens": 0}
    at = desk(served.say("Fine.", usage=usage), max_cost=1.0, prices=price_file(tmp_path, 1.0))
    assert (at.ask().usd or 0) > 0
