"""Chat models opened through LangChain: keys from the environment, no retries but ours, nothing traced."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.llm.network import certificates, checked_key, checked_server, keep_direct
from agent.llm.profiles import ModelProfile
from core_model.errors import GiantError, UsageError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage

PLACEHOLDER = "none"
"""Sent as the key to a local server that asks for none."""


class Provider(NamedTuple):
    """Where a provider's models are, and what they need."""

    langchain: str
    """Its name in LangChain."""
    package: str
    extra: str
    keys: tuple[str, ...]
    """Environment variables that may hold the key."""
    home: str | None
    """Its own server."""
    servers: tuple[str, ...]
    """Environment variables that may name another."""


PROVIDERS = {
    "openai": Provider(
        "openai",
        "langchain_openai",
        "openai",
        ("OPENAI_API_KEY",),
        "https://api.openai.com/v1",
        ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    ),
    "anthropic": Provider(
        "anthropic",
        "langchain_anthropic",
        "anthropic",
        ("ANTHROPIC_API_KEY",),
        "https://api.anthropic.com",
        ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_URL"),
    ),
    "google": Provider(
        "google_genai",
        "langchain_google_genai",
        "google",
        ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        None,
        ("GOOGLE_GEMINI_BASE_URL",),
    ),
}
PROVIDERS["google_genai"] = PROVIDERS["google"]

_NEW_LIMIT = re.compile(r"(?:^|/)(?:gpt-[5-9]|o[1-9])")
"""OpenAI's models that refuse `max_tokens`, wherever they are served; other servers know nothing else."""

_RESPONSES = re.compile(r"gpt-(?:5\.[6-9]|[6-9]|\d\d)|gpt-.*(?:-pro|codex)")
"""OpenAI's models that refuse tools in Chat Completions, and take them in its Responses only."""


def split_name(name: str) -> tuple[str, str]:
    """Provider and model of `provider:model`. Raises `UsageError` for a provider that is not supported."""
    provider, _, model = name.partition(":")
    if provider not in PROVIDERS or not model.strip():
        raise UsageError(
            f"{name!r} is not the name of a chat model",
            fix="Name it as openai:MODEL, anthropic:MODEL or google:MODEL; any other server that speaks "
            "OpenAI's protocol is openai:MODEL with --base-url",
        )
    return provider, model


def server_of(name: str, base_url: str | None) -> str | None:
    """The server that was asked for in place of the provider's own; None where it is its own.

    Raises `UsageError` for an address that is none, or that holds a key.
    """
    provider = PROVIDERS[split_name(name)[0]]
    variables = [(f"--base-url (from {variable})", os.environ.get(variable)) for variable in provider.servers]
    for source, url in (("--base-url", base_url), *variables):
        if url and url.strip():
            url = checked_server(url, source, provider.keys)
            return None if url.rstrip("/") == provider.home else url
    return None


@dataclass(frozen=True)
class Line:
    """A chat model that can be asked."""

    model: BaseChatModel
    provider: str
    own_server: bool
    profile: ModelProfile

    def send(
        self,
        messages: Sequence[BaseMessage],
        tools: Sequence[dict[str, Any]],
        force: str | None,
        idempotency_key: str,
    ) -> AIMessage:
        """One request, once. Raises whatever the provider's package raises."""
        from langsmith import tracing_context

        headers = {"Idempotency-Key": idempotency_key}
        google = self.provider == "google"
        options: Any = {"http_options": {"headers": headers}} if google else {"extra_headers": headers}
        model = self._with_tools(tools, force) if tools else self.model
        with tracing_context(enabled=False):  # images and questions go to the model, and to nobody else
            reply: AIMessage = model.invoke(list(messages), config={"callbacks": []}, **options)
        return reply

    def _with_tools(self, tools: Sequence[dict[str, Any]], force: str | None) -> Any:
        if force is not None and not self.profile.tool_choice:
            tools = [tool for tool in tools if _name(tool) == force] or tools
        options: dict[str, Any] = {}
        if force is not None and self.profile.tool_choice:
            options["tool_choice"] = force
        if not self.profile.parallel_calls and not self.own_server and self.provider != "google":
            options["parallel_tool_calls"] = False
        return self.model.bind_tools(list(tools), **options)


def line_to(name: str, base_url: str | None, profile: ModelProfile, timeout: float) -> Line:
    """Open a chat model. Nothing is sent.

    Raises `UsageError` for a wrong name or address, `GiantError` where a package or key is missing or the
    model is known to take no images.
    """
    provider_name, model_name = split_name(name)
    provider = PROVIDERS[provider_name]
    server = server_of(name, base_url)
    for package in ("langchain", provider.package):
        if importlib.util.find_spec(package) is None:
            raise GiantError(
                f"{name} needs the package {package.replace('_', '-')}",
                fix=f"pip install 'giant-pathology[{provider.extra}]'",
            )
    from langchain.chat_models import init_chat_model

    options: dict[str, Any] = {
        "api_key": _key(name, provider, server),
        "base_url": server or provider.home,
        "timeout": timeout,
        "max_retries": 1 if provider.langchain == "google_genai" else 0,  # Google's package counts attempts
    }
    if provider.langchain == "openai":
        from agent.llm.http import Wire

        responses = _RESPONSES.match(model_name) is not None
        wire = Wire(timeout, server=server or provider.home or "")
        options |= {"http_client": wire, "use_responses_api": responses}
        options |= {"store": False} if responses else {}  # else OpenAI keeps what it is sent
        options |= _limit(model_name, server, profile)
    else:
        certificates()  # these packages find proxies and certificates themselves: both must be sound
        keep_direct(server or provider.home or "")
        options["max_tokens"] = profile.max_tokens
        if provider.langchain == "google_genai":
            options["client_args"] = {"follow_redirects": False}
    # At level DEBUG the library under HTTP logs the headers of answers, where a server may echo a key.
    logging.getLogger("httpcore").setLevel(logging.INFO)
    model = init_chat_model(model_name, model_provider=provider.langchain, **options)
    if provider.langchain == "anthropic":
        model._client._client.follow_redirects = False
    if server is None:
        profile = _with_listed_limits(name, model, profile)
    return Line(model, provider.extra, server is not None, profile)


def _limit(model: str, server: str | None, profile: ModelProfile) -> dict[str, Any]:
    if server is None or _NEW_LIMIT.search(model):
        return {"max_tokens": profile.max_tokens}  # ChatOpenAI sends it as max_completion_tokens
    return {"extra_body": {"max_tokens": profile.max_tokens}}


def _key(name: str, provider: Provider, server: str | None) -> str:
    for variable in provider.keys:
        if os.environ.get(variable, "").strip():
            return checked_key(os.environ[variable].strip(), variable)
    if server is not None:
        return PLACEHOLDER
    raise GiantError(f"{name} needs a key", fix=f"Set the environment variable {' or '.join(provider.keys)}")


def _with_listed_limits(name: str, model: BaseChatModel, profile: ModelProfile) -> ModelProfile:
    """The profile with what LangChain's own list says of the model."""
    entry = model.profile or {}
    for ability, lack in (("image_inputs", "takes no images"), ("tool_calling", "calls no tools")):
        if entry.get(ability) is False:
            raise GiantError(f"{name} {lack}", fix="Choose a model that does")
    if entry.get("tool_choice") is False:
        profile = replace(profile, tool_choice=False)
    longest = entry.get("max_input_tokens")
    if longest and profile.max_input_tokens is None:
        profile = replace(profile, max_input_tokens=longest)
    return profile


def _name(tool: dict[str, Any]) -> str | None:
    return (tool.get("function") or tool).get("name") or tool.get("title")
