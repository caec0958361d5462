"""What is known of chat models by their names, and what a user may change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.llm.profiles import UNKNOWN, ModelProfile, profile_for
from core_model.errors import UsageError


@pytest.fixture(autouse=True)
def _no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GIANT_PROFILES", raising=False)


FAMILIES = {
    ("level0", 1): (
        *("openai:gpt-5-2025-08-07", "openai:gpt-6-sol", "openai:o4-mini", "openai:gpt-4o"),
        *("anthropic:claude-sonnet-4-5", "openai:anthropic/claude-opus-4.5"),
    ),
    ("relative", 1): ("google:gemini-2.5-pro", "google_genai:gemini-3-flash-preview"),
    ("resized", 28): ("openai:Qwen/Qwen2.5-VL-7B-Instruct",),
    ("relative", 28): ("openai:Qwen/Qwen2-VL-2B",),
    ("relative", 32): (
        *("openai:Qwen/Qwen3-VL-8B-Instruct", "openai:qwen3.6-35b", "openai:/models/my-qwen3-vl-tuned/"),
    ),
}
"""Names of models by their kind of boxes, and the number that the sides of images are multiples of."""


@pytest.mark.parametrize(
    ("name", "boxes", "multiple"),
    [(name, *expected) for expected, names in FAMILIES.items() for name in names],
)
def test_boxes_go_by_the_family(name: str, boxes: str, multiple: int) -> None:
    profile = profile_for(name)
    assert (profile.boxes, profile.image_multiple) == (boxes, multiple)
    assert profile != UNKNOWN


@pytest.mark.parametrize(
    "name", ["openai:llava-1.5-7b", "openai:/home/me/gpt-5/model", "openai:audio3", "openai:x"]
)
def test_other_models_are_asked_for_little(name: str) -> None:
    profile = profile_for(name)
    assert profile == UNKNOWN
    assert (profile.boxes, profile.images) == ("level0", "user")
    assert not profile.tool_choice
    assert not profile.parallel_calls


def test_images_stand_in_user_messages_everywhere() -> None:
    names = ("openai:gpt-5", "anthropic:claude-opus-5", "google:gemini-3-flash", "openai:qwen3-vl")
    assert {profile_for(name).images for name in names} == {"user"}


def test_models_that_always_think_are_not_forced() -> None:
    assert profile_for("anthropic:claude-sonnet-4-6").tool_choice
    assert profile_for("anthropic:claude-3-5-sonnet-20241022").tool_choice
    assert not profile_for("anthropic:claude-opus-5-5").tool_choice


def _file(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path = folder / "profiles.json"
    path.write_text(text)
    monkeypatch.setenv("GIANT_PROFILES", str(path))


def test_a_user_changes_single_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _file(tmp_path, monkeypatch, json.dumps({"openai:mine": {"boxes": "relative", "max_images": 3}}))
    profile = profile_for("openai:mine")
    assert (profile.boxes, profile.max_images) == ("relative", 3)
    assert profile.max_tokens == UNKNOWN.max_tokens
    assert isinstance(profile, ModelProfile)
    assert profile_for("openai:other") == UNKNOWN


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"openai:mine": {"boxes": "thousandths"}}', "openai:mine is wrong at boxes"),
        ('{"openai:mine": {"max_tokens": 0}}', "openai:mine is wrong at max_tokens"),
        ('{"openai:mine": {"max_tokens": "many"}}', "openai:mine is wrong at max_tokens"),
        ('{"openai:mine": {"tool_choice": 1}}', "openai:mine is wrong at tool_choice"),
        ('{"openai:mine": {"box": "relative"}}', "'box', which is no field"),
        ('{"openai:mine": "relative"}', "'relative', which is no field"),
        ('["openai:mine"]', "no JSON object"),
        ("{", "cannot be read"),
    ],
)
def test_mistakes_in_the_file_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    _file(tmp_path, monkeypatch, text)
    with pytest.raises(UsageError) as caught:
        profile_for("openai:mine")
    assert says in str(caught.value)
    assert "GIANT_PROFILES" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIANT_PROFILES", str(tmp_path / "none.json"))
    with pytest.raises(UsageError, match=r"none\.json"):
        profile_for("openai:gpt-5")
