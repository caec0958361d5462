"""What the providers' packages put on the wire, held against the types of the providers' own SDKs.

A run of two turns is sent over real HTTP to the scripted server: an image, a call and its result, a second
image, a forced tool. The replies hold what each provider wants back: signatures of what the model thought.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import chat_server as served
import pytest
from chat_server import Asked, ChatServer
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage, messages_from_dict
from PIL import Image
from pydantic import TypeAdapter

from agent.llm.client import Reply, open_chat
from agent.run.journal import Journal
from core_model.errors import ProviderError

SIGNATURE = base64.b64encode(b"what the model thought").decode()
ANTHROPIC = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-6",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": SIGNATURE},
        {"type": "text", "text": "Look there."},
        {"type": "tool_use", "id": "toolu_1", "name": "zoom", "input": {"box": [1, 2, 3, 4]}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 60, "output_tokens": 20, "cache_read_input_tokens": 40},
}
GOOGLE = {
    "candidates": [
        {
            "index": 0,
            "content": {
                "role": "model",
                "parts": [
                    {"text": "Look there."},
                    {
                        "functionCall": {"name": "zoom", "args": {"box": [1, 2, 3, 4]}},
                        "thoughtSignature": SIGNATURE,
                    },
                ],
            },
            "finishReason": "STOP",
        }
    ],
    "usageMetadata": {
        "promptTokenCount": 100,
        "candidatesTokenCount": 15,
        "thoughtsTokenCount": 5,
        "totalTokenCount": 120,
    },
    "modelVersion": "gemini-3-flash-preview",
}
RESPONSES = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "gpt-6-sol",
    "output": [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Look there.", "annotations": []}],
        },
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "zoom",
            "arguments": '{"box": [1, 2, 3, 4]}',
            "status": "completed",
        },
    ],
    "usage": {
        "input_tokens": 100,
        "output_tokens": 20,
        "total_tokens": 120,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 5},
    },
    "parallel_tool_calls": True,
    "tools": [],
    "tool_choice": "auto",
}
BOX = {"type": "array", "items": {"type": "integer"}, "minItems": 4, "maxItems": 4}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Call {name}.",
            "parameters": {"type": "object", "properties": {"box": BOX}, "required": ["box"]},
        },
    }
    for name in ("zoom", "answer")
]


def jpeg(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (shade, 0, 0)).save(file, "JPEG")
    return file.getvalue()


FIRST, SECOND = jpeg(10), jpeg(200)


def with_image(text: str, image: bytes) -> HumanMessage:
    block = {"type": "image", "base64": base64.b64encode(image).decode(), "mime_type": "image/jpeg"}
    return HumanMessage([{"type": "text", "text": text}, block])


class Talk:
    """Two turns with a provider's model: what it was sent, and its first reply."""

    def __init__(self, folder: Path, name: str, reply: dict[str, Any]) -> None:
        with ChatServer(lambda request, number: served.other(reply)) as server:
            path = server.url if name.startswith("openai:") else server.url.removesuffix("/v1")
            client, journal = open_chat(name, base_url=path), Journal(folder)
            said: list[Any] = [SystemMessage("You look at slides."), with_image("Where?", FIRST)]
            self.reply: Reply = client.ask(journal, "run", "001-decide", said, TOOLS)
            said += messages_from_dict([self.reply.message])
            said += [
                ToolMessage("The region is shown below.", tool_call_id=self.reply.calls[0].id, name="zoom"),
                with_image("The region.", SECOND),
            ]
            client.ask(journal, "run", "002-answer", said, TOOLS, force="answer")
        self.first, self.second = server.requests


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.setenv(variable, "planted-0123456789")


@pytest.fixture
def talk(tmp_path: Path) -> Any:
    return lambda name, reply: Talk(tmp_path, name, reply)


def checked(reply: Reply) -> None:
    assert reply.text == "Look there."
    assert [(call.name, call.args) for call in reply.calls] == [("zoom", {"box": [1, 2, 3, 4]})]
    assert (reply.tokens_in, reply.tokens_out, reply.refusal, reply.cut) == (100, 20, None, False)


def has_its_own_key(*requests: Asked) -> None:
    assert all(request.key.startswith("giant-run-00") for request in requests)
    assert len({request.key for request in requests}) == len(requests)


