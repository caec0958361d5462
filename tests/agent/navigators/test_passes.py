"""Single passes of a chat model: what it is shown, in how many calls, and what becomes of its words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import chat_fakes as chat
import pytest
from langchain_core.messages import AIMessage

from agent.replay.follow import follow_again

Ask = Callable[..., chat.Ran]


@pytest.fixture
def ask(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, plain_reports: None
) -> Ask:
    return chat.asker(tmp_path_factory.mktemp("passes"), monkeypatch)


def pick(choice: str, **more: object) -> AIMessage:
    return chat.calls(chat.answer(choice=choice, claims=[], **more))


def test_thumbnail_is_one_image_in_one_call(ask: Ask) -> None:
    ran = ask(chat.line(chat.calls(chat.answer())), mode="thumbnail")
    assert [step.action.tool for step in ran.steps] == ["overview"]
    assert [chat.images(request) for request in ran.way.asked] == [1]
    assert (ran.way.tools, ran.way.forced) == ([["answer"]], ["answer"])
    answer = ran.answer
    assert (answer.choice, answer.mode, answer.cost.calls, answer.cost.regions) == (
        "pink tissue", "thumbnail", 1, 1
    )  # fmt: skip
    assert [cited.step for cited in answer.evidence] == [1]


def test_joint_is_the_slide_and_its_patches_in_one_call(ask: Ask) -> None:
    ran = ask(chat.line(pick("pink tissue")), mode="joint", patches=5, patch_px=100, patch_mpp=2.0)
    assert [step.action.tool for step in ran.steps] == ["overview", *["zoom"] * 5]
    assert [chat.images(request) for request in ran.way.asked] == [6]
    boxes = [step.observation.box for step in ran.steps[1:]]
    assert all(box is not None and (box.w, box.h) == (200, 200) for box in boxes)
    assert len(set(boxes)) == 5
    assert "Step 6, zoom: box" in chat.text_of(ran.way.asked[0])


def test_patches_are_asked_one_by_one_and_the_majority_answers(ask: Ask) -> None:
    votes = ["grey tissue", "pink tissue", "B", "no tissue", "pink tissue"]
    ran = ask(chat.line(*map(pick, votes)), mode="patches", patches=5, patch_px=50, patch_mpp=1.0)
    assert [chat.images(request) for request in ran.way.asked] == [1] * 5
    assert len({chat.text_of(request) for request in ran.way.asked}) == 5
    answer = ran.answer
    assert (answer.choice, answer.confidence, answer.cost.calls) == ("pink tissue", 0.6, 5)
    assert [e.finding.split(" the answer:")[0] for e in answer.evidence] == [
        "Speaks against", "Supports", "Supports", "Speaks against", "Supports"
    ]  # fmt: skip


def test_patches_lie_on_tissue_and_follow_the_seed(ask: Ask) -> None:
    def places(seed: int) -> list[object]:
        ran = ask(chat.line(pick("pink tissue")), mode="patches", patches=8, patch_px=50, seed=seed)
        assert all(step.observation.data["tissue_share"] >= 0.5 for step in ran.steps)
        return [step.observation.box for step in ran.steps]

    assert places(1) == places(1)
    assert places(1) != places(2)


def test_blind_sees_nothing_and_says_so(ask: Ask) -> None:
    ran = ask(chat.line(pick("no tissue")), mode="blind")
    assert ran.steps == []
    assert chat.images(ran.way.asked[0]) == 0
    assert "shown nothing" in chat.text_of(ran.way.asked[0])
    assert (ran.answer.choice, ran.answer.cost.regions, len(ran.way.asked)) == ("no tissue", 0, 1)


def test_an_unusable_answer_is_asked_for_once_more_and_then_given_up(ask: Ask) -> None:
    ran = ask(chat.line(pick("purple"), pick("pink tissue")), mode="thumbnail")
    assert ran.answer.choice == "pink tissue"
    assert "choice is none of the options" in chat.text_of(ran.way.asked[1])
    ran = ask(chat.line(AIMessage("Hm.")), mode="thumbnail")
    assert ran.answer.abstained
    assert len(ran.way.asked) == 2
    assert "no usable answer" in (ran.answer.reason or "")


def test_a_patch_without_an_answer_has_no_vote_and_lowers_the_share(ask: Ask) -> None:
    said = [AIMessage("Hm."), AIMessage("Hm."), pick("pink tissue"), pick("pink tissue", abstain=True)]
    ran = ask(chat.line(*said), mode="patches", patches=3, patch_px=50)
    assert ran.answer.choice == "pink tissue"
    assert ran.answer.confidence == pytest.approx(1 / 3)


def test_the_limit_holds_and_ends_in_an_abstention(ask: Ask) -> None:
    ran = ask(chat.line(pick("pink tissue")), mode="patches", patches=5, patch_px=50, max_cost=0.0)
    assert ran.answer.abstained
    assert ran.way.asked == []
    assert "spending limit" in (ran.answer.reason or "")


@pytest.mark.parametrize("mode", ["thumbnail", "joint", "patches", "blind"])
def test_every_mode_replays(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = chat.asker(tmp_path, monkeypatch)(chat.line(pick("pink tissue")), mode=mode)
    assert follow_again(ran.folder, None).ok
