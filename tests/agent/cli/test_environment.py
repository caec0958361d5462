"""Settings of the environment, and users without a home: what is wrong with them is one line."""

from __future__ import annotations

import pwd
import re
from pathlib import Path

import pytest
from cli_fakes import PaintModel, giant, one_line, only_json, paint

ROOT = Path(__file__).resolve().parents[3]
KNOWN = {
    "GIANT_CACHE", "GIANT_PRICES", "GIANT_PROFILES", "GIANT_TIMEOUT", "GIANT_GIGAPATH", "GIANT_SIGHT_CHECK",
    "GIANT_DICOMWEB_TOKEN",
}  # fmt: skip
"""Our own variables; each has a test here, or one beside what it sets."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("core_model.models.wsi_llava.load_model", lambda *_, **__: PaintModel())
    paint(tmp_path / "a.png")


def ask(*more: object) -> object:
    return giant("ask", "a.png", "Which?", "--option", "purple", "--option", "pink", "--mpp", "2", *more)


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user id that no file of users lists, and no HOME."""

    def nobody(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_gives_a_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert only_json(ask("--json"))["choice"] == "purple"
    monkeypatch.delenv("GIANT_CACHE")
    line = one_line(ask())
    assert "no home folder" in line
    assert "GIANT_CACHE" in line
    assert not (tmp_path / "~").exists()


@pytest.mark.usefixtures("homeless")
def test_the_doctor_says_what_a_user_without_a_home_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.cli import doctor

    monkeypatch.delenv("GIANT_CACHE")
    status, message, fix = doctor._cache()
    assert (status, "no home folder" in message, "GIANT_CACHE" in (fix or "")) == ("failed", True, True)


@pytest.mark.parametrize("place", ["~nobody-of-this-name/x", "~nobody-of-this-name"])
def test_the_home_of_somebody_who_is_not_there(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    assert "--out" in one_line(ask("--out", place))
    assert "home folder" in one_line(giant("replay", place))
    monkeypatch.setenv("GIANT_CACHE", place)
    assert "GIANT_CACHE" in one_line(ask())


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GIANT_PRICES", "nowhere.json"),
        ("GIANT_PROFILES", "nowhere.json"),
        ("GIANT_TIMEOUT", "soon"),
        ("OPENAI_BASE_URL", "http://host:port"),
        ("HTTPS_PROXY", "htp://proxy"),
        ("SSL_CERT_FILE", "nowhere.pem"),
    ],
)
def test_a_wrong_setting_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    monkeypatch.setenv(variable, value)
    line = one_line(ask("--model", "openai:gpt-4o"))
    assert variable in line


@pytest.mark.parametrize("variable", ["WORLD_SIZE"])
def test_a_place_among_processes_is_a_number(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    from core_model.errors import UsageError
    from training.engine import ranks

    monkeypatch.setenv(variable, "two")
    with pytest.raises(UsageError, match=f"{variable} is two"):
        ranks.join()


def test_every_variable_of_ours_is_known() -> None:
    """A new setting of the environment is checked like an option: add it here with its test."""
    found = set()
    for folder in ("agent", "core_model", "tools", "eval", "training"):
        for path in (ROOT / folder).rglob("*.py"):
            found |= set(re.findall(r"\"(GIANT_[A-Z_]+)\"", path.read_text(encoding="utf-8")))
    assert found <= KNOWN
