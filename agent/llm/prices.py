"""The prices of chat models, in US dollars per million tokens in and out.

Prices come from three places; the first that knows a model counts:

1. the user's own table (`--prices FILE`, or the file that GIANT_PRICES names), as prices differ by contract;
2. `OVERRIDES` below, for what the library lacks;
3. `genai-prices`, whose release 0.2.3 holds the providers' price lists as its authors checked them until
   November 2026. Its table is part of the package: nothing is looked up on the network.

A model that none of them knows has no price. Prices are those of the standard service, and err on the dear
side. Of today's price and one announced for later the higher counts. A request longer than the limit of a
tier pays that tier's price for every token. Cached input costs the full price where no other is known. Where
a provider fills its cache without being asked and charges for it (OpenAI), all other input counts as filling
it. A user's table looks like this (`cached` and `tiers` may be left out):

    {"openai:gpt-5": {"in": 1.25, "out": 10, "cached": 0.125},
     "openai:my-model": {"in": 0, "out": 0, "tiers": [{"above": 200000, "in": 1, "out": 2}]}}
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from core_model.errors import UsageError
from core_model.records import Record

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

VARIABLE = "GIANT_PRICES"
PROVIDERS = ("openai", "anthropic", "google")
"""Providers whose prices are taken from the library; it calls them as we do."""
CACHES_UNASKED = ("openai",)
"""Providers that fill their cache, and charge for it, without being asked to."""

Usd = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TokenRates(Record):
    """US dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    input: Usd = Field(alias="in")
    output: Usd = Field(alias="out")
    cached: Usd | None = None
    """Input that the provider remembered from an earlier request; None: like other input."""


class PriceTier(TokenRates):
    """The rates for every token of a request that is longer than a limit."""

    above: Annotated[int, Field(ge=0)]
    """Tokens of input that the request must exceed."""


class Price(TokenRates):
    """The price of a model: rates for short requests, and those for longer ones."""

    tiers: tuple[PriceTier, ...] = ()

    def usd(self, tokens_in: int, tokens_out: int, cached: int = 0) -> float:
        """The cost of one call in US dollars. `cached` tokens are among `tokens_in`."""
        rates = self._rates(tokens_in)
        cached_in = min(cached, tokens_in) if rates.cached is not None else 0
        dollars = (tokens_in - cached_in) * rates.input + cached_in * (rates.cached or 0.0)
        return (dollars + tokens_out * rates.output) / 1e6

    def _rates(self, tokens_in: int) -> TokenRates:
        """The dearest of the rates that a request of this length has reached."""
        tiers = [tier for tier in self.tiers if tokens_in > tier.above]
        return _dearest([self, *tiers]) if tiers else self


def _dearest(rates: Sequence[TokenRates]) -> TokenRates:
    """The highest of each rate; input from a cache costs the full price where one of them names no other."""
    cached_rates = [rate.cached for rate in rates if rate.cached is not None]
    return TokenRates.model_validate(
        {
            "in": max(rate.input for rate in rates),
            "out": max(rate.output for rate in rates),
            "cached": max(cached_rates) if len(cached_rates) == len(rates) else None,
        }
    )


OVERRIDES: dict[str, Price] = {
    # Names without "-preview", which the library knows with it only.
    "google:gemini-3.1-pro": Price.model_validate(
        {"in": 2, "out": 12, "tiers": [{"above": 200_000, "in": 4, "out": 18}]}
    ),
    "google:gemini-3-flash": Price.model_validate({"in": 0.5, "out": 3}),
}

_DATED = re.compile(r"(?:-(?:\d{4}-\d\d-\d\d|\d{8}|\d\d-\d\d(?:\d\d)?|\d{3}|latest|preview))+")
"""Dates and numbers of versions after the name of a family. Any other ending makes another model."""


def price_for(name: str, *, own_server: bool = False, prices: Path | None = None) -> Price | None:
    """The price of `provider:model`; None where nobody knows it.

    `prices` is the user's table, else the file that GIANT_PRICES names. Listed prices count only for the
    providers' own servers. A dated name costs what its family does: gpt-5-2025-08-07 like gpt-5. Raises
    `UsageError` where the user's table cannot be used.
    """
    variable = os.environ.get(VARIABLE)
    path = prices or (Path(variable) if variable else None)
    name = name.replace("google_genai:", "google:", 1)
    source = str(path) if prices else f"{VARIABLE}={path}"
    price = _longest_match(name, _read_table(path, source)) if path else None
    if price is None and not own_server:
        price = _longest_match(name, listed_prices(datetime.now(UTC).date()))
    return price


