"""Counts the cost of calls before and after they are made, against the limit of the run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from agent.llm.profiles import ModelProfile
from agent.llm.retries import Fault
from agent.run.journal import Journal
from core_model.records import Record

CHAT, FAULTS = "chat", "chatfault"
"""Kinds of journal entries: calls that were answered; calls that were given up."""

_CHARACTERS_PER_TOKEN = 3
"""Fewer than any tokenizer needs for English or JSON, so that the estimate is high."""
_LEAST_IMAGE_SHARE = 0.1


class OverBudget(Exception):
    """A call that was not made because it could cost more than is left. `text` is one clause."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)


class ChatCosts(Record):
    """The costs of a run so far."""

    calls: int
    tokens_in: int
    tokens_out: int
    usd: float | None
    """None where no call was answered, or its price is unknown."""
    lost_usd: float = 0.0
    """Upper estimate for attempts whose reply never came: nobody says what they cost, and the limit counts
    them."""


class CallCost(Record):
    """The cost of one answered call, with the estimate of its prompt to learn how far off that was."""

    tokens_in: int
    tokens_out: int
    usd: float | None
    lost_usd: float
    estimated_in: int


class Ledger:
    """Sums a journal's calls. An entry never changes once written, so each is read once."""

    def __init__(self) -> None:
        self._costs: dict[tuple[str, str], CallCost] = {}

    def paid(self, journal: Journal) -> Iterator[CallCost]:
        """The cost of each answered call, in the order of their names."""
        for key in journal.keys(CHAT):
            place = (str(journal.folder), key)
            if place not in self._costs:
                self._costs[place] = CallCost.model_validate(journal.get(CHAT, key)["paid"])  # type: ignore[index]
            yield self._costs[place]

    def spent(self, journal: Journal) -> ChatCosts:
        """The sum over the journal's calls."""
        calls = list(self.paid(journal))
        dollars = [call.usd for call in calls if call.usd is not None]
        given_up = sum(float(fault["lost_usd"]) for fault in journal.values(FAULTS))
        return ChatCosts(
            calls=len(calls),
            tokens_in=sum(call.tokens_in for call in calls),
            tokens_out=sum(call.tokens_out for call in calls),
            usd=math.fsum(dollars) if calls and len(dollars) == len(calls) else None,
            lost_usd=math.fsum([given_up, *(call.lost_usd for call in calls)]),
        )

    def estimated(self, journal: Journal, tokens_in: int) -> int:
        """The estimate for a prompt, raised by as much as the last call's fell short."""
        *_, last = [None, *self.paid(journal)]
        if last is None or not last.estimated_in:
            return tokens_in
        return math.ceil(tokens_in * max(1.0, last.tokens_in / last.estimated_in))


@dataclass
class FailedAttempts:
    """The attempts of one call that brought no reply."""

    dearest: float = 0.0
    """The most that one attempt may cost, USD; 0 where the price is unknown, as there is no limit then."""
    faults: list[Fault] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    """Seconds waited after each fault."""

    @property
    def loading(self) -> bool:
        """Whether the server has said before that it is loading its model."""
        return any(fault.loading for fault in self.faults[:-1])

    @property
    def lost(self) -> float:
        """The most that they may have cost."""
        return self.dearest * sum(fault.charged for fault in self.faults)

    def record(self) -> list[dict[str, Any]]:
        """The attempts as the journal keeps them, without any word of the server's."""
        return [
            {"kind": fault.kind, "status": fault.status, "error": fault.error, "waited": round(wait, 3)}
            for fault, wait in zip(self.faults, [*self.waits, 0.0], strict=False)
        ]

    def keep(self, journal: Journal, key: str) -> None:
        """Keep what was tried in vain, together with what was before."""
        if self.faults:
            before = journal.get(FAULTS, key) or {"attempts": [], "lost_usd": 0.0}
            attempts = [*before["attempts"], *self.record()]
            journal.put(FAULTS, key, {"attempts": attempts, "lost_usd": before["lost_usd"] + self.lost})


def check_budget(costs: ChatCosts, lost_usd: float, call_usd: float, max_cost: float, *, last: bool) -> None:
    """Raise `OverBudget` if a call that may cost `call_usd` does not fit, with another like it to answer.

    `lost_usd` is what earlier attempts of the same call may have cost; `last` says that no other call needs
    to follow.
    """
    paid_usd = (costs.usd or 0.0) + costs.lost_usd + lost_usd
    if paid_usd + call_usd * (1 if last else 2) > max_cost:
        raise OverBudget(
            f"up to ${paid_usd:.4f} of the limit of ${max_cost:.4f} is spent, "
            f"and the next call may cost ${call_usd:.4f}"
        )


def text_tokens(text: str) -> int:
    """Upper estimate of a text's tokens."""
    return math.ceil(len(text) / _CHARACTERS_PER_TOKEN)


def image_tokens(pixels: int, profile: ModelProfile) -> int:
    """Upper estimate of the tokens of an image of so many pixels; 0 pixels mean that nobody knows."""
    pixels = pixels or profile.max_image_px**2
    return math.ceil(profile.tokens_per_image * max(_LEAST_IMAGE_SHARE, pixels / 1e6))
