"""One call to a chat model: sent with retries, paid within a limit, kept in the journal, never made twice."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.llm.network import checked_timeout
from agent.llm.prices import Price, price_for
from agent.llm.profiles import ModelProfile, profile_for
from agent.llm.providers import Line, line_to
from agent.llm.redact import Redactor
from agent.llm.reply import MessageContent, ToolCall, content_of
from agent.llm.request import ChatRequest
from agent.llm.retries import fault_of, has_ended, provider_error, wait_before
from agent.llm.spending import (
    CHAT,
    CallCost,
    ChatCosts,
    FailedAttempts,
    Ledger,
    OverBudget,
    check_budget,
    text_tokens,
)
from core_model.errors import ProviderError, UsageError

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, BaseMessage

    from agent.run.journal import Journal

__all__ = ["ChatClient", "OverBudget", "Reply", "ToolCall", "open_chat", "recorded_chat"]

log = logging.getLogger(__name__)
REFUSED = "overbudget"
"""Kind of the journal's entries for calls that were not made, so that a replay does not make them either."""


class Reply(MessageContent):
    """The reply of a chat model in one turn, and its costs."""

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
        request = ChatRequest(self.name, self.profile, messages, tools, force)
        key = request.key(turn)
        refusal = journal.get(REFUSED, key)
        if refusal is not None:
            raise OverBudget(refusal["text"])
        entry = journal.once(CHAT, key, lambda: self._call(journal, run_id, key, request, last))
        return Reply.model_validate(entry["reply"])

    def spent(self, journal: Journal) -> ChatCosts:
        """The sum over the journal's calls."""
        return self.ledger.spent(journal)

    def _call(
        self, journal: Journal, run_id: str, key: str, request: ChatRequest, last: bool
    ) -> dict[str, Any]:
        """Make the call, and say what the journal keeps of it."""
        start, tries = time.perf_counter(), FailedAttempts()
        ident = f"giant-{run_id}-{key}"
        try:
            message, content = self._send_until_reply(journal, ident, request, last, tries)
        except (OverBudget, ProviderError) as end:
            tries.keep(journal, key)
            if isinstance(end, OverBudget):
                journal.put(REFUSED, key, {"text": end.text, "profile": asdict(self.profile)})
            raise
        cost = self._cost(message, content, request, tries.lost)
        reply = {
            **content.model_dump(),
            **cost.model_dump(include={"tokens_in", "tokens_out", "usd"}),
            "seconds": round(time.perf_counter() - start, 3),
            "attempts": len(tries.faults) + 1,
        }
        entry: dict[str, Any] = self.redactor.value(
            {
                "request": request.described,
                "idempotency_key": ident,
                "profile": asdict(self.profile),
                "attempts": tries.record(),
                "reply": reply,
                "paid": cost.model_dump(),
            }
        )
        return entry

    def _send_until_reply(
        self, journal: Journal, ident: str, request: ChatRequest, last: bool, tries: FailedAttempts
    ) -> tuple[AIMessage, MessageContent]:
        """Send until a reply comes. Raises `OverBudget` and `ProviderError`."""
        assert self.line is not None, "a replay sends nothing"
        dice, before = random.Random(ident), self.spent(journal)
        tokens_in = self.ledger.estimated(journal, request.tokens_in)
        tries.dearest = self.price.usd(tokens_in, self.profile.max_tokens) if self.price is not None else 0.0
        while True:
            if self.max_cost is not None:
                check_budget(before, tries.lost, tries.dearest, self.max_cost, last=last)
            try:
                message = self.line.send(request.messages, request.tools, request.force, ident)
                return message, content_of(message)
            except Exception as error:  # whatever a server may cause: its words are kept out of ours
                fault = fault_of(error)
            tries.faults.append(fault)
            if has_ended(tries.faults, tries.waits):
                raise provider_error(self.name, fault, len(tries.faults), self.redactor)
            if fault.loading and not tries.loading:
                log.warning("%s: its server is loading the model; waiting until it is there.", self.name)
            tries.waits.append(wait_before(len(tries.faults) + 1, fault, dice))
            self.sleep(tries.waits[-1])

    def _cost(
        self, message: AIMessage, content: MessageContent, request: ChatRequest, lost_usd: float
    ) -> CallCost:
        """The cost of a reply by the server's count, or where it gives none, by our estimate."""
        usage: dict[str, Any] = dict(message.usage_metadata or {})
        tokens_in = _count(usage.get("input_tokens")) or request.tokens_in
        tokens_out = _count(usage.get("output_tokens")) or text_tokens(content.model_dump_json())
        cached_in = _count((usage.get("input_token_details") or {}).get("cache_read"))
        return CallCost(
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            usd=self.price.usd(tokens_in, tokens_out, cached_in) if self.price is not None else None,
            lost_usd=lost_usd,
            estimated_in=request.tokens_in,
        )


def open_chat(
    name: str,
    *,
    base_url: str | None = None,
    max_cost: float | None = None,
    prices: Path | None = None,
    sleep: Callable[[float], None] = time.sleep,
    timeout: float | None = None,
) -> ChatClient:
    """The chat model `provider:model`, ready to be asked. Nothing is sent.

    `base_url` names another server than the provider's own, `max_cost` limits what one run may cost in USD,
    `prices` is a file like that of `agent.llm.prices`, `timeout` is that of one attempt in
    seconds; else GIANT_TIMEOUT says it, else it is 300. Raises
    `UsageError` for a wrong name, address, file or limit, `GiantError` where a package or a key is missing.
    """
    line = line_to(name, base_url, profile_for(name), checked_timeout(timeout))
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
    first = next(chain(journal.values(CHAT), journal.values(REFUSED)), None)
    profile = ModelProfile(**first["profile"]) if first is not None else profile_for(name)
    return ChatClient(name, profile)


def _count(value: Any) -> int:
    """A number of tokens that a server gave; 0 where it is none."""
    return value if isinstance(value, int) and value > 0 else 0
