"""The one error that ends a run when a chat model's server fails for good, with what to do about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from agent.llm.providers import PROVIDERS, split
from agent.llm.redact import Redactor
from agent.llm.retries import LONGEST_ASKED, Fault
from core_model.errors import ProviderError

_RESUME = "What the run has is kept: resume it"
_LAST = {"timeout": "no answer in time", "connection": "no connection"}


def failure(name: str, fault: Fault, attempts: int, redactor: Redactor) -> ProviderError:
    """The error after `attempts` faults. Nothing of the server's words that could be a key is in it."""
    what, fix = _said(name, fault, attempts, redactor)
    return ProviderError(what, where=name, fix=fix)


def _said(name: str, fault: Fault, attempts: int, redactor: Redactor) -> tuple[str, str]:
    status = fault.status
    if fault.wait is not None and fault.wait > LONGEST_ASKED:
        until = datetime.now(UTC) + timedelta(seconds=fault.wait)
        return "its server asks not to be called for now", f"{_RESUME} after {until:%Y-%m-%d %H:%M} UTC"
    if fault.exhausted:
        return "the account has nothing left to pay with", _RESUME
    if status in (401, 403):
        keys = " or ".join(PROVIDERS[split(name)[0]].keys)
        return f"its server refused the key ({status})", f"Check the environment variable {keys}"
    if status == 404:
        return "its server knows no such model or address (404)", "Check --model and --base-url"
    if not fault.again:
        words = redactor.words(fault.words) or "it does not say why"
        return f"its server refused the request ({status}): {words}", "Check --model and --base-url"
    last = f"status {status}" if status else _LAST.get(fault.kind, "an answer that is no completion")
    return f"no reply after {attempts} attempts, the last with {last}", _RESUME
