"""The reading of answers over a corpus: no reply is read as what it does not mean, and few are not read."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
import replies
from hypothesis import given
from hypothesis import strategies as st
from printed_replies import PRINTED
from single_replies import REPLIES

from agent.answers.choices import MOST_TEXT, read_option
from agent.text import same_words

MOST_UNREAD = 0.02
"""Share of the replies that a person would read."""


def misread(cases: Iterable[replies.Case]) -> tuple[list[tuple[replies.Case, str]], float]:
    """(replies read as another answer than they mean, share of replies that mean one and were not read)."""
    wrong: list[tuple[replies.Case, str]] = []
    unread = count = 0
    for case in cases:
        read = read_option(case.reply, case.options)
        count += case.meant is not None
        unread += case.meant is not None and read is None
        if read is not None and read != case.meant:
            wrong.append((case, read))
    return wrong, unread / max(count, 1)


def test_no_reply_over_confusable_options_is_misread() -> None:
    cases = list(replies.readable_cases(replies.OPTION_SETS, every=47))
    assert len(cases) > 900
    wrong, unread = misread(cases)
    assert not wrong
    assert unread <= MOST_UNREAD


def test_no_reply_that_says_nothing_for_sure_is_read() -> None:
    cases = list(replies.unreadable_cases(replies.OPTION_SETS, every=29))
    assert len(cases) > 350
    assert not misread(cases)[0]


@pytest.mark.parametrize("options", replies.OPTION_SETS, ids=lambda options: options[0])
def test_every_option_is_read_by_its_words_and_letter(options: Sequence[str]) -> None:
    for place, option in enumerate(options):
        for form in ("{O}", "Answer: {L}. {O}", '{{"answer": "{O}"}}', "<think>{X}</think>{O}"):
            reply = replies.filled(form, options, place, (place + 1) % len(options))
            assert read_option(reply, options) == option, reply


@pytest.mark.parametrize(("options", "rows"), [*REPLIES, *PRINTED], ids=lambda value: str(value[0])[:30])
def test_single_replies_are_read_as_a_person_reads_them(
    options: list[str], rows: list[tuple[str, str | None]]
) -> None:
    assert {said: read_option(said, options) for said, _ in rows} == dict(rows)


def test_a_count_is_read_where_the_question_asks_for_it() -> None:
    counts = ["1", "2", "3", "4"]
    asked = "How many mitoses are there?"
    assert read_option("There are 3 mitoses.", counts, asked) == "3"
    assert read_option("I count two mitoses", counts, asked) == "2"
    assert read_option("There are 3 cores.", counts, asked) is None
    assert read_option("There are 3 mitoses", counts, "Which grade is it?") is None


def test_a_question_for_what_is_wrong_may_be_said_again() -> None:
    asked = "Which is not seen?"
    assert read_option("Which is not seen? Necrosis", ["Necrosis", "Glands"], asked) == "Necrosis"
    assert read_option("Which is not seen? Necrosis", ["Necrosis", "Glands"]) is None


@pytest.mark.parametrize("name", ["multipathqa", "slidebench", "wsi-bench"])
def test_no_reply_over_published_options_is_misread(shared: Path, name: str) -> None:
    from eval.benchmarks.registry import read_benchmark

    files = {"multipathqa": "MultiPathQA.csv", "slidebench": "slidebench_small.csv", "wsi-bench": "wsi-bench"}
    questions = read_benchmark(name, shared / "data" / "qa" / files[name]).questions
    sets = sorted({question.options for question in questions if question.options})
    every = {"multipathqa": 733, "slidebench": 479, "wsi-bench": 2999}[name]
    cases = list(replies.readable_cases(sets, every))
    assert len(cases) > 400
    wrong, unread = misread([*cases, *replies.unreadable_cases(sets, every)])
    assert not wrong
    assert unread <= MOST_UNREAD


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("HER2+", "HER2-"), ("HER2", "HER2-"), ("HER2 (+)", "HER2 (-)"), ("PD-L1 <1%", "PD-L1 ≥1%"),
        ("5%", "5"),
        ("2 mm", "2 cm"), ("1.0", "10"), ("1-3%", "13%"), ("10²", "102"), ("T1 N0", "T1 N1"), (">4", "4"),
        ("Type A thymoma", "Type AB thymoma"), ("Grade 1", "Grade 2"), ("-1", "1"),
        ("papillary", "micropapillary"),
        ("invasive", "non-invasive"), ("no necrosis", "necrosis"), ("3+4", "4+3"), ("α-catenin", "β-catenin"),
    ],
)  # fmt: skip
def test_answers_that_differ_in_a_sign_a_unit_a_number_or_a_word_are_not_the_same(
    one: str, other: str
) -> None:
    assert not same_words(one, other)
    assert same_words(one, f" {one.upper()}. ") or "α" in one
    assert read_option(one, [one, other]) == one
    assert read_option(other, [one, other]) == other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("T1N0MX", "T1 N0 MX"), ("High-grade", "high grade"), ("2.0 mm", "2 mm"), ("5 percent", "5%"),
        ("Tumour", "tumor"),
        ("**HER2-**", "HER2 (-)"), ("less than 1%", "<1 %"), ("well–differentiated", "well differentiated"),
    ],
)  # fmt: skip
def test_answers_that_differ_in_form_only_are_the_same(one: str, other: str) -> None:
    assert same_words(one, other)


@given(st.text(max_size=60), st.text(max_size=60))
def test_sameness_is_symmetric_and_knows_itself(one: str, other: str) -> None:
    assert same_words(one, one)
    assert same_words(one, other) == same_words(other, one)


@given(
    st.lists(
        st.sampled_from(
            ["T1", "N0", "MX", "+", "-", "<", "≥", "%", "2", "cm", "mm", "grade", "II", "no", "A", "B", "0.5"]
        ),
        min_size=1,
        max_size=5,
    )
)
def test_an_option_is_never_read_as_another_that_differs(parts: list[str]) -> None:
    option = " ".join(parts)
    other = f"{option} x"
    assert read_option(option, [other, option]) in (option, None)
    assert read_option(other, [other, option]) in (other, None)


@given(st.text(max_size=200), st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=6, unique=True))
def test_whatever_is_said_gives_an_option_or_none(text: str, options: list[str]) -> None:
    assert read_option(text, options) in [*options, None]
    assert unicodedata.normalize("NFKC", text) is not None


def test_of_a_reply_without_end_the_last_part_is_read_from_a_beginning() -> None:
    options = ("Adenocarcinoma", "Squamous cell carcinoma")
    loop = "It may be A or B. " * 2000
    assert read_option(loop + "\n\nAnswer: B", options) == options[1]
    assert read_option("The answer is not " + "A" + " " * MOST_TEXT, options) is None
    half = "It is certainly not " + "x" * MOST_TEXT
    assert read_option(half[: -MOST_TEXT // 2] + " A", options) is None
