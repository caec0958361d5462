"""Runs of a chat model replay too: from the journal alone, without key, network, model or slide."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chat_fakes as chat
import pytest
from langchain_core.messages import AIMessage
from qupath import read_qupath

from agent.graph.control import Control, Said
from agent.replay.follow import follow_again
from agent.run.folder import read_trace
from agent.run.records import Answer
from agent.session import ask as session
from core_model.slides.box import Box
from core_model.slides.slide import open_slide

Ask = Callable[..., chat.Ran]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    return chat.asker(tmp_path, monkeypatch)


def claims(*told: tuple[str, list[int]]) -> list[dict[str, Any]]:
    return [{"text": text, "steps": steps, "against": False, "section": ""} for text, steps in told]


def answered(**more: Any) -> AIMessage:
    return chat.calls(chat.answer(**more))


LOOKS = [
    chat.calls(chat.zoom(100, 100, 200, 200), text="Let me look."),
    chat.calls(chat.zoom(5000, 0, 10, 10), chat.zoom(900, 100, 300, 300)),
    chat.calls(("retrieve", {"text": "pink tissue", "reason": "r"})),
    chat.calls(("ask_region", {"x": 100, "y": 100, "w": 400, "h": 400, "question": "What?", "reason": "r"})),
    chat.calls(("pan", {"direction": "right", "reason": "r"}), chat.zoom(100, 100, 200, 200)),
    AIMessage(content="I think it is pink."),
    chat.calls(("zoom", {"x": "left"})),
]


def assert_same(folder: Path, slide: Path | None = None) -> None:
    found = follow_again(folder, slide)
    assert found.ok, found.first_fault
    if slide is not None:
        for part in found.votes or [found]:
            assert part.regions
            assert part.equal == part.regions


@pytest.mark.parametrize("profile", ["survey", "giant"])
@pytest.mark.parametrize("options", [chat.OPTIONS, None])
def test_a_chat_run_replays(ask: Ask, tmp_path: Path, profile: str, options: list[str] | None) -> None:
    said = claims(("Pink tissue on the left.", [1]), ("No mitoses.", [1]), ("Made up.", [77]))
    way = chat.line(*LOOKS, answered(claims=said), answered(claims=said), chat.verdict())
    ran = ask(way, profile=profile, options=options)
    slide = tmp_path / f"{chat.NAME}.png"
    assert_same(ran.folder, slide)
    slide.unlink()
    moved = shutil.move(ran.folder, tmp_path / "moved")
    assert_same(Path(moved))


def test_a_run_that_ran_out_of_money_replays(ask: Ask) -> None:
    ran = ask(chat.line(*LOOKS, answered(), chat.verdict()), max_cost=0.06)
    assert list((ran.folder / "journal").glob("overbudget-*")), ran.answer.cost
    assert_same(ran.folder)


def test_a_run_that_was_refused_replays(ask: Ask) -> None:
    ran = ask(chat.line(AIMessage(content="", additional_kwargs={"refusal": "I cannot help with this."})))
    assert_same(ran.folder)


def test_a_chat_run_with_a_persons_words_replays(ask: Ask) -> None:
    said = iter([Said(do="hint", text="Look right."), Said(do="look", box=Box(900, 100, 300, 300))])
    control = Control(lambda action, step: next(said, Said(do="accept")))
    ran = ask(chat.line(*LOOKS[:2], *LOOKS[:2], answered(), chat.verdict()), control=control)
    assert_same(ran.folder)


def test_votes_of_a_chat_model_replay(ask: Ask, tmp_path: Path) -> None:
    way = chat.line(*[LOOKS[0], answered(), chat.verdict()] * 3)
    ran = ask(way, votes=3, max_steps=4)
    assert len(list((ran.folder / "votes").iterdir())) == 3
    assert_same(ran.folder, tmp_path / f"{chat.NAME}.png")


@pytest.fixture
def finished(ask: Ask) -> Path:
    return ask(chat.line(LOOKS[0], answered(), chat.verdict()), max_steps=4).folder


def faults(folder: Path) -> str:
    found = follow_again(folder)
    assert not found.ok
    return "\n".join([*found.problems, *(f"{file.file}: {file.differs}" for file in found.files)])


def test_a_reply_that_was_removed_or_changed_is_named(finished: Path) -> None:
    first, *_ = sorted((finished / "journal").glob("chat-*.json"))
    whole = first.read_text()
    first.unlink()
    told = faults(finished)
    assert f"journal/{first.name} is missing" in told
    assert f"the journal of this run has no {first.name}" in told
    first.write_text(whole.replace('"x": 100', '"x": 101'))
    told = faults(finished)
    assert f"journal/{first.name} was changed" in told
    assert "would be zoom" in told


def test_what_was_said_to_the_model_is_part_of_the_record(finished: Path) -> None:
    """A changed observation changes the next request, and no reply is on record for that one."""
    trace = finished / "trace.jsonl"
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    lines[0]["observation"]["text"] = lines[0]["observation"]["text"].replace("Tissue covers", "Covered by")
    trace.write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = faults(finished)
    assert "trace.jsonl line 1 was changed" in told


def test_no_key_and_no_provider_are_needed(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import langchain.chat_models as models

    def refuse(*args: Any, **given: Any) -> Any:
        raise AssertionError("a replay opens no chat model")

    monkeypatch.setattr(models, "init_chat_model", refuse)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert_same(finished)


def test_boxes_of_a_chat_run_open_in_qupath_counted_from_the_bounds(ask: Ask, tmp_path: Path) -> None:
    """MRXS slides say which part was scanned; QuPath shows that part alone."""
    told = claims(("Pink tissue on the left.", [4]), ('Left out " } ] <b>', [1]))
    way = chat.line(LOOKS[0], LOOKS[3], answered(claims=told), answered(claims=told), chat.verdict())
    slide = open_slide(chat.draw_slide(tmp_path / "scan.png"), chat.MPP)
    slide.bounds = Box(80, 60, 1400, 1100)
    given = {
        "options": chat.OPTIONS,
        "slide_model": chat.SlideModel(),
        "out": tmp_path / "out",
        "max_steps": 6,
    }
    *_, done = session.stream(slide, chat.QUESTION, model=chat.client(way), **given)
    assert isinstance(done, Answer)
    found = read_qupath(tmp_path / "out" / "evidence.geojson", 1400, 1100)
    steps = read_trace(tmp_path / "out")
    boxes = {f"step {step.index}": step.observation.box for step in steps if step.observation.box}
    assert len(found) >= 4
    for feature in found:
        box = boxes[feature["properties"]["name"]]
        assert feature["geometry"]["coordinates"][0][0] == [box.x - 80, box.y - 60]
    assert any(feature["properties"]["classification"]["name"] == "evidence" for feature in found)
    assert_same(tmp_path / "out")
