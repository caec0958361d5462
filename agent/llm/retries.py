"""Finds out what went wrong with a call, and how long to wait before it is made again.

Provider packages raise errors of their own, some wrapped by LangChain. They are told apart here by what they
carry (a status, a response with headers), so that no provider package needs to be imported for it.
"""

from __future__ import annotations

import email.utils
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from agent.llm.providers import PROVIDERS, split_name
from agent.llm.redact import Redactor
from agent.llm.refusals import OTHER, Refusal, RequestRefused, refusal_of
from core_model.errors import ProviderError

_RESUME = "What the run has is kept: resume it"


_LAST = {"timeout": "no answer in time", "connection": "no connection"}


ATTEMPTS = 6
LONGEST_WAIT = 60.0
"""Seconds between attempts, where the server names none."""
LONGEST_ASKED = 300.0
"""Seconds that a server may ask to be left alone; above this the run ends and can be resumed."""

Kind = Literal["status", "timeout", "connection", "garbage"]

_AGAIN = {408, 409, 425, 429}
_CONNECTION = {"APIConnectionError", "TransportError", "OSError"}
"""Classes of the providers' packages, of the HTTP library under them, and of Python."""
_FIRST_WAIT = 1.0
_NOW: Callable[[], float] = time.time


@dataclass(frozen=True)
class Fault:
    """Why an attempt brought no reply."""

    kind: Kind
    error: str
    """Name of the error's class: it says more to us than it can give away."""
    status: int | None = None
    words: str = ""
    """The words of the server, to be redacted before anybody reads them."""
    wait: float | None = None
    """Seconds that the server asks to wait."""
    exhausted: bool = False
    """Whether the account has nothing left to pay with: waiting does not help."""
    unsent: bool = False
    """Whether there was no connection to send anything over."""
    refusal: Refusal = OTHER
    """What the server says it cannot do or take."""

    @property
    def again(self) -> bool:
        """Whether another attempt may do better."""
        if self.refusal.mendable:
            return False
        if self.kind != "status" or self.status is None:
            return True
        return (self.status in _AGAIN or self.status >= 500) and not self.exhausted

    @property
    def charged(self) -> bool:
        """Whether the provider may have worked, and be paid, for it."""
        return self.kind != "status" and not self.unsent


def fault_of(error: BaseException) -> Fault:
    """The fault behind an error that a chat model raised."""
    chain, name = list(_chain(error)), type(error).__name__
    for cause in chain:
        status = _status(cause)
        if status is not None and status != 200:
            headers, body = _headers(cause), _body(cause)
            return Fault(
                "status",
                name,
                status,
                _message(cause, body),
                _wanted_wait(headers, body),
                _exhausted(cause, body),
                refusal=refusal_of(status, _whole_body(cause)),
            )
    names = {kind.__name__ for cause in chain for kind in type(cause).__mro__}
    unsent = bool(names & {"ConnectError", "ConnectTimeout", "ConnectionRefusedError"})
    if any("timeout" in class_name.casefold() for class_name in names):
        return Fault("timeout", name, unsent=unsent)
    if names & _CONNECTION:
        return Fault("connection", name, unsent=unsent)
    return Fault("garbage", name)


def wait_before(attempt: int, fault: Fault, dice: random.Random) -> float:
    """Seconds before attempt number `attempt` (from 2): full jitter, never less than the server asks for."""
    jitter = dice.uniform(0.0, min(LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (attempt - 1)))
    return max(jitter, fault.wait or 0.0)


def _chain(error: BaseException) -> Iterator[BaseException]:
    visited_ids: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in visited_ids:
        visited_ids.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _status(error: BaseException) -> int | None:
    for name in ("status_code", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int) and 100 <= value < 600:
            return value
    return None


def _headers(error: BaseException) -> Mapping[str, str]:
    headers = getattr(getattr(error, "response", None), "headers", None)
    return {str(key).casefold(): str(value) for key, value in headers.items()} if headers else {}


def _body(error: BaseException) -> dict[str, Any]:
    for name in ("body", "details"):
        value = getattr(error, name, None)
        if isinstance(value, dict):
            inner = value.get("error")
            return inner if isinstance(inner, dict) else value
    return {}


def _message(error: BaseException, body: dict[str, Any]) -> str:
    message = body.get("message") or getattr(error, "message", None)
    return message if isinstance(message, str) else ""


def _whole_body(error: BaseException) -> str:
    """Everything that the server said, as text."""
    text = getattr(getattr(error, "response", None), "text", None)
    return text if isinstance(text, str) and text else str(error)


def _exhausted(error: BaseException, body: dict[str, Any]) -> bool:
    return "insufficient_quota" in (body.get("code"), body.get("type"), getattr(error, "code", None))


def _wanted_wait(headers: Mapping[str, str], body: dict[str, Any]) -> float | None:
    """Seconds that the server asks to wait: a header in seconds or as a date, or Google's detail."""
    waits = [_seconds(headers.get("retry-after-ms", ""), 0.001), _seconds(headers.get("retry-after", ""))]
    if waits == [None, None] and "retry-after" in headers:
        waits.append(_until(headers["retry-after"]))
    for detail in body.get("details") or ():
        if isinstance(detail, dict):
            waits.append(_seconds(str(detail.get("retryDelay", "")).removesuffix("s")))
    seconds = [wait for wait in waits if wait is not None]
    return max(seconds) if seconds else None


def _seconds(text: str, unit: float = 1.0) -> float | None:
    return float(text) * unit if re.fullmatch(r"\s*\d{1,9}(\.\d{1,9})?\s*", text) else None


def _until(date: str) -> float | None:
    try:
        moment = email.utils.parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return None
    return max(0.0, moment.timestamp() - _NOW())


def provider_error(name: str, fault: Fault, attempts: int, redactor: Redactor) -> ProviderError:
    """The error after `attempts` faults. Nothing of the server's words that could be a key is in it."""
    message, fix = _message_and_fix(name, fault, attempts, redactor)
    if fault.refusal.mendable:
        return RequestRefused(message, fault.refusal, where=name, fix=fix)
    return ProviderError(message, where=name, fix=fix)


def _message_and_fix(name: str, fault: Fault, attempts: int, redactor: Redactor) -> tuple[str, str]:
    status = fault.status
    if fault.wait is not None and fault.wait > LONGEST_ASKED:
        until = datetime.now(UTC) + timedelta(seconds=fault.wait)
        return "its server asks not to be called for now", f"{_RESUME} after {until:%Y-%m-%d %H:%M} UTC"
    if fault.exhausted:
        return "the account has nothing left to pay with", _RESUME
    if status in (401, 403):
        keys = " or ".join(PROVIDERS[split_name(name)[0]].keys)
        return f"its server refused the key ({status})", f"Check the environment variable {keys}"
    if status == 404:
        return "its server knows no such model or address (404)", "Check --model and --base-url"
    if not fault.again:
        words = redactor.words(fault.words) or "it does not say why"
        return f"its server refused the request ({status}): {words}", "Check --model and --base-url"
    last = f"status {status}" if status else _LAST.get(fault.kind, "an answer that is not a completion")
    return f"no reply came after {attempts} attempts; the last ended with {last}", _RESUME
