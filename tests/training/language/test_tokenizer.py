"""The tokenizer of the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core_model.language.conversation import IMAGE, Turn, conversation, readable
from training.language.tokenizer import train_tokenizer, word_list
from training.phantom.language import pathology_report, questions
from training.phantom.truth import BENIGN, BoxTruth

TRUTHS = (
    BoxTruth(1.0, 0.9, 0.5, 0.1, 700.0, 30.0, "adenocarcinoma", 2),
    BoxTruth(1.0, 0.9, 0.0, 0.0, 100.0, 0.0, BENIGN, None),
)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(60):
        for t in TRUTHS:
            turns = [Turn(qa.question, qa.answer, qa.options) for qa in questions(t, rng)]
            found.append(conversation(turns, context=pathology_report(t, rng))[0])
    return found


@pytest.fixture(scope="module")
def tokenizer(texts: list[str]) -> Any:
    return train_tokenizer(texts, vocabulary=800)


def test_case_and_white_space_do_not_matter(tokenizer: Any) -> None:
    same = {tuple(tokenizer(text)["input_ids"]) for text in ("Grade?", "grade?", "GRADE ?", "  grade?\n")}
    assert len(same) == 1


def test_common_words_are_one_token(tokenizer: Any) -> None:
    for word in ("grade", "necrosis", "adenocarcinoma", "mitotic", "benign", "user", "assistant"):
        assert len(tokenizer(word, add_special_tokens=False)["input_ids"]) == 1, word


def test_any_text_can_be_said_and_comes_back_readable(tokenizer: Any) -> None:
    text = "Quäntum Zebra-42? Grade 2, no tumour (здесь)."
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert (
        readable(tokenizer.decode(ids, skip_special_tokens=True))
        == "Quäntum zebra-42? Grade 2, no tumour (здесь)."
    )


def test_special_tokens_are_single_and_a_text_begins_with_bos(tokenizer: Any, texts: list[str]) -> None:
    ids = tokenizer(f"USER: {IMAGE}{IMAGE}\nGrade? ASSISTANT: Grade 2.</s>")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.convert_tokens_to_ids(IMAGE)) == 2
    assert ids[-1] == tokenizer.eos_token_id
    assert len({tokenizer.convert_tokens_to_ids(t) for t in ("<pad>", "<unk>", "<s>", "</s>", IMAGE)}) == 5
    assert len(tokenizer) <= 800


def test_it_survives_saving(tokenizer: Any, texts: list[str], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert [loaded(text)["input_ids"] for text in texts[:5]] == [
        tokenizer(text)["input_ids"] for text in texts[:5]
    ]


def test_word_list_holds_subjects_only(texts: list[str]) -> None:
    words = word_list(texts)
    assert words == sorted(set(words))
    assert {"grade", "necrosis", "mitoses"} <= set(words)
    assert not {"the", "user", "assistant", "options", "what"} & set(words)
