"""The money of an evaluation: one limit over all its questions, however many workers ask them.

A worker takes a grant before it asks and says afterwards what was spent. What is granted to others counts as
spent meanwhile, so the sum never passes the limit. Which answers are paid already is known from the results
and the journals; the file of the purse holds only while an evaluation runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.llm.spending import ChatCosts, Ledger
from agent.run.folder import VOTES
from agent.run.journal import Journal
from core_model.errors import RunError
from core_model.files import held, write_text

PURSE = "spending.json"


@dataclass(frozen=True)
class Purse:
    """The rest of a spending limit in USD, in a file that processes share."""

    path: Path
    workers: int

    @classmethod
    def opened(
        cls, folder: Path, limit: float, usd_spent: float, grants: Mapping[str, float], workers: int
    ) -> Purse:
        """A new purse. `held` is what questions without a result have cost already."""
        purse = cls(folder / PURSE, workers)
        state = {"limit": limit, "spent": usd_spent, "held": dict(grants), "asking": [], "closed": False}
        write_text(purse.path, json.dumps(state))
        return purse

    def take(self, key: str) -> float | None:
        """Grant a question the USD that it may cost in all; None where nothing is left.

        Workers that may still come get equal shares of what is left.
        """
        with self._state() as state:
            grants, before = state["held"], state["held"].get(key, 0.0)
            free = state["limit"] - state["spent"] - math.fsum(grants.values())
            if state["closed"] or free < 0:
                state["closed"] = True
                return None
            busy = len([name for name in state["asking"] if name != key])
            grant = before + free / max(1, self.workers - busy)
            grants[key], state["asking"] = grant, sorted({*state["asking"], key})
            return float(grant)

    def settle(self, key: str, usd: float, *, out_of_money: bool = False) -> None:
        """A question has cost so much in all. `cut`: it needed more, and nothing further is asked."""
        with self._state() as state:
            state["held"][key] = usd
            state["asking"] = [name for name in state["asking"] if name != key]
            state["closed"] = state["closed"] or out_of_money

    @property
    def closed(self) -> bool:
        """Whether nothing further is asked."""
        with self._state() as state:
            return bool(state["closed"])

    def alone(self) -> Purse:
        """The purse for one worker, which may take all that is left."""
        with self._state() as state:
            state["closed"], state["asking"] = False, []
        return Purse(self.path, 1)

    @contextmanager
    def _state(self) -> Iterator[dict[str, Any]]:
        with held(self.path.parent, wait=True, name=f".{self.path.name}.lock", remove=True):
            state = self._read()
            yield state
            write_text(self.path, json.dumps(state))

    def _read(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"the file cannot be read ({error})", where=self.path) from error
        return state


def spending_of(folder: Path) -> ChatCosts:
    """The cost of a question's calls so far, those of its votes included."""
    places = [folder, *sorted((folder / VOTES).glob("*"))]
    parts = [Ledger().spent(Journal(place)) for place in places]
    costs = [part.usd for part in parts if part.calls]
    dollars = [usd for usd in costs if usd is not None]
    return ChatCosts(
        calls=sum(part.calls for part in parts),
        tokens_in=sum(part.tokens_in for part in parts),
        tokens_out=sum(part.tokens_out for part in parts),
        usd=math.fsum(dollars) if costs and len(dollars) == len(costs) else None,
        lost_usd=math.fsum(part.lost_usd for part in parts),
    )


def counted_usd(spending: ChatCosts) -> float:
    """The USD that count against the limit."""
    return (spending.usd or 0.0) + spending.lost_usd
