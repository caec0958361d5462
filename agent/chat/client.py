"""One call to a chat model: sent with retries, paid within a limit, kept in the journal, never made twice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.chat.prices import Price, price_for
from agent.chat.profiles import ModelProfile, profile_for
from agent.chat.providers import PROVIDERS, Line, line_to, split
from agent.chat.redact import Redactor
from agent.chat.replies import Said, ToolCall, said
from agent.chat.requests import Request
from agent.chat.retries import ATTEMPTS, LONGEST_ASKED, Fault, fault_of, wait_before
from agent.chat.spending import CHAT, FAULTS, Ledger, OverBudget, Paid, Spent, check, usd_of
from core_model.errors import ProviderError, UsageError

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, BaseMessage

    from agent.journal import Journal

__all__ = ["ChatClient", "OverBudget", "Reply", "Spent", "ToolCall", "open_chat", "recorded_chat"]

TIMEOUT = 300.0
REFUSED = "overbudget"


class Reply(Said):
    """What a chat model said in one turn, and what it took."""

    tokens_in: int
    tokens_out: int
    usd: float | None
    seconds: float
    attempts: int


@dataclass
class ChatClient:
    """A chat model with its profile and price."""

    name: str
    """`provider:model`."""
    profile: ModelProfile
    max_cost: float | None = None
    """Limit of a run, USD."""
    sleep: Callable[[float], None] = time.sleep
    price: Price | None = None
    line: Line | None = None
    """The way to the model; None where only the journal answers."""
    redactor: Redactor = field(default_factory=Redactor)
    ledger: Ledger = field(default_factory=Ledger)

    def ask(
        self,
        journal: Journal,
        run_id: str,
        turn: str,
        messages: Sequence[BaseMessage],
        tools: Sequence[dict[str, Any]],
        *,
        force: str | None = None,
        last: bool = False,
    ) -> Reply:
        """The reply to `messages`; from the journal where it was heard before.

        `turn` names the call within the run, in small letters, so that names sort in the order of the calls.
        `force` names the tool that must be called; a model that cannot be made to is offered no other.
        `last` says that no other call needs to follow, so that nothing is held back for one. Raises
        `OverBudget` before a call that might exceed the limit, and `ProviderError` where none gets through.
        """
        request = Request(self.name, self.profile, messages, tools, force)
        key = f"{turn}-{request.digest[:12]}"
        refused = journal.get(REFUSED, key)
        if refused is not None:
            raise OverBudget(refused["text"])
        kept = journal.once(CHAT, key, lambda: self._made(journal, run_id, key, request, last))
        return Reply.model_validate(kept["reply"])

    def spent(self, journal: Journal) -> Spent:
        """The sum over the journal's calls."""
        return self.ledger.spent(journal)

    def _made(self, journal: Journal, run_id: str, key: str, request: Request, last: bool) -> dict[str, Any]:
        """Make the call, as often as it takes, and say what the journal keeps of it."""
        started, dice = time.perf_counter(), random.Random(f"{run_id}-{key}")
        estimated = self.ledger.estimated(journal, request.tokens_in)
        dearest = usd_of(self.price, estimated, self.profile.max_tokens)
        before, faults, waits = self.spent(journal), list[Fault](), list[float]()
        while True:
            lost = dearest * sum(fault.charged for fault in faults)
            try:
                if self.max_cost is not None:
                    sofar = before.model_copy(update={"lost_usd": before.lost_usd + lost})
                    check(sofar, dearest, self.max_cost, last=last)
            except OverBudget as over:
                self._keep_faults(journal, key, faults, waits, lost)
                journal.put(REFUSED, key, {"text": over.text})
                raise
            heard = self._attempt(request, f"giant-{run_id}-{key}")
            if not isinstance(heard, Fault):
                break
            faults.append(heard)
            if len(faults) == ATTEMPTS or not heard.again or (heard.wait or 0.0) > LONGEST_ASKED:
                self._keep_faults(journal, key, faults, waits, lost + dearest * heard.charged)
                raise self._error(heard, len(faults))
            waits.append(wait_before(len(faults) + 1, heard, dice))
            self.sleep(waits[-1])
        message, what = heard
        paid = self._paid(message, what, request, lost)
        reply = {
            **what.model_dump(),
            **paid.model_dump(include={"tokens_in", "tokens_out", "usd"}),
            "seconds": round(time.perf_counter() - started, 3),
            "attempts": len(faults) + 1,
        }
        entry = {
            "request": request.described,
            "idempotency_key": f"giant-{run_id}-{key}",
            "profile": asdict(self.profile),
            "attempts": _attempts(faults, waits),
            "reply": reply,
            "paid": paid.model_dump(),
        }
        return self.redactor.value(entry)  # type: ignore[no-any-return]

    def _attempt(self, request: Request, idempotency_key: str) -> tuple[AIMessage, Said] | Fault:
        assert self.line is not None, "a replay sends nothing"
        try:
            message = self.line.send(request.messages, request.tools, request.force, idempotency_key)
            return message, said(message)
        except Exception as error:  # whatever a server may cause, its words are kept out of ours
            return fault_of(error)

    def _paid(self, message: AIMessage, what: Said, request: Request, lost: float) -> Paid:
        """What a reply cost: by the server's count, or where it gives none, by our estimate."""
        usage: dict[str, Any] = dict(message.usage_metadata or {})
        tokens_in = usage.get("input_tokens") or request.tokens_in
        tokens_out = usage.get("output_tokens") or len(what.model_dump_json(include={"text", "calls"})) // 3
        cached = (usage.get("input_token_details") or {}).get("cache_read") or 0
        return Paid(
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            usd=self.price.usd(tokens_in, tokens_out, cached) if self.price is not None else None,
            lost_usd=lost,
            estimated_in=request.tokens_in,
        )

    def _keep_faults(
        self, journal: Journal, key: str, faults: list[Fault], waits: list[float], lost: float
    ) -> None:
        """Keep what was tried in vain, together with what was before."""
        if not faults:
            return
        before = journal.get(FAULTS, key) or {"attempts": [], "lost_usd": 0.0}
        attempts = [*before["attempts"], *_attempts(faults, waits)]
        journal.put(FAULTS, key, {"attempts": attempts, "lost_usd": before["lost_usd"] + lost})

    def _error(self, fault: Fault, attempts: int) -> ProviderError:
        """The error that ends the run. Not a word of the server's that could be part of a key is in it."""
        keys = " or ".join(PROVIDERS[split(self.name)[0]].keys)
        again = "What the run has is kept: resume it"
        status, words = fault.status, self.redactor.words(fault.words)
        if (fault.wait or 0.0) > LONGEST_ASKED:
            until = datetime.now(UTC) + timedelta(seconds=fault.wait or 0.0)
            what, fix = (
                "the server asks not to be called for now",
                f"{again} after {until:%Y-%m-%d %H:%M} UTC",
            )
        elif fault.exhausted:
            what, fix = "the account has nothing left to pay with", again
        elif status in (401, 403):
            what, fix = f"the server refused the key ({status})", f"Check {keys}"
        elif status == 404:
            what, fix = "the server knows no such model or address (404)", "Check --model and --base-url"
        elif fault.kind == "status" and not fault.again:
            what, fix = f"the server refused the request ({status}): {words or 'it does not say why'}", None
        else:
            seen = {
                "status": f"status {status}",
                "timeout": "no answer in time",
                "connection": "no connection",
            }
            last = seen.get(fault.kind, "an answer that is no completion")
            what, fix = f"no reply after {attempts} attempts, at last {last}", again
        return ProviderError(what, where=self.name, fix=fix)


