"""One call to a chat model: sent with retries, paid within a limit, kept in the journal, never made twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.chat.profiles import ModelProfile
from agent.records import Record

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage

    from agent.journal import Journal


class ToolCall(Record):
    """A call that the model asked for, as it asked for it."""

    id: str
    name: str
    args: dict[str, Any]


class Reply(Record):
    """What a chat model said in one turn."""

    text: str
    calls: list[ToolCall]
    garbled: list[str]
    """Calls whose arguments were no JSON, as they came (at most 500 characters each)."""
    refusal: str | None
    """The model's or the provider's words where it refused; None where it did not."""
    cut: bool
    """Whether the reply ended because it was too long."""
    message: dict[str, Any]
    """The message as LangChain writes it down, to be sent back as it came."""
    tokens_in: int
    tokens_out: int
    usd: float | None
    seconds: float
    attempts: int


class Spent(Record):
    """What a run has paid so far."""

    calls: int
    tokens_in: int
    tokens_out: int
    usd: float | None


@dataclass
class ChatClient:
    """A chat model with its profile and price."""

    name: str
    """`provider:model`."""
    profile: ModelProfile
    max_cost: float | None
    sleep: Callable[[float], None]

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
        """The reply to `messages`; from the journal where it was heard before."""
        raise NotImplementedError

    def spent(self, journal: Journal) -> Spent:
        """The sum over the journal's calls."""
        raise NotImplementedError
