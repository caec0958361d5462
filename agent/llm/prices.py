"""What calls to chat models cost: US dollars per million tokens, in and out.

Prices change, and differ by contract: the list below is what the providers' price lists (or public copies of
them) said by the date below, for the standard service and requests of less than 100,000 tokens. Models whose
price was not seen are not in it. A user's own table comes first:

    {"openai:gpt-5": {"in": 1.25, "out": 10}, "openai:my-model": {"in": 0, "out": 0}}
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from core_model.errors import UsageError
from core_model.records import Record

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


def _price(usd_in: float, usd_out: float, cached: float | None = None) -> Price:
    return Price.model_validate({"in": usd_in, "out": usd_out, "cached": cached})


LIST: dict[str, Price] = {
    "openai:gpt-6-astra": _price(10, 50, 1),
    "openai:gpt-6-sol": _price(2, 10, 0.2),
    "openai:gpt-6-luna": _price(0.1, 0.5, 0.01),
    "openai:gpt-6.1-sol": _price(2, 10, 0.1),
    "openai:gpt-6.1-terra": _price(1, 5, 0.05),
    "openai:gpt-5.6-terra": _price(2, 12, 0.2),
    "openai:gpt-5.6-luna": _price(0.2, 1.2, 0.02),
    "openai:gpt-5.5": _price(5, 30, 0.5),
    "openai:gpt-5.5-pro": _price(30, 180),
    "openai:gpt-5.4": _price(2.5, 15, 0.25),
    "openai:gpt-5.4-mini": _price(0.75, 4.5, 0.075),
    "openai:gpt-5.4-nano": _price(0.2, 1.25, 0.02),
    "openai:gpt-5.2": _price(1.75, 14, 0.175),
    "openai:gpt-5.1": _price(1.25, 10),
    "openai:gpt-5": _price(1.25, 10, 0.125),
    "openai:gpt-5-mini": _price(0.25, 2, 0.025),
    "openai:gpt-5-nano": _price(0.05, 0.4),
    "openai:gpt-5-pro": _price(15, 120),
    "openai:gpt-4o-mini": _price(0.15, 0.6, 0.075),
    "anthropic:claude-fable-5-1": _price(10, 50, 0.25),
    "anthropic:claude-fable-5": _price(10, 50, 1),
    "anthropic:claude-opus-5-5": _price(4, 20, 0.2),
    "anthropic:claude-opus-5": _price(5, 25, 0.5),
    "anthropic:claude-opus-4-7": _price(5, 25, 0.5),
    "anthropic:claude-opus-4-6": _price(5, 25, 0.5),
    "anthropic:claude-opus-4-5": _price(5, 25, 0.5),
    "anthropic:claude-opus-4-1": _price(15, 75, 1.5),
    "anthropic:claude-sonnet-5-5": _price(2, 10, 0.1),
    "anthropic:claude-sonnet-5": _price(2, 10, 0.2),
    "anthropic:claude-sonnet-4-6": _price(3, 15, 0.3),
    "anthropic:claude-sonnet-4-5": _price(3, 15, 0.3),
    "anthropic:claude-haiku-5-5": _price(0.1, 0.5, 0.01),
    "anthropic:claude-haiku-4-5": _price(1, 5, 0.1),
    "google:gemini-3.8-flash": _price(1.5, 7.5),  # half of it until the end of 2026
    "google:gemini-3.5-flash": _price(1.5, 9, 0.15),
    "google:gemini-3.5-flash-lite": _price(0.3, 2.5),
    "google:gemini-3.1-pro": _price(2, 12),
    "google:gemini-3.1-flash-lite": _price(0.25, 1.5),
    "google:gemini-3-flash": _price(0.5, 3),
    "google:gemini-2.5-pro": _price(1.25, 10),
    "google:gemini-2.5-flash": _price(0.3, 2.5),
    "google:gemini-2.5-flash-lite": _price(0.1, 0.4),
}

_DATED = re.compile(r"(?:-(?:\d{4}-\d\d-\d\d|\d{8}|\d\d-\d\d(?:\d\d)?|\d{3}|latest|preview))+")
"""What may follow the name of a family: the date or number of a version. Anything else is another model."""


def price_for(name: str, *, own_server: bool = False, prices: Path | None = None) -> Price | None:
    """The price of `provider:model`; None where nobody knows it.

    `prices` is the user's table, else the file that GIANT_PRICES names. The list of this module counts only
    for the providers' own servers. A dated name costs what its family does: gpt-5-2025-08-07 like gpt-5.
    Raises `UsageError` where the user's table cannot be used.
    """
    named = os.environ.get(VARIABLE)
    path = prices or (Path(named) if named else None)
    name = name.replace("google_genai:", "google:", 1)
    found = _longest(name, _read(path)) if path else None
    if found is None and not own_server:
        found = _longest(name, LIST)
    return found


def _longest(name: str, table: dict[str, Price]) -> Price | None:
    fitting = [
        known
        for known in table
        if name == known or (name.startswith(known) and _DATED.fullmatch(name[len(known) :]))
    ]
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
