"""The chat navigator from question to answer: both profiles, three box conventions, bounded context."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import chat_fakes as chat
import pytest
from langchain_core.messages import AIMessage, BaseMessage

from agent.chat.regions import REGIONS

Ask = Callable[..., chat.Ran]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_reports: None) -> Ask:
    return chat.asker(tmp_path, monkeypatch)


def seen(step: int, finding: str) -> dict[str, object]:
    return {"step": step, "finding": finding}


def leaning(**shares: float) -> list[dict[str, object]]:
    return [{"answer": f"{name} tissue", "probability": p} for name, p in shares.items()]


def test_survey_first_then_one_call_sees_all_of_it(ask: Ask) -> None:
    ran = ask(chat.line(chat.calls(chat.answer()), chat.verdict()))
    surveyed = ran.steps[1:]
    assert len(surveyed) == 8
    assert {step.action.tool for step in surveyed} == {"zoom"}
    assert all(step.observation.mpp == 2.0 for step in surveyed)
    assert len({step.observation.box for step in surveyed}) == 8
    first = ran.way.asked[0]
    assert chat.images(first) == 9
    assert len(ran.way.asked) == 2  # one call decided, one looked again
    assert ran.way.tools[0] == ["overview", "zoom", "pan", "retrieve", "ask_region", "answer"]


def test_survey_takes_at_most_half_of_the_steps_left(ask: Ask) -> None:
    ran = ask(chat.line(chat.calls(chat.answer()), chat.verdict()), max_steps=6)
    assert len(ran.steps) == 1 + 2
    assert ran.answer.choice == "pink tissue"


def test_model_is_told_the_slide_its_regions_and_what_is_left(ask: Ask) -> None:
    ran = ask(chat.line(chat.calls(chat.zoom(100, 100, 200, 200)), chat.calls(chat.answer()), chat.verdict()))
    words = chat.text_of(ran.way.asked[1])
    for told in (
        "1600 x 1200 px at 1 µm/px (10x), 1,600 x 1,200 µm",
        "1.23 mm² in 2 pieces, boxes in level-0 px: (880, 96, 624, 1008); (96, 96, 616, 1008)",
        "A. grey tissue\nB. pink tissue\nC. no tissue",
        "Step 10, zoom: box (100, 100, 200, 200) in level-0 px, 1.67 µm/px (6x)",
        "0.0% at 0.5 µm/px or finer, 36.7% at 2.0 µm/px or finer",
        "Looks left: 10.",
    ):
        assert told in words


def test_what_the_model_saw_and_leans_to_goes_into_the_steps(ask: Ask) -> None:
    first = chat.zoom(
        100,
        100,
        200,
        200,
        seen=[seen(1, "Two pieces of tissue."), seen(99, "?")],
        leaning=leaning(pink=3, grey=1),
    )
    last = chat.answer(seen=[seen(10, "Pink with dark dots.")])
    ran = ask(chat.line(chat.calls(first), chat.calls(last), chat.verdict()))
    steps = ran.steps
    assert steps[0].finding == "Two pieces of tissue."
    assert steps[9].finding == "Pink with dark dots."
    assert steps[8].posterior == {"grey tissue": 0.25, "pink tissue": 0.75, "no tissue": 0.0}
    assert steps[7].posterior is None
    assert ran.answer.evidence[0].finding == "Two pieces of tissue."


@pytest.mark.parametrize(
    "shares",
    [
        [{"answer": "blue tissue", "probability": 1.0}],
        [{"answer": "pink tissue", "probability": 0}],
        [{"answer": "pink tissue", "probability": "high"}],
        "pink",
    ],
)
def test_malformed_leaning_is_ignored(ask: Ask, shares: object) -> None:
    ran = ask(
        chat.line(
            chat.calls(chat.zoom(100, 100, 200, 200, leaning=shares)),
            chat.calls(chat.answer()),
            chat.verdict(),
        )
    )
    assert all(step.posterior is None for step in ran.steps)
    assert ran.answer.choice == "pink tissue"


def test_open_question(ask: Ask) -> None:
    said = chat.answer(text="Pink tissue with dark dots.", choice="pink")
    look = chat.zoom(100, 100, 200, 200, leaning=[{"answer": "pink", "probability": 0.8}])
    ran = ask(chat.line(chat.calls(look), chat.calls(said), chat.verdict("pink", 0.6)), options=None)
    assert (ran.answer.answer, ran.answer.choice) == ("Pink tissue with dark dots.", None)
    assert ran.answer.confidence == 0.6
    assert ran.steps[8].posterior == {"pink": 1.0}


def test_giant_is_overview_and_crops_as_published(ask: Ask) -> None:
    looks = [chat.calls(chat.zoom(100 + 10 * i, 100, 100 + 20 * i, 200)) for i in range(25)]
    for look in looks:
        look.tool_calls[0]["args"].pop("mpp")
    way = chat.line(*looks[:19], chat.calls(chat.answer(claims=[{"text": "Pink.", "steps": [20]}])))
    ran = ask(way, profile="giant", max_steps=20)
    assert [step.action.tool for step in ran.steps] == ["overview"] + ["zoom"] * 19
    assert set(map(tuple, way.tools[:19])) == {("zoom", "answer")}
    assert way.tools[19:] == [["answer"]]  # no second look
    assert [chat.images(asked) for asked in way.asked] == list(range(1, 21))  # all images stay
    assert ran.answer.evidence[0].box == (280, 100, 460, 200)
    assert "µm/px" not in chat.text_of(way.asked[-1])


def test_giant_takes_level0_boxes_whatever_the_model(ask: Ask) -> None:
    relative = replace(chat.PROFILE, boxes="relative")
    ran = ask(
        chat.line(chat.calls(chat.zoom(100, 100, 200, 200)), chat.calls(chat.answer())),
        profile="giant",
        about=relative,
    )
    assert ran.steps[1].observation.box == (100, 100, 200, 200)


@pytest.mark.parametrize("profile", ["survey", "giant"])
def test_a_budget_of_one_step_is_the_overview(ask: Ask, profile: str) -> None:
    ran = ask(chat.line(chat.calls(chat.answer()), chat.verdict()), max_steps=1, profile=profile)
    assert [step.action.tool for step in ran.steps] == ["overview"]
    assert ran.answer.choice == "pink tissue"
    assert ran.way.tools[0] == ["answer"]


@pytest.mark.parametrize("convention", ["relative", "resized"])
def test_boxes_in_the_convention_of_the_model(ask: Ask, convention: str) -> None:
    """The left upper quarter of the overview: 60 x 45 of its 120 x 90 px, below which is the caption."""

    def look(messages: Sequence[BaseMessage]) -> AIMessage:
        width, height = chat.sizes(messages)[0]
        x1, y1 = (60_000 / width, 45_000 / height) if convention == "relative" else (60, 45)
        return chat.calls(("zoom", {"step": 1, "x0": 0, "y0": 0, "x1": round(x1), "y1": round(y1), "mpp": 0}))

    about = replace(chat.PROFILE, boxes=convention)
    ran = ask(chat.line(look, chat.calls(chat.answer()), chat.verdict()), about=about)
    box = ran.steps[9].observation.box
    assert box is not None
    assert (box.x, box.y) == (0, 0)
    assert abs(box.w - 800) <= 14  # a px of the overview is 13.3 level-0 px
    assert abs(box.h - 600) <= 14


def test_boxes_refer_to_the_step_that_is_named(ask: Ask) -> None:
    about = replace(chat.PROFILE, boxes="resized")
    inside = ("zoom", {"step": 2, "x0": 60, "y0": 60, "x1": 120, "y1": 120, "mpp": 0})
    ran = ask(chat.line(chat.calls(inside), chat.calls(chat.answer()), chat.verdict()), about=about)
    outer, inner = ran.steps[1].observation.box, ran.steps[9].observation.box
    assert outer is not None
    assert inner == (outer.x + outer.w // 2, outer.y + outer.h // 2, outer.w // 2, outer.h // 2)


@pytest.mark.parametrize("named", [77, 10])
def test_boxes_in_an_image_that_is_not_there_are_refused(ask: Ask, named: int) -> None:
    about = replace(chat.PROFILE, boxes="relative")
    look = ("zoom", {"step": named, "x0": 0, "y0": 0, "x1": 500, "y1": 500, "box": [0, 0, 9, 9], "mpp": 1})
    ran = ask(chat.line(chat.calls(look), chat.calls(chat.answer()), chat.verdict()), about=about)
    assert not ran.steps[9].observation.ok
    assert "from 0 to 1000" in chat.text_of(ran.way.asked[1][-3:])


def test_tiles_found_are_told_where_a_model_can_find_them(ask: Ask) -> None:
    about = replace(chat.PROFILE, boxes="resized")
    search = ("retrieve", {"text": "grey", "k": 1})
    ran = ask(chat.line(chat.calls(search), chat.calls(chat.answer()), chat.verdict()), about=about)
    assert ran.steps[9].observation.data["hits"][0]["box"] == [0, 0, 80, 80]
    assert "In the image of step 1 these are (x0, y0, x1, y1): (0, 0, 6, 6)." in chat.text_of(
        ran.way.asked[1]
    )


def test_all_five_tools_run(ask: Ask) -> None:
    looks = [
        chat.zoom(100, 100, 200, 200),
        ("pan", {"direction": "right", "fraction": 1}),
        ("retrieve", {"text": "pink tissue", "k": 3}),
        ("retrieve", {"x": 100, "y": 100, "w": 200, "h": 200, "k": 3}),
        ("ask_region", {"x": 900, "y": 100, "w": 400, "h": 400}),
        ("ask_region", {"x": 900, "y": 100, "w": 400, "h": 400, "question": "What is it?"}),
    ]
    ran = ask(chat.line(*map(chat.calls, looks), chat.calls(chat.answer()), chat.verdict()))
    made = ran.steps[9:]
    assert [step.action.tool for step in made] == [name for name, _ in looks]
    assert all(step.observation.ok for step in made), [step.observation.text for step in made]
    assert made[1].observation.box == (300, 100, 200, 200)
    assert set(made[4].observation.data["options"]) == set(chat.OPTIONS)
    assert made[5].observation.data["answer"] == "pink tissue"


def test_context_is_bounded_and_older_images_become_findings(ask: Ask) -> None:
    looks = [
        chat.calls(chat.zoom(100 + 60 * i, 100, 200, 200, seen=[seen(9 + i, f"Finding {9 + i}.")]))
        for i in range(20)
    ]
    ran = ask(chat.line(*looks, chat.calls(chat.answer()), chat.verdict()), max_steps=29)
    assert len(ran.steps) == 29
    assert max(map(chat.images, ran.way.asked)) == REGIONS + 1
    last = chat.text_of(ran.way.asked[19])
    assert "Its image is no longer shown. You noted: Finding 12." in last
    assert "Step 28:" in last


@pytest.mark.parametrize("most", [1, 2, 5])
def test_no_more_images_than_the_model_takes(ask: Ask, most: int) -> None:
    about = replace(chat.PROFILE, max_images=most)
    looks = [chat.calls(chat.zoom(100 + 60 * i, 100, 200, 200)) for i in range(6)]
    ran = ask(chat.line(*looks, chat.calls(chat.answer()), chat.verdict()), about=about)
    assert max(map(chat.images, ran.way.asked)) == most
    newest = chat.text_of(ran.way.asked[3]).rpartition("Images before you:")[2]
    assert "box (220, 100, 200, 200)" in newest


def test_images_stand_where_the_profile_says(ask: Ask) -> None:
    for place, kind in (("user", "human"), ("tool", "tool")):
        about = replace(chat.PROFILE, images=place)
        way = chat.line(chat.calls(chat.zoom(100, 100, 200, 200)), chat.calls(chat.answer()), chat.verdict())
        ask(way, about=about)
        tail = way.asked[1][3:]
        assert [message.type for message in tail if chat.images([message])] == [kind]


def test_several_calls_in_one_turn_are_made_in_order(ask: Ask) -> None:
    wanted = [chat.zoom(100 + 60 * i, 100, 200, 200) for i in range(3)]
    ran = ask(chat.line(chat.calls(*wanted), chat.calls(chat.answer()), chat.verdict()))
    assert [step.observation.box for step in ran.steps[9:]] == [
        (100 + 60 * i, 100, 200, 200) for i in range(3)
    ]
    assert len(ran.way.asked) == 3
    assert chat.images(ran.way.asked[1]) == 9


def test_calls_that_do_not_fit_are_said_not_to_be_made(ask: Ask) -> None:
    wanted = [chat.zoom(100 + 60 * i, 100, 200, 200) for i in range(4)]
    way = chat.line(chat.calls(*wanted), chat.calls(chat.answer()), chat.verdict())
    ran = ask(way, max_steps=6)
    assert len(ran.steps) == 6
    assert "Not made: at most 3 calls are made in a turn" in chat.text_of(way.asked[1])
    way = chat.line(chat.calls(*wanted), chat.calls(chat.answer()), chat.verdict())
    ran = ask(way, about=replace(chat.PROFILE, parallel_calls=False))
    assert len(ran.steps) == 10
    assert chat.text_of(way.asked[1]).count("Not made: only one call is made in a turn.") == 3


def test_a_model_without_schemas_may_write_its_calls_as_json(ask: Ask) -> None:
    look = {"name": "zoom", "arguments": chat.zoom(100, 100, 200, 200)[1]}
    final = {**chat.answer()[1], "confidence": "85%", "choice": "B"}
    way = chat.line(
        AIMessage(f"I would look there: {json.dumps(look)}"),
        AIMessage(f"So:\n```json\n{json.dumps(final)}\n```\nThat is all."),
        chat.verdict(confidence=0.9),
    )
    ran = ask(way)
    assert ran.steps[9].observation.box == (100, 100, 200, 200)
    assert (ran.answer.choice, ran.answer.confidence) == ("pink tissue", 0.85)


def test_a_run_is_the_same_again_and_pays_nothing_twice(ask: Ask, tmp_path: Path) -> None:
    def script() -> chat.Line:
        return chat.line(
            chat.calls(chat.zoom(100, 100, 200, 200), ids=["a"]),
            chat.calls(chat.answer(), ids=["b"]),
            chat.verdict(),
        )

    first, second = ask(script()), ask(script())
    names = [sorted(path.name for path in (ran.folder / "journal").glob("chat-*")) for ran in (first, second)]
    assert names[0] == names[1]  # the same requests, to the byte: their digests are in the names
    again = ask(script(), out=first.folder, resume=True)
    assert again.way.asked == []
    assert again.answer.model_copy(update={"run_dir": ""}) == first.answer.model_copy(update={"run_dir": ""})


def test_the_conversation_has_the_form_that_each_provider_insists_on(ask: Ask) -> None:
    from langchain_anthropic.chat_models import _format_messages
    from langchain_google_genai.chat_models import _parse_chat_history
    from langchain_openai.chat_models.base import _convert_message_to_dict

    looks = [chat.zoom(100 + 60 * i, 100, 200, 200) for i in range(3)]
    ran = ask(chat.line(chat.calls(*looks), AIMessage("Hm."), chat.calls(chat.answer()), chat.verdict()))
    asked = ran.way.asked[2]
    system, turns = _format_messages(asked, model="claude-sonnet-4-5")
    assert "pathologist" in str(system)
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert [block["type"] for block in turns[2]["content"]][:3] == ["tool_result"] * 3
    blocks = [block for turn in turns if isinstance(turn["content"], list) for block in turn["content"]]
    assert [block["type"] for block in blocks].count("image") == REGIONS + 1
    sent = [_convert_message_to_dict(message) for message in asked]
    roles = [one["role"] for one in sent]
    assert roles == ["system", "user", "assistant", *["tool"] * 3, "user", "assistant", "user"]
    assert all(isinstance(one["content"], str) for one in sent if one["role"] == "tool")
    parts = [part for one in sent if isinstance(one["content"], list) for part in one["content"]]
    assert [part["type"] for part in parts].count("image_url") == REGIONS + 1
    _, history = _parse_chat_history(asked)
    assert [content.role for content in history] == ["user", "model", "user", "user", "model", "user"]
    assert all(part.function_response for part in history[2].parts)
