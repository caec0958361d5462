"""A model that sees reads a drawn number; one whose server drops the images cannot, and is found out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import chat_fakes as chat
import chat_server as server
import pytest
from played_servers import Played

from agent.chat.sight import QUESTION, drawn_number, number_image
from agent.llm.client import open_chat
from agent.replay.follow import follow_again
from agent.run.records import Answer
from agent.session import ask as session
from core_model.errors import ProviderError, UsageError

Reader = Callable[[dict[str, Any]], server.Served]


class Sighted(Played):
    """A model that does as it is told, and answers the check of its sight by `read`."""

    def __init__(self, read: Reader) -> None:
        super().__init__()
        self.read, self.checks = read, 0

    def __call__(self, request: dict[str, Any], number: int) -> server.Served:
        if QUESTION not in server.text_of(request):
            return super().__call__(request, number)
        self.checks += 1
        return self.read(request)


def eyes(request: dict[str, Any]) -> server.Served:
    """Finds the number by its pixels, among those that any run could draw."""
    (image,) = server.images_of(request)
    number = next(number for number in NUMBERS if number_image(number) == image)
    return server.say(f"<think>1234?</think> It is {number[:2]} {number[2:]}.")


NUMBERS: list[str] = []


@pytest.fixture
def run_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    chat.bind_tools(monkeypatch)
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    slide = chat.draw_slide(tmp_path / f"{chat.NAME}.png")

    def run(at: server.ChatServer, **more: Any) -> Answer:
        opened = open_chat("openai:gpt-4o", base_url=at.url, prices=more.pop("prices", None))
        model = replace(opened, profile=replace(opened.profile, max_image_px=chat.PX))
        given = {"options": chat.OPTIONS, "max_steps": 6, "out": tmp_path / "run", "sight_check": True} | more
        items = list(
            session.stream(
                slide, chat.QUESTION, mpp=chat.MPP, model=model, slide_model=chat.SlideModel(), **given
            )
        )
        assert isinstance(items[-1], Answer)
        return items[-1]

    return run


@pytest.fixture(autouse=True)
def _known_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The played eyes know what may be drawn: the numbers of runs whose id is known."""
    import uuid

    ids = [uuid.UUID(int=number) for number in range(9)]
    NUMBERS[:] = [drawn_number(ident.hex, attempt) for ident in ids for attempt in range(2)]
    monkeypatch.setattr(uuid, "uuid4", iter(ids).__next__)


def test_a_model_that_sees_is_asked_once_and_remembered(
    run_at: Callable[..., Answer], tmp_path: Path
) -> None:
    script = Sighted(eyes)
    with server.ChatServer(script) as at:
        answer = run_at(at)
        assert (answer.choice, answer.cost.calls) == ("pink tissue", 4)
        assert "sees" not in (answer.reason or "")
        run_at(at, out=tmp_path / "again")
    assert script.checks == 1
    assert json.loads((tmp_path / "again" / "journal" / "sight-000.json").read_text())["value"]["remembered"]
    for folder in ("run", "again"):
        again = follow_again(tmp_path / folder)
        assert (again.problems, [file.file for file in again.files if file.differs]) == ([], [])


@pytest.mark.parametrize("words", ["I cannot see any image.", "The number is 1234."])
def test_a_blind_model_is_refused_before_it_looks(
    run_at: Callable[..., Answer], tmp_path: Path, words: str
) -> None:
    script = Sighted(lambda request: server.say(words))
    with server.ChatServer(script) as at:
        with pytest.raises(ProviderError, match="it does not see images: shown the number"):
            run_at(at)
        assert not script.answered
        script.read = eyes  # its image processor is there now
        assert run_at(at, resume=True).choice == "pink tissue"
    assert script.checks == 2
    assert follow_again(tmp_path / "run").problems == []


def test_a_reply_that_is_no_answer_is_said_in_the_answer(
    run_at: Callable[..., Answer], tmp_path: Path
) -> None:
    with server.ChatServer(Sighted(lambda request: server.calls(chat.zoom(1, 2, 3, 4)))) as at:
        answer = run_at(at)
    assert answer.choice == "pink tissue"
    assert "Whether the model sees images could not be tested" in (answer.reason or "")
    again = follow_again(tmp_path / "run")
    assert (again.problems, [file.file for file in again.files if file.differs]) == ([], [])


def test_without_money_for_the_check_the_run_ends_as_any_other(
    run_at: Callable[..., Answer], tmp_path: Path
) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"openai:gpt-4o": {"in": 1.0, "out": 10.0}}))
    with server.ChatServer(Sighted(eyes)) as at:
        answer = run_at(at, prices=prices, max_cost=0.0)
        assert not at.requests
    assert answer.abstained
    assert "The spending limit of $0 is reached" in str(answer.reason)
    assert "the spending limit has no room for it" in str(answer.reason)
    again = follow_again(tmp_path / "run")
    assert (again.problems, [file.file for file in again.files if file.differs]) == ([], [])


def test_the_check_can_be_left_out(run_at: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    script = Sighted(eyes)
    with server.ChatServer(script) as at:
        run_at(at, sight_check=False)
        monkeypatch.setenv("GIANT_SIGHT_CHECK", "perhaps")
        with pytest.raises(UsageError, match="GIANT_SIGHT_CHECK"):
            run_at(at, sight_check=None)
    assert script.checks == 0
