"""What calls to chat models cost: US dollars per million tokens, in and out.

Prices change, and differ by contract. The table is what the providers' lists said on the date below, for the
standard service and short requests; a user's own table comes first:

    {"openai:gpt-5": {"in": 1.25, "out": 10}, "openai:my-model": {"in": 0, "out": 0}}
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from agent.records import Record
from core_model.errors import UsageError

VARIABLE = "GIANT_PRICES"
AS_OF = "2026-11-20"

Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Price(Record):
    """US dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    input: Usd = Field(alias="in")
    output: Usd = Field(alias="out")
    cached: Usd | None = None
    """Input that the provider remembered from an earlier request; None: like other input."""

    def usd(self, tokens_in: int, tokens_out: int, cached: int = 0) -> float:
        """What a call costs. `cached` tokens are among `tokens_in`."""
        cached = min(cached, tokens_in) if self.cached is not None else 0
        paid = (tokens_in - cached) * self.input + cached * (self.cached or 0.0) + tokens_out * self.output
        return paid / 1e6


LIST: dict[str, Price] = {}


def price_for(name: str, *, own_server: bool = False, prices: Path | None = None) -> Price | None:
    """The price of `provider:model`; None where nobody knows it.

    `prices` is the user's table, else the file that GIANT_PRICES names. The list of this module counts only
    for the providers' own servers. A name matches its family at a dash: gpt-5-2025-08-07 costs what gpt-5
    does. Raises `UsageError` where the user's table cannot be used.
    """
    named = os.environ.get(VARIABLE)
    path = prices or (Path(named) if named else None)
    found = _longest(name, _read(path)) if path else None
    if found is None and not own_server:
        found = _longest(name, LIST)
    return found


def _longest(name: str, table: dict[str, Price]) -> Price | None:
    fitting = [known for known in table if name == known or name.startswith(f"{known}-")]
    return table[max(fitting, key=len)] if fitting else None


def _read(path: Path) -> dict[str, Price]:
    try:
        return TypeAdapter(dict[str, Price]).validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror})", where=path) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"{'.'.join(str(part) for part in first['loc']) or 'the table'}: {first['msg']}",
            where=path,
            fix='Prices are USD per million tokens: {"openai:gpt-5": {"in": 1.25, "out": 10}}',
        ) from error