def test_anthropic(talk: Any) -> None:
    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming

    said = talk("anthropic:claude-sonnet-4-6", ANTHROPIC)
    checked(said.reply)
    has_its_own_key(said.first, said.second)
    body = said.second.body
    TypeAdapter(MessageCreateParamsNonStreaming).validate_python(body)
    assert body["system"] == "You look at slides."
    assert body["tool_choice"] == {"type": "tool", "name": "answer"}
    assert "tool_choice" not in said.first.body
    question, turn, result = body["messages"]
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert _anthropic_image(question["content"][1]) == FIRST
    assert turn["content"][0] == {"type": "thinking", "thinking": "hm", "signature": SIGNATURE}
    assert turn["content"][2]["id"] == "toolu_1"
    assert [block["type"] for block in result["content"]] == ["tool_result", "text", "image"]
    assert result["content"][0]["tool_use_id"] == "toolu_1"
    assert result["content"][0]["content"] == "The region is shown below."
    assert _anthropic_image(result["content"][2]) == SECOND


def _anthropic_image(block: dict[str, Any]) -> bytes:
    assert (block["source"]["type"], block["source"]["media_type"]) == ("base64", "image/jpeg")
    return base64.b64decode(block["source"]["data"], validate=True)


def test_anthropic_models_that_always_think_are_offered_the_one_tool(talk: Any) -> None:
    said = talk("anthropic:claude-opus-5-5", ANTHROPIC)
    assert [tool["name"] for tool in said.second.body["tools"]] == ["answer"]
    assert "tool_choice" not in said.second.body


def test_google(talk: Any) -> None:
    from google.genai import types

    said = talk("google:gemini-3-flash-preview", GOOGLE)
    checked(said.reply)
    has_its_own_key(said.first, said.second)
    assert said.second.path.endswith("/models/gemini-3-flash-preview:generateContent")
    body = said.second.body
    contents = [types.Content.model_validate(content) for content in body["contents"]]
    types.Content.model_validate(body["systemInstruction"])
    tools = [types.Tool.model_validate(tool) for tool in body["tools"]]
    forced = types.ToolConfig.model_validate(body["toolConfig"]).function_calling_config
    types.GenerationConfig.model_validate(body["generationConfig"])
    assert [declared.name for declared in tools[0].function_declarations or []] == ["zoom", "answer"]
    assert forced is not None
    assert forced.allowed_function_names == ["answer"]
    parts = [part for content in contents for part in content.parts or []]
    shown = [part.inline_data for part in parts if part.inline_data]
    assert [(data.mime_type, data.data) for data in shown] == [("image/jpeg", FIRST), ("image/jpeg", SECOND)]
    call = next(part for part in parts if part.function_call)
    assert call.thought_signature == base64.b64decode(SIGNATURE)
    result = parts.index(next(part for part in parts if part.function_response))
    assert result < parts.index(next(part for part in parts if part.text == "The region."))


