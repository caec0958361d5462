"""Prompts and labels: what the model reads, and on which words it is judged."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_model.conversation import (
    EOS,
    IGNORE,
    IMAGE,
    SPECIAL_TOKENS,
    Turn,
    answer_spans,
    asked,
    clean,
    conversation,
    encode_plain,
    encode_prompt,
    encode_turns,
    prompt,
    readable,
)
from core_model.errors import UsageError


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """One token per byte: every boundary between prompt and answer shows."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*SPECIAL_TOKENS, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens=[IMAGE],
    )


def judged(tokenizer: Any, labels: list[int]) -> str:
    return str(tokenizer.decode([label for label in labels if label != IGNORE]))


def test_the_prompt_holds_image_question_and_options_and_ends_where_the_assistant_speaks() -> None:
    text = prompt("Grade?", ["grade 1", "grade 2"], n_image_tokens=3)
    assert text == "USER: <image><image><image>\nGrade?\nOptions: grade 1; grade 2 ASSISTANT:"


def test_an_open_prompt_has_no_options_and_a_system_sentence_comes_first() -> None:
    assert prompt("Grade?", system="Be brief.") == "Be brief. USER: <image>\nGrade? ASSISTANT:"
    assert "Options" not in prompt("Grade?", [])


def test_a_context_stands_where_the_image_tokens_stand() -> None:
    assert prompt("Grade?", context="Grade 2.") == "USER: Grade 2.\nGrade? ASSISTANT:"


def test_conversation_begins_with_the_prompt_and_spans_cover_the_answers() -> None:
    turns = [Turn("Grade?", "Grade 2."), Turn("Any tumour?", "yes", ("yes", "no"))]
    text, spans = conversation(turns, n_image_tokens=2)
    assert text.startswith(prompt("Grade?", n_image_tokens=2))
    assert [text[a:b] for a, b in spans] == [" Grade 2.</s>", " yes</s>"]
    assert answer_spans(text) == spans
    assert text.count(IMAGE) == 2


def test_no_user_can_write_a_special_token() -> None:
    text = prompt("<image>What</s>?", ["<s>a", "b<im<image>age>"], n_image_tokens=1)
    assert text.count(IMAGE) == 1
    assert "</s>" not in text
    assert "<s>" not in text


@given(st.text(alphabet="<>/imagesunkpd ", max_size=60))
def test_clean_text_never_holds_a_special_token(text: str) -> None:
    assert not any(token in clean(text) for token in SPECIAL_TOKENS)


def test_labels_are_the_answers_with_their_ends_and_nothing_else(tokenizer: Any) -> None:
    turns = [Turn("Grade?", "Grade 2."), Turn("Any tumour?", "yes", ("yes", "no"))]
    ids, labels = encode_turns(tokenizer, turns, 4, 500)
    assert len(ids) == len(labels)
    assert judged(tokenizer, labels) == " Grade 2.</s> yes</s>"
    assert all(label in (token, IGNORE) for token, label in zip(ids, labels, strict=True))
    image = tokenizer.convert_tokens_to_ids(IMAGE)
    assert ids.count(image) == 4
    assert image not in labels


def test_training_text_starts_with_exactly_what_is_read_at_inference(tokenizer: Any) -> None:
    ids, labels = encode_turns(tokenizer, [Turn("Grade?", "Grade 2.", ("Grade 2.", "b"))], 4, 500)
    asked_ids = encode_prompt(tokenizer, "Grade?", ["Grade 2.", "b"], 4, 500)
    assert ids[: len(asked_ids)] == asked_ids
    assert labels[: len(asked_ids)] == [IGNORE] * len(asked_ids)
    assert labels[len(asked_ids)] != IGNORE


def test_truncation_cuts_the_end_and_keeps_every_image_token(tokenizer: Any) -> None:
    turns = [Turn("Grade?", "Grade 2."), Turn("Describe it.", "word " * 200)]
    ids, labels = encode_turns(tokenizer, turns, 16, 100)
    assert len(ids) == len(labels) == 100
    assert ids.count(tokenizer.convert_tokens_to_ids(IMAGE)) == 16
    assert judged(tokenizer, labels).startswith(" Grade 2.</s>")


def test_a_question_that_leaves_no_room_for_an_answer_is_refused(tokenizer: Any) -> None:
    with pytest.raises(UsageError, match="at most 64"):
        encode_turns(tokenizer, [Turn("why " * 200, "yes")], 4, 64)
    with pytest.raises(UsageError, match="shorter question"):
        encode_prompt(tokenizer, "why " * 200, None, 4, 64)


def test_the_plain_template_learns_all_words_after_the_image(tokenizer: Any) -> None:
    ids, labels = encode_plain(tokenizer, "Benign tissue.", 3, 100)
    assert judged(tokenizer, labels) == f"Benign tissue.{EOS}"
    assert ids[1:4] == [tokenizer.convert_tokens_to_ids(IMAGE)] * 3
    assert labels[:4] == [IGNORE] * 4


def test_answers_that_hold_template_words_are_labelled_whole(tokenizer: Any) -> None:
    _, labels = encode_turns(tokenizer, [Turn("Who?", "the ASSISTANT: of USER: x")], 1, 200)
    assert judged(tokenizer, labels) == f" the ASSISTANT: of USER: x{EOS}"


def test_asked_is_what_a_cohort_writes_into_its_conversations() -> None:
    assert asked("<image>\nGrade?", ("a", "b")) == "Grade?\nOptions: a; b"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (" grade 2. moderate\n necrosis.</s>", "Grade 2. Moderate necrosis."),
        ("an h&e slide.", "An H&E slide."),
        ("Already Written. As it was.", "Already Written. As it was."),
        ("", ""),
    ],
)
def test_readable_gives_sentences_their_capitals(raw: str, text: str) -> None:
    assert readable(raw) == text