def open_chat(
    name: str,
    *,
    base_url: str | None = None,
    max_cost: float | None = None,
    prices: Path | None = None,
    sleep: Callable[[float], None] = time.sleep,
    timeout: float = TIMEOUT,
) -> ChatClient:
    """The chat model `provider:model`, ready to be asked. Nothing is sent.

    `base_url` names another server than the provider's own, `max_cost` limits what one run may cost in USD,
    `prices` is a file like that of `agent.chat.prices`, `timeout` is that of one attempt in seconds. Raises
    `UsageError` for a wrong name, address, file or limit, `GiantError` where a package or a key is missing.
    """
    line = line_to(name, base_url, profile_for(name), timeout)
    price = price_for(name, own_server=line.own_server, prices=prices)
    if max_cost is not None and price is None:
        raise UsageError(
            f"--max-cost needs a price for {name}",
            fix=f'Give one with --prices FILE: {{"{name}": {{"in": 1.25, "out": 10}}}}, '
            "in USD per million tokens; 0 for a server of your own",
        )
    return ChatClient(name, line.profile, max_cost, sleep, price, line)


def recorded_chat(name: str, journal: Journal) -> ChatClient:
    """The chat model of a run that is replayed: it says what it said, and cannot be asked anything else."""
    first = next(journal.values(CHAT), None)
    profile = ModelProfile(**first["profile"]) if first is not None else profile_for(name)
    return ChatClient(name, profile)


def _attempts(faults: list[Fault], waits: list[float]) -> list[dict[str, Any]]:
    """What the journal keeps of attempts that failed: no word of the server's."""
    padded = [*waits, *([0.0] * len(faults))]
    return [
        {"kind": fault.kind, "status": fault.status, "error": fault.error, "waited": round(wait, 3)}
        for fault, wait in zip(faults, padded, strict=False)
    ]