@cache
def listed_prices(day: date) -> dict[str, Price]:
    """The prices that count without a user's table: the library's on that day, under `OVERRIDES`."""
    from genai_prices.data import providers

    table: dict[str, Price] = {}
    for provider in providers:
        for model in provider.models if provider.id in PROVIDERS else ():
            price = _library_price(model, provider.id, day)
            if price is not None:
                for name in _names_of(model):  # the first model of a name counts, as in the library
                    table.setdefault(f"{provider.id}:{name}", price)
    return table | OVERRIDES


def _names_of(model: ModelInfo) -> Iterator[str]:
    """The names that the library takes for this model letter by letter; others only look like it."""
    if model.is_match(model.id):
        yield model.id
    clauses: list[Any] = [model.match]
    while clauses:
        clause = clauses.pop()
        clauses += getattr(clause, "or_", [])
        if hasattr(clause, "equals"):
            yield clause.equals


def _library_price(model: ModelInfo, provider: str, day: date) -> Price | None:
    """The dearest of the prices that count on that day or begin later; None for a model without one."""
    prices = [price for price in _prices_since(model, day) if price.input_mtok and price.output_mtok]
    if not prices:
        return None
    tiers = [tier for price in prices for rate in vars(price).values() for tier in getattr(rate, "tiers", ())]
    limits = sorted({tier.start for tier in tiers})
    writes = provider in CACHES_UNASKED
    return Price.model_validate(
        _rates_above(-1, prices, writes)
        | {"tiers": [_rates_above(limit, prices, writes) | {"above": limit} for limit in limits]}
    )


def _prices_since(model: ModelInfo, day: date) -> list[ModelPrice]:
    """The library's prices of a model, but for those that were replaced before that day."""
    if not isinstance(model.prices, list):
        return [model.prices]
    starts = [getattr(price.constraint, "start_date", date.min) for price in model.prices]
    current = max((place for place, start in enumerate(starts) if start <= day), default=0)
    return [
        price.prices
        for place, (price, start) in enumerate(zip(model.prices, starts, strict=True))
        if place == current or start > day or hasattr(price.constraint, "start_time")
    ]


def _rates_above(limit: int, prices: Sequence[ModelPrice], writes: bool) -> dict[str, float | None]:
    """The dearest rates of requests with more tokens of input; `writes` counts what filling a cache costs."""
    inputs = [rate for price in prices for rate in (price.input_mtok, price.input_image_mtok)]
    inputs += [price.cache_write_mtok for price in prices if writes]
    cache_reads = [price.cache_read_mtok for price in prices]
    return {
        "in": _dearest_above(limit, inputs),
        "out": _dearest_above(limit, [price.output_mtok for price in prices]),
        "cached": None if None in cache_reads else _dearest_above(limit, cache_reads),
    }


def _dearest_above(limit: int, rates: Sequence[Decimal | TieredPrices | None]) -> float:
    dollars: list[Decimal] = []
    for rate in rates:
        if isinstance(rate, Decimal):
            dollars.append(rate)
        elif rate is not None:
            dollars += [rate.base, *(tier.price for tier in rate.tiers if tier.start <= limit)]
    return float(max(dollars))


def _longest_match(name: str, table: Mapping[str, Price]) -> Price | None:
    matches = [
        family
        for family in table
        if name == family or (name.startswith(family) and _DATED.fullmatch(name[len(family) :]))
    ]
    return table[max(matches, key=len)] if matches else None


def _read_table(path: Path, source: str) -> dict[str, Price]:
    try:
        return TypeAdapter(dict[str, Price]).validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"the file of prices cannot be read ({error.strerror})", where=source) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"the table of prices is wrong at {'.'.join(str(part) for part in first['loc']) or 'its start'}: "
            f"{first['msg']}",
            where=source,
            fix='Prices are USD per million tokens: {"openai:gpt-5": {"in": 1.25, "out": 10}}',
        ) from error
