"""Calls that cannot mean anything are refused in one line, before anything is opened or written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agent
from agent.llm.client import ChatClient
from agent.llm.profiles import ModelProfile
from agent.run.records import Settings
from agent.session.options import AskOptions
from agent.session.request import checked
from core_model.errors import UsageError

CHAT: dict[str, Any] = {"model": "openai:gpt-5"}


@pytest.mark.parametrize(
    ("question", "options", "says"),
    [
        ("", {}, "empty"),
        (" \n\t", {}, "empty"),
        ("x" * 10_001, {}, "10,001 characters"),
        ("grade\udcff?", {}, "not valid UTF-8"),
        ("grade?", {"options": ["a", "b\udcff"]}, "not valid UTF-8"),
        ("grade?", {"options": ["yes"]}, "nothing to choose"),
        ("grade?", {"options": ["yes", "no", "yes"]}, "'yes' is given twice"),
        ("grade?", {"options": ["Yes", " yes "]}, "twice"),
        ("grade?", {"options": ["yes", " "]}, "option is empty"),
        ("grade?", {"options": ["yes", "n" * 1001]}, "too long"),
        ("grade?", {"max_steps": 0}, "0 steps"),
        ("grade?", {"max_steps": -3}, "-3 steps"),
        ("grade?", {"mpp": 0.0}, "µm/px"),
        ("grade?", {"mpp": 25.0}, "µm/px"),
        ("grade?", {"mpp": float("nan")}, "µm/px"),
        ("grade?", {"max_cost": -1.0}, "spending limit"),
        ("grade?", {"mode": "thumbnail"}, "It has agent, slide, patches"),
        ("grade?", {"mode": "joint"}, "It has agent, slide, patches"),
        ("grade?", {"mode": "patches", "patch_px": 100}, "Give --patches alone"),
        ("grade?", {"mode": "patches", "max_steps": 3}, "Leave out --max-steps"),
        ("grade?", {"patches": 3}, "no patches to choose"),
        ("grade?", {"mode": "patches", "patches": 0}, "above 0"),
        ("grade?", {"mode": "patches", "patches": 501}, "at most 500"),
        ("grade?", {"navigator": "telepathy"}, "search or chat"),
        ("grade?", {"navigator": "chat"}, "--model provider:name"),
        ("grade?", {"navigator": "chat", "model": "openai:"}, "--model provider:name"),
        ("grade?", {"base_url": "http://127.0.0.1:1"}, "--base-url is for chat models"),
        ("grade?", {"profile": "giant"}, "--profile is for chat models"),
        ("grade?", {"prices": "prices.json"}, "--prices is for chat models"),
        ("grade?", {"slide_model": "folder"}, "--slide-model is for chat models"),
        ("grade?", {**CHAT, "navigator": "search"}, "Leave out --navigator search"),
        ("grade?", {**CHAT, "mode": "slide"}, "no mode 'slide'"),
        ("grade?", {**CHAT, "mode": "guess"}, "thumbnail, patches, joint, blind"),
        ("grade?", {**CHAT, "mode": "joint", "patch_mpp": -1.0}, "above 0"),
        ("grade?", {**CHAT, "profile": "guess"}, "survey or giant"),
        ("grade?", {**CHAT, "base_url": "ftp://host"}, "not an http address"),
        ("grade?", {**CHAT, "base_url": "http://"}, "not an http address"),
        ("grade?", {**CHAT, "base_url": "http://[::1"}, "not an http address"),
        ("grade?", {**CHAT, "base_url": "http://host:99999"}, "not an http address"),
        ("grade?", {**CHAT, "max_steps": 0}, "0 steps"),
        ("grade?", {"votes": 0}, "0 votes"),
        ("grade?", {"index": "nowhere"}, "no index of a cohort"),
        ("grade?", {"index": "nowhere", "mode": "slide"}, "Leave out --index"),
        ("grade?", {**CHAT, "index": "nowhere", "profile": "giant"}, "Leave out --index"),
        ("grade?", {"votes": 3, "mode": "slide"}, "every vote"),
    ],
)
def test_refused(
    question: str, options: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=says) as refused:
        agent.stream(tmp_path / "absent.svs", question, **options)  # at once, not when iterated
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["me:hunter2@host", "me@host", "host/v1?key=hunter2", "host/v1#hunter2"])
def test_a_url_with_a_secret_in_it_is_refused_and_not_repeated(where: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="environment") as refused:
        agent.stream(tmp_path / "absent.svs", "grade?", **CHAT, base_url=f"https://{where}")
    assert "hunter2" not in str(refused.value)


def test_an_open_chat_model_keeps_its_server_and_price(tmp_path: Path) -> None:
    client = ChatClient("openai:x", ModelProfile())
    for more in ({"base_url": "http://127.0.0.1:1"}, {"prices": "prices.json"}):
        with pytest.raises(UsageError, match="open_chat"):
            agent.stream(tmp_path / "absent.svs", "grade?", model=client, **more)  # type: ignore[arg-type]


def test_settings_follow_the_model() -> None:
    def settings(**given: Any) -> Settings:
        return checked("a.svs", "grade?", AskOptions(**given)).settings

    local, survey, giant = settings(), settings(**CHAT), settings(**CHAT, profile="giant", votes=5)
    assert (local.navigator, local.profile, local.max_steps) == ("search", None, 16)
    assert (survey.navigator, survey.profile, survey.max_steps) == ("chat", "survey", 20)
    assert (giant.navigator, giant.profile, giant.max_steps, giant.votes) == ("chat", "giant", 20, 5)
    assert settings(**CHAT, max_steps=7, base_url="http://127.0.0.1:8000/v1").max_steps == 7


def test_settings_of_runs_made_before_chat_models_are_those_of_today() -> None:
    before = {
        "mode": "agent",
        "navigator": "search",
        "max_steps": 16,
        "max_cost": None,
        "mpp": 0.5,
        "bits": None,
    }
    assert Settings.model_validate(before) == Settings(
        mode="agent", navigator="search", max_steps=16, mpp=0.5
    )
