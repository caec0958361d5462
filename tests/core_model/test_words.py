"""Which words make a question unfamiliar."""

from __future__ import annotations

from core_model.words import content_words, unknown_words


def test_content_words_leave_out_function_words_numbers_and_case() -> None:
    assert content_words("What is the Grade of this tumour? (1 or 2)") == ["grade", "tumour"]
    assert content_words("What's shown?") == []


def test_other_scripts_count_as_words() -> None:
    assert content_words("Опухоль есть?") == ["опухоль", "есть"]


def test_unknown_words_are_named_once_in_order() -> None:
    known = {"grade", "tumour", "mitoses"}
    assert unknown_words("Margin status and Ki67 of the margin, grade?", known) == ["margin", "status", "ki"]


def test_number_does_not_make_a_word_unknown() -> None:
    assert unknown_words("grades tumours", {"grade", "tumour"}) == []
    assert unknown_words("gland", {"glands"}) == []


def test_a_plural_or_singular_of_a_known_word_is_known() -> None:
    assert unknown_words("Boxes of metastases and a node", {"box", "metastases", "nodes"}) == []
    assert unknown_words("Boxing", {"box"}) == ["boxing"]
