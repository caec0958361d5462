"""Tokenizers of published language models: made ours, or refused with what would help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from llava_folders import fields, llama, qwen, store, whole_state, write_config

from core_model.checkpoints.llava import import_llava, with_tokenizer
from core_model.errors import CheckpointError
from core_model.language import tokenizer as llm_tokenizer
from core_model.language.conversation import IMAGE, VICUNA_SYSTEM, Turn, encode_prompt, encode_turns, prompt
from core_model.language.tokenizer import prepared, read_tokenizer

WORDS = "A chat between a curious user and what is the grade of this tumour focal USER ASSISTANT"


@pytest.mark.parametrize(("make", "template"), [(llama, "vicuna_v1"), (qwen, "chatml")])
def test_a_published_tokenizer_learns_the_image_and_survives_storage(
    tmp_path: Path, make: Any, template: str
) -> None:
    make().save_pretrained(tmp_path)
    before = len(make())
    tokenizer = read_tokenizer(tmp_path, template)
    assert tokenizer is not None
    assert tokenizer.convert_tokens_to_ids(IMAGE) == before
    assert tokenizer.pad_token_id is not None
    assert tokenizer.eos_token == {"vicuna_v1": "</s>", "chatml": "<|im_end|>"}[template]
    turns = [Turn("Grade?", "a"), Turn("Why?", "b")]
    expected = encode_turns(tokenizer, turns, 3, 900, system=VICUNA_SYSTEM, template=template)
    tokenizer.save_pretrained(tmp_path / "ours")
    again = read_tokenizer(tmp_path / "ours", template)
    assert encode_turns(again, turns, 3, 900, system=VICUNA_SYSTEM, template=template) == expected
    starts = {"vicuna_v1": [1], "chatml": []}[template]
    assert expected[0][: len(starts)] == starts
    assert expected[0].count(before) == 3


def test_a_tokenizer_of_another_template_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"does not know <\|im_end\|>.*chatml"):
        prepared(llama(), "chatml")
    silent = llama()
    silent.add_bos_token = False
    silent.update_post_processor()
    with pytest.raises(CheckpointError, match="does not begin a text with <s>"):
        prepared(silent, "vicuna_v1")


def test_no_tokenizer_a_damaged_one_and_one_that_needs_sentencepiece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_tokenizer(tmp_path, "vicuna_v1") is None
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a")
    monkeypatch.setattr(llm_tokenizer, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=r"pip install sentencepiece, or put the tokenizer.json"):
        read_tokenizer(tmp_path, "vicuna_v1")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="its tokenizer cannot be read"):
        read_tokenizer(tmp_path, "vicuna_v1")


def train_pieces(folder: Path) -> Any:
    """Write a small `tokenizer.model` of 330 pieces, and read it with sentencepiece itself."""
    sentencepiece = pytest.importorskip("sentencepiece")
    (folder / "text.txt").write_text("\n".join(WORDS[i:] + WORDS[:i] for i in range(80)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"), model_prefix=str(folder / "tokenizer"), model_type="bpe",
        vocab_size=330, byte_fallback=True, normalization_rule_name="identity", minloglevel=2,
        remove_extra_whitespaces=False,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


LLAMA = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


@pytest.mark.parametrize(
    "described",
    [
        None,
        {},
        {"tokenizer_class": "LlamaTokenizer"},
        {"tokenizer_class": "LlamaTokenizerFast"},
        {"tokenizer_class": "LlamaTokenizer", "bos_token": "", "eos_token": "", "unk_token": ""},
        LLAMA,
        LLAMA | {"add_bos_token": True, "add_eos_token": False, "legacy": True},
        LLAMA | {"bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": False, "rstrip": False}},
    ],
    ids=str,
)
def test_a_sentencepiece_model_alone_is_a_llama_s(tmp_path: Path, described: dict[str, Any] | None) -> None:
    pieces = train_pieces(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(fields()))
    if described is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(described))
    tokenizer = read_tokenizer(tmp_path, "vicuna_v1")
    assert tokenizer is not None
    for text in (WORDS, "focal 2", "Ünknown µ"):
        assert tokenizer(text)["input_ids"] == [1, *pieces.encode(text)]
    assert (tokenizer.eos_token, tokenizer.convert_tokens_to_ids(IMAGE)) == ("</s>", 330)


def test_added_tokens_keep_their_ids(tmp_path: Path) -> None:
    train_pieces(tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<im_patch>": 331, "<pad>": 330}))
    tokenizer = read_tokenizer(tmp_path, "vicuna_v1")
    assert tokenizer is not None
    assert [tokenizer.convert_tokens_to_ids(t) for t in ("<pad>", "<im_patch>", IMAGE)] == [330, 331, 332]
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<pad>": 340}))
    with pytest.raises(CheckpointError, match=r"gives '<pad>' the id 340, the tokenizer has 330"):
        read_tokenizer(tmp_path, "vicuna_v1")
    (tmp_path / "added_tokens.json").write_text("[")
    with pytest.raises(CheckpointError, match="its tokenizer cannot be read"):
        read_tokenizer(tmp_path, "vicuna_v1")


def test_added_tokens_beside_a_fast_tokenizer_are_held_to_it(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<s>": 7}))
    with pytest.raises(CheckpointError, match=r"gives '<s>' the id 7, the tokenizer has 1"):
        read_tokenizer(tmp_path, "vicuna_v1")


def test_a_tokenizer_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")
    with pytest.raises(CheckpointError, match=r"no model of sentencepiece .* put the tokenizer.json"):
        read_tokenizer(tmp_path, "vicuna_v1")


def test_a_sentencepiece_model_gives_llava_s_ids(tmp_path: Path) -> None:
    """LLaVA encodes what stands before the image and what stands after it apart, with sentencepiece."""
    theirs = train_pieces(tmp_path)
    described = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(described))
    tokenizer = read_tokenizer(tmp_path, "vicuna_v1")
    assert tokenizer is not None
    before, after = prompt("What is the grade?", n_image_tokens=1, system=VICUNA_SYSTEM).split(IMAGE)
    expected = [1, *theirs.encode(before), 330, 330, *theirs.encode(after)]
    assert encode_prompt(tokenizer, "What is the grade?", None, 2, 900, system=VICUNA_SYSTEM) == expected


def released(folder: Path, rows: int) -> Path:
    """A merged checkpoint with so many rows in its embedding."""
    state = whole_state()
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        state[key] = state[key][:1].repeat(rows, 1)
    write_config(folder, vocab_size=rows, max_position_embeddings=fields()["max_position_embeddings"])
    store(folder, state, "safetensors")
    return folder


def test_an_import_takes_its_ids_from_the_tokenizer(tmp_path: Path) -> None:
    folder, tokenizer = released(tmp_path / "wsi", len(llama())), llama()
    tokenizer.save_pretrained(folder)
    _, config, found = import_llava(folder)
    language = config.language_model
    assert found is not None
    assert (language.bos_id, language.eos_id, language.pad_id) == (1, 2, 0)
    assert language.image_id == language.vocab_size == len(tokenizer)
    tokenizer.save_pretrained(tmp_path / "elsewhere")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    _, bare, none = import_llava(folder)
    assert none is None
    assert with_tokenizer(bare, tmp_path / "elsewhere")[0] == config
    with pytest.raises(CheckpointError, match="holds no tokenizer"):
        with_tokenizer(bare, folder)


def test_a_tokenizer_with_more_tokens_than_rows_is_refused(tmp_path: Path) -> None:
    folder = released(tmp_path / "wsi", len(llama()) - 1)
    llama().save_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"has 263 tokens, the embedding 262 rows"):
        import_llava(folder)


def test_an_embedding_with_spare_rows_keeps_them(tmp_path: Path) -> None:
    folder = released(tmp_path / "wsi", len(llama()) + 5)
    llama().save_pretrained(folder)
    language = import_llava(folder)[1].language_model
    assert (language.vocab_size, language.image_id) == (len(llama()) + 5, len(llama()))
