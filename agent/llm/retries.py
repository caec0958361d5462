"""Finds out what went wrong with a call, and how long to wait before it is made again.

Provider packages raise errors of their own, some wrapped by LangChain. They are told apart here by what they
carry (a status, a response with headers), so that no provider package needs to be imported for it.
"""

from __future__ import annotations

import email.utils
import json
import math
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from agent.llm.providers import PROVIDERS, split_name
from agent.llm.redact import Redactor
from agent.llm.refusals import OTHER, Refusal, RequestRefused, refusal_of
from core_model.errors import ProviderError

_RESUME = "What the run has is kept: resume it"


_LAST = {
    "timeout": "no answer in time",
    "connection": "no connection",
    "garbage": "an answer that is not a completion",
}


ATTEMPTS = 6
LONGEST_WAIT = 60.0
"""Seconds between attempts, where the server names none."""
LONGEST_ASKED = 300.0
"""Seconds that a server may ask to be left alone; above this the run ends and can be resumed."""
MOST_ALIKE = 3
"""Attempts that end in the same answer, where that is no completion: more would end in the same."""
LOADING_WAIT, LONGEST_LOADING = 5.0, 1800.0
"""Seconds between attempts, and all together, while a server says that it loads its model."""

Kind = Literal["status", "timeout", "connection", "garbage", "way"]
"""way: nothing can be sent there as things stand (certificate, proxy, key), whatever the server does."""

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
    free: bool = False
    """Whether an answer came, and was none that anybody is paid for."""
    fix: str = ""
    """What the user can do about it, where that is known here."""
    refusal: Refusal = OTHER
    """What the server says it cannot do or take."""

    @property
    def again(self) -> bool:
        """Whether another attempt may do better."""
        if self.refusal.mendable or self.refusal.kind == "no_images" or self.kind == "way":
            return False
        if self.kind != "status" or self.status is None:
            return True
        return (self.status in _AGAIN or self.status >= 500) and not self.exhausted

    @property
    def charged(self) -> bool:
        """Whether the provider may have worked, and be paid, for it."""
        return self.kind not in ("status", "way") and not (self.unsent or self.free)

    @property
    def loading(self) -> bool:
        """Whether the server says that it is not ready yet, but will be."""
        return self.refusal.kind == "loading"


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
    blocked = _blocked(chain, names, name)
    if blocked is not None:
        return blocked
    for cause in chain:
        if type(cause).__name__ == "NoCompletion":
            return _no_completion(cause, name)
    unsent = bool(names & {"ConnectError", "ConnectTimeout", "ConnectionRefusedError"})
    if any("timeout" in class_name.casefold() for class_name in names):
        return Fault("timeout", name, unsent=unsent)
    if names & _CONNECTION:
        return Fault("connection", name, words=_system_words(chain), unsent=unsent)
    return Fault("garbage", name)


def _blocked(chain: Sequence[BaseException], names: set[str], name: str) -> Fault | None:
    """The fault where nothing can be sent until the user has changed something."""
    for cause in chain:
        kinds = {kind.__name__ for kind in type(cause).__mro__}
        if "SSLCertVerificationError" in kinds:
            why = getattr(cause, "verify_message", "") or "unknown authority"
            fix = "Name a file with its certificate authority in SSL_CERT_FILE"
            return Fault(
                "way",
                name,
                words=f"the certificate of its server is not trusted: {why}",
                unsent=True,
                fix=fix,
            )
        if "SSLError" in kinds and names & {"ConnectError", "SSLError"}:
            why = str(getattr(cause, "reason", "") or "").replace("_", " ").lower() or "no handshake"
            fix = "Check whether --base-url begins with http:// or https://"
            return Fault(
                "way", name, words=f"its server does not speak TLS as it should ({why})", unsent=True, fix=fix
            )
        if "ProxyError" in kinds:
            fix = "Check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY, or name the server in NO_PROXY"
            return Fault(
                "way",
                name,
                words=f"the proxy on the way does not let it through ({cause})",
                unsent=True,
                fix=fix,
            )
        if kinds & {"LocalProtocolError", "UnsupportedProtocol", "InvalidURL"}:
            fix = "Check --base-url and the key's variable in the environment"
            return Fault(
                "way", name, words="a request with this key or address cannot be sent", unsent=True, fix=fix
            )
    return None


