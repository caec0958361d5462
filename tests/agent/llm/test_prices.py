"""Prices by name, the user's table, and the law that no run costs more than its limit."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage

from agent.llm.client import ChatClient, OverBudget, open_chat
from agent.llm.prices import OVERRIDES, Price, listed_prices, price_for
from agent.llm.profiles import ModelProfile
from agent.llm.request import ChatRequest
from agent.run.journal import Journal
from core_model.errors import ProviderError, UsageError


@pytest.fixture(autouse=True)
def _no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GIANT_PRICES", raising=False)


def usd(name: str, **options: Any) -> tuple[float, float] | None:
    price = price_for(name, **options)
    return None if price is None else (price.input, price.output)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("openai:gpt-5", (1.25, 10)),
        ("openai:gpt-5-2025-08-07", (1.25, 10)),
        ("openai:gpt-5-mini-2025-08-07", (0.25, 2)),
        ("anthropic:claude-opus-4-5-20251101", (5, 25)),
        ("google:gemini-3.1-pro-preview", (2, 12)),
        ("google_genai:gemini-2.5-flash-preview-09-2025", (0.3, 2.5)),
        ("openai:gpt-5-search", None),
        ("openai:gpt-5.7", None),
        ("anthropic:claude-opus-5-9", None),
        ("openai:gpt-50", None),
    ],
)
def test_a_dated_name_costs_what_its_family_does(name: str, known: tuple[float, float] | None) -> None:
    assert usd(name) == known


TODAY = date(2026, 11, 28)


def test_every_listed_price_is_one() -> None:
    table = listed_prices(TODAY)
    assert len(table) > 200
    for price in table.values():
        for rates in (price, *price.tiers):
            assert 0 < rates.input < 1000
            assert 0 < rates.output < 2000
            assert rates.cached is None or rates.cached <= rates.input
        assert [tier.above for tier in price.tiers] == sorted({tier.above for tier in price.tiers})


def test_a_long_request_pays_the_price_of_its_length() -> None:
    price = listed_prices(TODAY)["anthropic:claude-sonnet-4-5"]
    assert price.usd(200_000, 1000) == pytest.approx((200_000 * 3 + 1000 * 15) / 1e6)
    assert price.usd(200_001, 1000) == pytest.approx((200_001 * 6 + 1000 * 22.5) / 1e6)
    assert price.usd(300_000, 0, 100_000) == pytest.approx((200_000 * 6 + 100_000 * 0.6) / 1e6)


def test_input_that_fills_a_cache_unasked_costs_what_filling_it_does() -> None:
    table = listed_prices(TODAY)
    assert (table["openai:gpt-6-sol"].input, table["openai:gpt-6-sol"].tiers[0].input) == (2.5, 5.0)
    assert table["anthropic:claude-opus-5"].input == 5.0  # filled on demand only, and we never demand it


def test_of_prices_now_and_announced_the_higher_counts() -> None:
    name = "google:gemini-4-argon"
    assert [listed_prices(day)[name].input for day in (date(2026, 11, 1), date(2026, 12, 2))] == [4.0, 4.0]
    assert listed_prices(date(2026, 11, 1))["google:gemini-3.8-flash"].output == 7.5
    assert listed_prices(TODAY)["openai:o3"].input == 2.0  # ten times as much is history


def test_a_listed_price_is_never_below_the_librarys_own() -> None:
    from genai_prices import Usage, calc_price

    now = datetime(2026, 11, 28, tzinfo=UTC)
    table = listed_prices(TODAY)
    usages = [(10_000, 500, 0), (150_000, 500, 0), (240_000, 900, 0), (900_000, 4000, 100_000)]
    for name in table.keys() - OVERRIDES.keys():
        provider, model = name.split(":", 1)
        for tokens_in, tokens_out, cached in usages:
            usage = Usage(input_tokens=tokens_in, output_tokens=tokens_out, cache_read_tokens=cached)
            price = calc_price(usage, model, provider_id=provider, genai_request_timestamp=now)
            ours = table[name].usd(tokens_in, tokens_out, cached)
            assert ours >= float(price.input_price + price.output_price) - 1e-9, name


def test_an_override_is_only_there_for_what_the_library_lacks() -> None:
    from genai_prices import Usage, calc_price

    for name in OVERRIDES:
        provider, model = name.split(":", 1)
        with pytest.raises(LookupError):
            calc_price(Usage(input_tokens=1), model, provider_id=provider)
        assert listed_prices(TODAY)[name].input == listed_prices(TODAY)[f"{name}-preview"].input


def test_prices_are_looked_up_without_network() -> None:
    code = (
        "import socket, threading\n"
        "def refuse(*args, **more): raise AssertionError('the network was used')\n"
        "socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse\n"
        "from agent.llm.prices import price_for\n"
        "assert price_for('openai:gpt-5').input == 1.25\n"
        "assert threading.active_count() == 1, threading.enumerate()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_server_of_ones_own_has_no_price_in_the_list(tmp_path: Path) -> None:
    table = _table(tmp_path, {"openai:gpt-5": {"in": 0, "out": 0}})
    assert usd("openai:gpt-5", own_server=True) is None
    assert usd("openai:gpt-5", own_server=True, prices=table) == (0, 0)


def test_the_users_table_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = _table(tmp_path, {"openai:gpt-5": {"in": 1, "out": 2, "cached": 0.5}})
    assert usd("openai:gpt-5-2025-08-07", prices=table) == (1, 2)
    assert usd("openai:gpt-5-mini", prices=table) == (0.25, 2)
    monkeypatch.setenv("GIANT_PRICES", str(table))
    assert usd("openai:gpt-5") == (1, 2)
    other = tmp_path / "other.json"
    other.write_text('{"openai:gpt-5": {"in": 3, "out": 4}}')
    assert usd("openai:gpt-5", prices=other) == (3, 4)


def _table(folder: Path, table: dict[str, Any]) -> Path:
    path = folder / "prices.json"
    path.write_text(json.dumps(table))
    return path


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"openai:mine": {"in": 1}}, "openai:mine.out"),
        ({"openai:mine": {"in": -1, "out": 2}}, "openai:mine.in"),
        ({"openai:mine": {"in": "cheap", "out": 2}}, "openai:mine.in"),
        ({"openai:mine": {"in": 1, "out": 2, "per": "token"}}, "openai:mine.per"),
        ({"openai:mine": {"in": 1, "out": 2, "tiers": [{"in": 2, "out": 4}]}}, "openai:mine.tiers.0.above"),
    ],
)
def test_mistakes_in_a_table_are_named(tmp_path: Path, table: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        price_for("openai:mine", prices=_table(tmp_path, table))
    assert says in str(caught.value)
    assert "prices.json" in str(caught.value)


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.json"):
        price_for("openai:gpt-5", prices=tmp_path / "none.json")


def test_a_limit_needs_a_price(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--prices FILE"):
        open_chat("openai:mine", base_url="http://127.0.0.1:1/v1", max_cost=1.0)
    free = _table(tmp_path, {"openai:mine": {"in": 0, "out": 0}})
    open_chat("openai:mine", base_url="http://127.0.0.1:1/v1", max_cost=1.0, prices=free)


def test_cached_input_costs_less() -> None:
    price = Price.model_validate({"in": 10, "out": 20, "cached": 1})
    assert price.usd(1_000_000, 0, 400_000) == pytest.approx(6.4)
    assert price.usd(1_000_000, 0, 9_000_000) == pytest.approx(1.0)
    assert Price.model_validate({"in": 10, "out": 20}).usd(1_000_000, 0, 400_000) == pytest.approx(10)


def test_a_users_table_may_have_tiers(tmp_path: Path) -> None:
    tiers = [{"above": 1000, "in": 2, "out": 1}, {"above": 2000, "in": 3, "out": 5, "cached": 1}]
    table = _table(tmp_path, {"openai:mine": {"in": 1, "out": 2, "cached": 0.5, "tiers": tiers}})
    price = price_for("openai:mine", prices=table)
    assert price is not None
    assert price.usd(1000, 0, 500) == pytest.approx((500 * 1 + 500 * 0.5) / 1e6)
    assert price.usd(1500, 100, 500) == pytest.approx((1500 * 2 + 100 * 2) / 1e6)  # never below a shorter one
    assert price.usd(2500, 100) == pytest.approx((2500 * 3 + 100 * 5) / 1e6)


@given(
    name=st.sampled_from(sorted(listed_prices(TODAY))),
    tokens_in=st.integers(0, 400_000),
    tokens_out=st.integers(0, 30_000),
    more=st.integers(0, 400_000),
)
def test_more_tokens_never_cost_less(name: str, tokens_in: int, tokens_out: int, more: int) -> None:
    price = listed_prices(TODAY)[name]
    assert price.usd(tokens_in + more, tokens_out) >= price.usd(tokens_in, tokens_out)


@dataclass
class FakeLine:
    """Takes a share of what was estimated for each call, or breaks off after working for nothing."""

    replies: list[tuple[float, float, bool]]
    price: Price
    profile: ModelProfile
    cost: float = 0.0
    """What the provider charges in truth."""
    before: list[float] = field(default_factory=list)
    """The cost before each call."""

    def send(self, messages: Any, tools: Any, force: str | None, idempotency_key: str) -> AIMessage:
        share_in, share_out, lost = self.replies[len(self.before) % len(self.replies)]
        self.before.append(self.cost)
        tokens_in = int(share_in * ChatRequest("openai:x", self.profile, messages, tools, force).tokens_in)
        tokens_out = int(share_out * self.profile.max_tokens)
        self.cost += self.price.usd(tokens_in, tokens_out)
        if lost:
            raise httpx.ReadError("the connection broke")
        usage = {
            "input_tokens": tokens_in,
            "output_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
        }
        return AIMessage("Go on.", usage_metadata=usage)  # type: ignore[arg-type]


def run(line: FakeLine, max_cost: float, calls: int) -> None:
    """As many calls as the limit allows, the last of them marked as the last."""
    client = ChatClient("openai:x", line.profile, max_cost, lambda wait: None, line.price, line)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        for number in range(calls):
            messages = [HumanMessage("What is it? " * (number + 1))]
            try:
                client.ask(journal, "run", f"{number:03d}", messages, [], last=number == calls - 1)
            except (OverBudget, ProviderError):
                break
        spent = client.spent(journal)
        assert (spent.usd or 0.0) + spent.lost_usd >= line.cost - 1e-9


SHARES = st.floats(0.01, 1.0)
PRICES = st.builds(
    lambda usd_in, usd_out: Price.model_validate({"in": usd_in, "out": usd_out}),
    st.floats(0.0, 50.0),
    st.floats(0.0, 200.0),
)
PROFILES = st.builds(ModelProfile, max_tokens=st.integers(1, 20_000))


def lines(*reply: st.SearchStrategy[Any]) -> st.SearchStrategy[FakeLine]:
    """Lines whose replies are such triples of shares and loss."""
    return st.builds(FakeLine, st.lists(st.tuples(*reply), min_size=1, max_size=8), PRICES, PROFILES)


@settings(max_examples=60, deadline=None)
@given(line=lines(SHARES, SHARES, st.booleans()), max_cost=st.floats(0.0, 5.0))
def test_no_run_costs_more_than_its_limit(line: FakeLine, max_cost: float) -> None:
    run(line, max_cost, calls=6)
    assert line.cost <= max_cost + 1e-9


@settings(max_examples=40, deadline=None)
@given(line=lines(st.floats(0.01, 50.0), SHARES, st.just(False)), max_cost=st.floats(0.0, 5.0))
def test_a_server_that_takes_more_than_estimated_is_not_asked_beyond_the_limit(
    line: FakeLine, max_cost: float
) -> None:
    run(line, max_cost, calls=6)
    assert all(cost <= max_cost for cost in line.before)
