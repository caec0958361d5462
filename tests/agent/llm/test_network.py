"""The way to a server: what of it is checked before anything is sent, and that nothing goes another way."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import chat_server as served
import pytest
from chat_desk import KEY, Desk, price_file
from chat_server import ChatServer

from agent.llm.client import open_chat
from agent.llm.network import checked_server, is_private, proxy_to
from core_model.errors import GiantError, ProviderError, UsageError

PRIVATE = (
    "127.0.0.1", "127.8.9.1", "127.1", "0x7f000001", "2130706433", "0.0.0.0", "localhost", "LOCALHOST.",
    "::1", "[::1]", "::ffff:127.0.0.1", "fe80::1%eth0", "fd12::1", "10.1.2.3", "172.16.0.1", "172.31.255.255",
    "192.168.1.1", "169.254.1.1", "gpu01", "gpu01.local", "vllm.localhost", "host.docker.internal",
)  # fmt: skip
PUBLIC = ("api.openai.com", "8.8.8.8", "172.32.0.1", "11.0.0.1", "2606:4700::1", "localhost.example.com")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_private_names_and_addresses() -> None:
    assert [host for host in PRIVATE if not is_private(host)] == []
    assert [host for host in PUBLIC if is_private(host)] == []


@pytest.mark.parametrize("small", [False, True])
def test_no_proxy_leads_to_a_private_server(monkeypatch: pytest.MonkeyPatch, small: bool) -> None:
    for name in PROXIES:
        monkeypatch.setenv(name.lower() if small else name, "http://proxy.example:3128")
    for host in PRIVATE:
        host = f"[{host.strip('[]')}]" if ":" in host else host
        assert proxy_to(f"http://{host}:8000/v1") is None, host
    assert proxy_to("https://api.openai.com/v1") == "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("excepted", "host"),
    [
        ("*", "api.openai.com"),
        ("openai.com", "api.openai.com"),
        ("8.8.0.0/16", "8.8.8.8"),
        ("8.8.8.8", "8.8.8.8"),
    ],
)
def test_no_proxy_is_honoured(monkeypatch: pytest.MonkeyPatch, excepted: str, host: str) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example:3128")
    assert proxy_to(f"https://{host}/v1") is not None
    monkeypatch.setenv("NO_PROXY", f"x.example, {excepted}")
    assert proxy_to(f"https://{host}/v1") is None


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google"])
def test_nothing_goes_where_the_user_did_not_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    """A recording proxy hears nothing of a call to a server on loopback, in whatever way it goes wrong."""
    from chat_desk import TOOLS, conversation

    from agent.run.journal import Journal

    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.setenv(variable, KEY)
    elsewhere = ChatServer(lambda request, number: served.say("Fine."))
    moved = served.error(307, headers={"location": f"{elsewhere.url}/chat/completions"})
    with elsewhere, ChatServer(lambda request, number: moved) as server:
        for name in PROXIES:
            monkeypatch.setenv(name, elsewhere.url.removesuffix("/v1"))
        client = open_chat(f"{provider}:gpt-4o", base_url=server.url, sleep=lambda seconds: None)
        with pytest.raises(ProviderError):
            client.ask(Journal(tmp_path), "run", "001-decide", conversation(), TOOLS)
    assert server.requests
    assert elsewhere.requests == []


def test_a_proxy_that_was_asked_for_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ChatServer(lambda request, number: served.say("Fine.")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        at = Desk(tmp_path, proxy)
        at.client = open_chat("openai:tiny", base_url="http://llm.example.com/v1")
        assert at.ask().text == "Fine."
    assert proxy.requests[0].path == "http://llm.example.com/v1/chat/completions"


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("HTTPS_PROXY", "socks4://10.0.0.1:1080", "HTTPS_PROXY names a proxy of the unknown scheme 'socks4'"),
        ("https_proxy", "htp://user:hidden@proxy:1", "https_proxy names a proxy of the unknown scheme 'htp'"),
        ("ALL_PROXY", "http://proxy:port", "ALL_PROXY names no proxy"),
        ("ALL_PROXY", "socks5://127.0.0.1:1080", "pip install socksio"),
        ("SSL_CERT_FILE", "nowhere.pem", "SSL_CERT_FILE names no file"),
        ("SSL_CERT_DIR", "nowhere", "SSL_CERT_DIR names no folder"),
        ("OPENAI_API_KEY", "sk-one\nsk-two", "the key in OPENAI_API_KEY holds a line break"),
        ("OPENAI_API_KEY", "sk-ключ-hidden", "OPENAI_API_KEY holds a character that is not plain ASCII"),
        ("OPENAI_BASE_URL", "http://host:port", "--base-url (from OPENAI_BASE_URL) is not an http address"),
        ("OPENAI_API_BASE", "ftp://host", "OPENAI_API_BASE"),
        ("OPENAI_BASE_URL", "http://[::1", "OPENAI_BASE_URL"),
        ("OPENAI_BASE_URL", "http://user:hidden@host/v1", "OPENAI_BASE_URL"),
        ("GIANT_TIMEOUT", "soon", "GIANT_TIMEOUT is soon"),
        ("GIANT_TIMEOUT", "-1", "GIANT_TIMEOUT"),
        ("GIANT_TIMEOUT", "nan", "GIANT_TIMEOUT"),
    ],
)
@pytest.mark.parametrize("name", ["openai:gpt-4o", "anthropic:claude-sonnet-4-5"])
def test_settings_of_the_environment_are_checked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str, name: str
) -> None:
    from agent.llm import network

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(network, "find_spec", lambda package: None)
    if name.startswith("anthropic"):
        variable, says = (text.replace("OPENAI_API_BASE", "ANTHROPIC_API_URL") for text in (variable, says))
        variable, says = (text.replace("OPENAI", "ANTHROPIC") for text in (variable, says))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv(variable, value)
    with pytest.raises(GiantError) as caught:
        open_chat(name)
    assert says in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_file_that_holds_no_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with pytest.raises(GiantError, match="SSL_CERT_FILE holds no certificates"):
        open_chat("openai:tiny", base_url="http://127.0.0.1:1/v1")


@pytest.mark.parametrize(
    "url", ["", "http://", "host:8000", "http://host:99999", "http://a b/v1", "http://h:0"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(UsageError):
        checked_server(url, "--base-url")


def test_a_certificate_that_is_not_trusted(
    tmp_path: Path, desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx

    def untrusted(*_: Any, **__: Any) -> Any:
        inner = ssl.SSLCertVerificationError(1, "certificate verify failed")
        inner.verify_message = "self-signed certificate in certificate chain"
        raise httpx.ConnectError("no") from inner

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", untrusted)
    at = desk(served.say("Fine."), max_cost=1.0, prices=price_file(tmp_path, 1.0))
    with pytest.raises(ProviderError) as caught:
        at.ask()
    assert "not trusted: self-signed certificate in certificate chain" in str(caught.value)
    assert "SSL_CERT_FILE" in str(caught.value)
    assert at.waits == []
    assert at.client.spent(at.journal).lost_usd == 0


def test_tls_spoken_to_a_server_that_speaks_none(tmp_path: Path) -> None:
    with ChatServer(lambda request, number: served.say("")) as server:
        at = Desk(tmp_path, server)
        at.client = open_chat(
            "openai:tiny", base_url=server.url.replace("http:", "https:"), sleep=at.waits.append
        )
        with pytest.raises(
            ProviderError, match=r"does not speak TLS .* Check whether --base-url begins with http://"
        ):
            at.ask()
    assert at.waits == []


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_lets_nothing_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    import httpx

    def refused(*_: Any, **__: Any) -> Any:
        raise httpx.ProxyError(f"{status} Forbidden")

    with ChatServer(lambda request, number: served.say("")) as server:
        at = Desk(tmp_path, server)
        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", refused)
        with pytest.raises(ProviderError, match=f"the proxy on the way .*{status}.* HTTPS_PROXY"):
            at.ask()
    assert at.waits == []