def _no_completion(cause: Any, name: str) -> Fault:
    """The fault where a body came under a good status that is no reply: an error, a page, a part."""
    text, status = str(cause.text), cause.error_status
    refusal = refusal_of(status or 200, text)
    words = _first_words(text)
    if status is not None:
        return Fault("status", name, status, words, refusal=refusal)
    return Fault("garbage", name, words=words, free=not cause.cut, refusal=refusal)


def _system_words(chain: Sequence[BaseException]) -> str:
    """What the operating system says of a connection: refused, unknown name."""
    words = [cause.strerror for cause in chain if isinstance(cause, OSError) and cause.strerror]
    return words[-1] if words else ""


def _first_words(text: str) -> str:
    """The message of an error in JSON, else the first lines of a page without its marks."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        error = value.get("error", value.get("detail"))
        inner = error.get("message") if isinstance(error, dict) else error
        text = inner if isinstance(inner, str) and inner else value.get("message") or text
    text = re.sub(r"(?is)<(script|style)\b.*?</\1\s*>", " ", str(text)[:20_000])
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


def wait_before(attempt: int, fault: Fault, dice: random.Random) -> float:
    """Seconds before attempt number `attempt` (from 2): full jitter, never less than the server asks for."""
    if fault.loading:
        return min(max(LOADING_WAIT, fault.wait or 0.0), LONGEST_WAIT)
    jitter = dice.uniform(0.0, min(LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (attempt - 1)))
    return max(jitter, fault.wait or 0.0)


def has_ended(faults: Sequence[Fault], waits: Sequence[float]) -> bool:
    """Whether nothing is to be expected of another attempt after these faults and the waits between them.

    A server that loads its model is waited for by time; those attempts do not count among the others.
    """
    last, counted = faults[-1], [fault for fault in faults if not fault.loading]
    if last.loading:
        waited = math.fsum(wait for fault, wait in zip(faults, waits, strict=False) if fault.loading)
        return waited >= LONGEST_LOADING
    alike = faults[-MOST_ALIKE:]
    stuck = len(alike) == MOST_ALIKE and all(f.free and f == last for f in alike)
    return not last.again or stuck or len(counted) >= ATTEMPTS or (last.wait or 0.0) > LONGEST_ASKED


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
    """The message of an error in JSON; else what else the server said, or the package for it."""
    message = body.get("message")
    if isinstance(message, str) and message:
        return message
    text = getattr(getattr(error, "response", None), "text", None) or getattr(error, "message", None)
    return _first_words(text) if isinstance(text, str) else ""


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
    said = redactor.words(fault.words)
    if fault.kind == "way":
        return said, fault.fix
    if fault.loading:
        minutes = f"{LONGEST_LOADING / 60:.0f} minutes"
        return f"its server was still loading the model after {minutes}: {said}", _RESUME
    if fault.wait is not None and fault.wait > LONGEST_ASKED:
        until = datetime.now(UTC) + timedelta(seconds=fault.wait)
        return "its server asks not to be called for now", f"{_RESUME} after {until:%Y-%m-%d %H:%M} UTC"
    if fault.exhausted:
        return "the account has nothing left to pay with", _RESUME
    if fault.refusal.kind == "no_images":
        return _with("its server takes no images", said), _ADVICE["no_images"]
    if status in (401, 403):
        keys = " or ".join(PROVIDERS[split_name(name)[0]].keys)
        return _with(f"its server refused the key ({status})", said), f"Check the environment variable {keys}"
    if status == 407:
        what = _with("the proxy on the way wants a user and a password (407)", said)
        return what, "Check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY"
    if status == 404:
        what = _with("its server knows no such model or address (404)", said)
        return what, "Check --model and --base-url"
    if not fault.again:
        words = said or "it does not say why"
        number = f" ({status})" if status else ""
        return f"its server refused the request{number}: {words}", _ADVICE.get(fault.refusal.kind, _CHECK)
    last = _with(f"status {status}" if status else _LAST[fault.kind], said)
    advice = _CHECK if fault.kind == "garbage" else _RESUME
    return f"no reply came after {attempts} attempts; the last ended with {last}", advice


_CHECK = "Check --model and --base-url"
_ADVICE = {
    "no_images": "Choose a model that sees images",
    "no_tools": "Start the server with tool calls, or choose a model that has them",
    "image_limit": "Let the server take more images in a request",
    "too_large": "Let the server take larger requests",
    "context_too_long": "Let the server take longer requests, or give fewer --max-steps",
    "rate_request_too_large": "Ask the provider for more tokens per minute, or give fewer --max-steps",
}
"""What helps by the reason, where the server's words do not say it already."""


def _with(message: str, words: str) -> str:
    return f"{message}: {words}" if words else message
