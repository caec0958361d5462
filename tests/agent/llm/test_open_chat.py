"""Opening a chat model: names, addresses, keys and packages; and what is never written down or sent on."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import chat_server as served
import pytest
from chat_desk import KEY
from chat_server import ChatServer

from agent.llm.client import open_chat
from core_model.errors import GiantError, ProviderError, UsageError

OTHER_KEY = "correct horse battery"
LIKELY_KEY = "sk-ant-" + "a1" * 12


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
        "import chat_desk as t\n"
        "from langchain_core.tracers.langchain import wait_for_all_tracers\n"
        "client = t.open_chat('openai:tiny', base_url=sys.argv[1])\n"
        "client.ask(t.Journal(pathlib.Path(sys.argv[2])), 'run', '001', t.conversation(), t.TOOLS)\n"
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
        "import chat_desk as t\n"
        "from agent.llm.profiles import UNKNOWN\n"
        "from agent.llm.request import ChatRequest\n"
        "print(ChatRequest('openai:tiny', UNKNOWN, t.conversation(), t.TOOLS, None).digest)"
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
        ("openai:", None, "is not the name of a chat model"),
        ("openai:tiny", "localhost:8000", "not an http address"),
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