def test_openai_chat_completions(tmp_path: Path) -> None:
    from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

    reply = served.calls(("zoom", {"box": [1, 2, 3, 4]}), text="Look there.")
    with ChatServer(lambda request, number: reply) as server:
        client, journal = open_chat("openai:gpt-5", base_url=server.url), Journal(tmp_path)
        said: list[Any] = [SystemMessage("You look at slides."), with_image("Where?", FIRST)]
        first = client.ask(journal, "run", "001-decide", said, TOOLS)
        result = ToolMessage("Shown below.", tool_call_id=first.calls[0].id)
        said += [*messages_from_dict([first.message]), result, with_image("The region.", SECOND)]
        client.ask(journal, "run", "002-answer", said, TOOLS, force="answer")
    has_its_own_key(*server.requests)
    body = server.requests[1].body
    TypeAdapter(CompletionCreateParamsNonStreaming).validate_python(body | {"stream": False})
    assert server.requests[1].path == "/v1/chat/completions"
    assert body["tool_choice"] == {"type": "function", "function": {"name": "answer"}}
    assert body["max_completion_tokens"] == client.profile.max_tokens
    assert "max_tokens" not in body
    assert [message["role"] for message in body["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "user",
    ]
    assert body["messages"][3]["content"] == "Shown below."
    assert served.images_of(body) == [FIRST, SECOND]


def test_openai_responses(talk: Any) -> None:
    from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming

    said = talk("openai:gpt-6-sol", RESPONSES)
    checked(said.reply)
    has_its_own_key(said.first, said.second)
    assert said.second.path == "/v1/responses"
    body = said.second.body
    sent = [part for item in body["input"] for part in item.get("content") or [] if isinstance(part, dict)]
    shown = [part for part in sent if part["type"] == "input_image"]
    # The types want these, which the server itself fills in.
    for part in shown:
        part.setdefault("detail", "auto")
    for item in body["input"]:
        item |= {"id": "msg_1", "status": "completed"} if item.get("role") == "assistant" else {}
    TypeAdapter(ResponseCreateParamsNonStreaming).validate_python(body)
    assert body["store"] is False
    assert body["tool_choice"] == {"type": "function", "name": "answer"}
    kinds = [item["type"] for item in body["input"]]
    assert kinds == ["message", "message", "message", "function_call", "function_call_output", "message"]
    before = "data:image/jpeg;base64,"
    images = [base64.b64decode(part["image_url"].removeprefix(before), validate=True) for part in shown]
    assert images == [FIRST, SECOND]


REFUSALS = {
    "anthropic": (
        "anthropic:claude-sonnet-4-6",
        ANTHROPIC | {"content": [{"type": "text", "text": ""}], "stop_reason": "refusal"},
    ),
    "google, the reply": (
        "google:gemini-3-flash",
        GOOGLE | {"candidates": [{"index": 0, "content": {"role": "model"}, "finishReason": "SAFETY"}]},
    ),
    "google, the request": (
        "google:gemini-3-flash",
        {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 9}},
    ),
    "openai": (
        "openai:gpt-6-sol",
        RESPONSES
        | {"output": [], "status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
    ),
}


@pytest.mark.parametrize(("name", "reply"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refusals_are_told(tmp_path: Path, name: str, reply: dict[str, Any]) -> None:
    heard = _ask(tmp_path, name, served.other(reply))
    assert heard.refusal
    assert "provider" in heard.refusal
    assert heard.calls == []


CUT = {
    "anthropic": ("anthropic:claude-sonnet-4-6", ANTHROPIC | {"stop_reason": "max_tokens"}),
    "google": (
        "google:gemini-3-flash",
        GOOGLE | {"candidates": [GOOGLE["candidates"][0] | {"finishReason": "MAX_TOKENS"}]},  # type: ignore[index]
    ),
    "openai": (
        "openai:gpt-6-sol",
        RESPONSES | {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
    ),
}


@pytest.mark.parametrize(("name", "reply"), CUT.values(), ids=CUT.keys())
def test_replies_that_were_cut_are_told(tmp_path: Path, name: str, reply: dict[str, Any]) -> None:
    assert _ask(tmp_path, name, served.other(reply)).cut


@pytest.mark.parametrize("name", ["anthropic:claude-sonnet-4-6", "google:gemini-3-flash", "openai:gpt-6-sol"])
def test_faults_of_every_provider_are_told_apart(tmp_path: Path, name: str) -> None:
    waits: list[float] = []
    busy = {"error": {"message": "busy", "code": 429, "status": "RESOURCE_EXHAUSTED", "details": []}}
    replies = [
        served.other(busy | {"type": "error"}),
        served.error(503),
        served.dropped(served.other(ANTHROPIC)),
        served.garbage(b"<html>"),
        served.error(400, "planted-0123456789 is no box"),
    ]
    slow = served.Served(replies[0].body, 429, {"content-type": "application/json", "retry-after": "77"})
    with pytest.raises(ProviderError) as caught:
        _ask(tmp_path, name, slow, *replies[1:], waits=waits)
    assert "400" in str(caught.value)
    assert "is no box" in str(caught.value)
    assert "planted" not in str(caught.value)
    assert waits[0] == 77
    faults = next(Journal(tmp_path).values("chatfault"))["attempts"]
    assert [fault["status"] for fault in faults] == [429, 503, None, None, 400]


def test_google_asks_for_time_in_the_body(tmp_path: Path) -> None:
    waits: list[float] = []
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}
    busy = served.other({"error": {"code": 429, "message": "busy", "details": [detail]}})
    slow = served.Served(busy.body, 429, busy.headers)
    _ask(tmp_path, "google:gemini-3-flash", slow, served.other(GOOGLE), waits=waits)
    assert waits == [34.0]


def _ask(folder: Path, name: str, *replies: Any, waits: list[float] | None = None) -> Reply:
    with ChatServer(lambda request, number: replies[min(number, len(replies)) - 1]) as server:
        path = server.url if name.startswith("openai:") else server.url.removesuffix("/v1")
        sleep = (waits if waits is not None else []).append
        client = open_chat(name, base_url=path, sleep=sleep)
        return client.ask(Journal(folder), "run", "001-decide", [HumanMessage("Where?")], TOOLS)
