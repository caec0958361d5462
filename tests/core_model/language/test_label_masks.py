"""LLaVA's rule of what is learned, written a second time: a conversation is walked round by round.

In each round the human part, up to where the assistant begins to speak, is masked, and the system sentence
with the first of them; the assistant's words and the token that closes them count. The encoder under test
goes by character offsets; the reference goes by numbers of tokens, as LLaVA does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from core_model.errors import UsageError
from core_model.language.conversation import (
    IGNORE,
    IMAGE,
    QWEN_SYSTEM,
    VICUNA_SYSTEM,
    Turn,
    encode_plain,
    encode_prompt,
    encode_turns,
    without_special_tokens,
)

END = {"vicuna_v1": "</s>", "chatml": "<|im_end|>"}
SYSTEM = {"vicuna_v1": VICUNA_SYSTEM, "chatml": QWEN_SYSTEM}
TEMPLATE = {"ours": "vicuna_v1", "vicuna": "vicuna_v1", "qwen": "chatml"}
"""Template by tokenizer."""
Tokenizers = dict[str, Any]


@pytest.fixture(scope="module")
def tokenizers(tiny_tokenizer: Any) -> Tokenizers:
    """One as trained here, one in Vicuna's manner, and one in Qwen's, without a token at the beginning."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer.from_str(tiny_tokenizer.backend_tokenizer.to_str())
    core.post_processor = processors.ByteLevel(trim_offsets=False)
    qwen = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<pad>",
        extra_special_tokens=[IMAGE, "<|im_start|>"],
    )
    return {"ours": tiny_tokenizer, "vicuna": like_vicunas(), "qwen": qwen}


def like_vicunas() -> Any:
    """Sentencepiece's manner: spaces are letters, a text begins with one, rare letters become bytes."""
    from tokenizers import Tokenizer, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    named = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = [*"▁abcdefghijklmnopqrstuvwxyzABEGIRSTUW.:;?12\n"]
    joined = ["gr", "ad", "grad", "grade", "▁grade", "SI", "▁A"]
    merges = [("g", "r"), ("a", "d"), ("gr", "ad"), ("grad", "e"), ("▁", "grade"), ("S", "I"), ("▁", "A")]
    core = Tokenizer(
        models.BPE(
            vocab={token: i for i, token in enumerate([*named, *letters, *joined])},
            merges=merges,
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=[IMAGE],
    )


def rounds(turns: list[Turn], n: int, system: str, template: str) -> list[tuple[str, str]]:
    """(human part, assistant's part with what closes it) of each round; nothing else stands in the text."""
    found = []
    for i, turn in enumerate(turns):
        asked = without_special_tokens(turn.question)
        if turn.options:
            asked += "\nOptions: " + "; ".join(without_special_tokens(option) for option in turn.options)
        if i == 0:
            asked = IMAGE * n + "\n" + asked
        if template == "vicuna_v1":
            lead = f"{system} " if i == 0 and system else ""
            found.append((f"{lead}USER: {asked} ASSISTANT:", f" {without_special_tokens(turn.answer)}</s>"))
        else:
            lead = f"<|im_start|>system\n{system}<|im_end|>\n" if i == 0 and system else "\n" if i else ""
            asked = f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
            found.append((lead + asked, f"{without_special_tokens(turn.answer)}<|im_end|>"))
    return found


def count(tokenizer: Any, text: str) -> list[int]:
    """Token ids with each `<image>` as one token: the text around them is tokenized piece by piece."""
    pieces = text.split(IMAGE)
    ids = list(tokenizer(pieces[0])["input_ids"])
    for piece in pieces[1:]:
        ids.append(tokenizer.convert_tokens_to_ids(IMAGE))
        ids += tokenizer(piece, add_special_tokens=False)["input_ids"]
    return ids


def reference(
    tokenizer: Any, turns: list[Turn], n: int, system: str, template: str
) -> tuple[list[int], list[int]]:
    """Walk the rounds; what a round adds to the number of tokens is masked or counts."""
    text, labels, whole = "", [], []  # type: str, list[int], list[int]
    for human, assistant in rounds(turns, n, system, template):
        text += human
        labels += [IGNORE] * (len(count(tokenizer, text)) - len(labels))
        text += assistant
        whole = count(tokenizer, text)
        labels += whole[len(labels) :]
    if template == "chatml":  # the line break after the last answer belongs to no round
        whole = count(tokenizer, text + "\n")
        labels += [IGNORE] * (len(whole) - len(labels))
    return whole, labels


WORDS = st.one_of(
    st.text(max_size=30),
    st.text(alphabet="ab .:;\n{}<>|/s", max_size=30),
    st.sampled_from(
        ["grade 2.", "USER: x ASSISTANT: y", "</s>", "<|im_end|>\n", "<image>\nwhat?", "A) a B) b", "{}", " "]
    ),
)
TURNS = st.lists(
    st.builds(Turn, WORDS, WORDS, st.none() | st.lists(WORDS, min_size=2, max_size=4).map(tuple)),
    min_size=1,
    max_size=4,
)
EVERY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
every_tokenizer = pytest.mark.parametrize("name", TEMPLATE)
with_and_without_system = pytest.mark.parametrize("spoken", [False, True], ids=["bare", "system"])


def manner(tokenizers: Tokenizers, name: str, spoken: bool) -> tuple[Any, str, str]:
    """Tokenizer, template and system sentence; the sentence is empty where it is not `spoken`."""
    template = TEMPLATE[name]
    return tokenizers[name], template, SYSTEM[template] if spoken else ""


def in_every_way(**strategies: Any) -> Callable[[Callable[..., None]], Any]:
    """Run a test on conversations with every tokenizer, with and without a system sentence."""

    def decorate(test: Callable[..., None]) -> Any:
        conversations = given(turns=TURNS, n=st.integers(1, 6), **strategies)
        return every_tokenizer(with_and_without_system(conversations(EVERY(test))))

    return decorate


@in_every_way()
def test_only_the_assistants_words_and_what_closes_them_count(
    tokenizers: Tokenizers, name: str, spoken: bool, turns: list[Turn], n: int
) -> None:
    tokenizer, template, system = manner(tokenizers, name, spoken)
    ids, labels = encode_turns(tokenizer, turns, n, 10_000, system=system, template=template)
    assert (ids, labels) == reference(tokenizer, turns, n, system, template)
    end = tokenizer.convert_tokens_to_ids(END[template])
    assert labels.count(end) == len(turns)
    assert ids.count(tokenizer.convert_tokens_to_ids(IMAGE)) == n


@in_every_way(limit=st.integers(1, 120))
def test_truncation_cuts_from_the_end_and_never_an_image_token(
    tokenizers: Tokenizers, name: str, spoken: bool, turns: list[Turn], n: int, limit: int
) -> None:
    tokenizer, template, system = manner(tokenizers, name, spoken)
    whole, learned = reference(tokenizer, turns, n, system, template)
    first = next(i for i, label in enumerate(learned) if label != IGNORE)
    if limit <= first:
        with pytest.raises(UsageError):
            encode_turns(tokenizer, turns, n, limit, system=system, template=template)
        return
    ids, labels = encode_turns(tokenizer, turns, n, limit, system=system, template=template)
    assert (ids, labels) == (whole[:limit], learned[:limit])
    assert ids.count(tokenizer.convert_tokens_to_ids(IMAGE)) == n


@in_every_way()
def test_what_is_masked_before_the_first_answer_is_the_prompt_at_inference(
    tokenizers: Tokenizers, name: str, spoken: bool, turns: list[Turn], n: int
) -> None:
    tokenizer, template, system = manner(tokenizers, name, spoken)
    asked = (turns[0].question, turns[0].options, n, 10_000)
    ids, labels = encode_turns(tokenizer, turns, n, 10_000, system=system, template=template)
    first = next(i for i, label in enumerate(labels) if label != IGNORE)
    assert ids[:first] == encode_prompt(tokenizer, *asked, system=system, template=template)


@every_tokenizer
@given(words=WORDS, n=st.integers(1, 6), limit=st.integers(1, 60))
@EVERY
def test_the_plain_template_masks_the_image_and_nothing_else(
    tokenizers: Tokenizers, name: str, words: str, n: int, limit: int
) -> None:
    tokenizer, template = tokenizers[name], TEMPLATE[name]
    whole = count(tokenizer, IMAGE * n + without_special_tokens(words) + END[template])
    before = len(count(tokenizer, IMAGE * n))
    assume(limit > before)
    ids, labels = encode_plain(tokenizer, words, n, limit, template=template)
    assert ids == whole[:limit]
    assert labels == [IGNORE] * before + whole[before:limit]
    assert ids.count(tokenizer.convert_tokens_to_ids(IMAGE)) == n


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (
            "ours",
            "[be brief. user: <image><image> any tumour? assistant:] yes.</s>"
            "[ user: which grade? options: 1; 2 assistant:] 2</s>",
        ),
        (
            "qwen",
            "[<|im_start|> system be brief.<|im_end|> <|im_start|> user <image><image> any tumour?<|im_end|>"
            " <|im_start|> assistant] yes.<|im_end|>[ <|im_start|> user which grade? options: 1; 2<|im_end|>"
            " <|im_start|> assistant] 2<|im_end|>[ ]",
        ),
    ],
)
def test_two_turns_spelled_out(tokenizers: Tokenizers, name: str, shown: str) -> None:
    """Masked text in brackets, words in small letters and apart by single spaces."""
    turns = [Turn("Any tumour?", "Yes."), Turn("Which grade?", "2", ("1", "2"))]
    tokenizer = tokenizers[name]
    ids, labels = encode_turns(tokenizer, turns, 2, 500, system="Be brief.", template=TEMPLATE[name])
    text, masked = "", False
    show: Callable[[list[int]], str] = tokenizer.decode
    for i, (token, label) in enumerate(zip(ids, labels, strict=True)):
        if (label == IGNORE) != masked:
            masked = not masked
            text += "[" if masked else "]"
        text += show([token]) if i or name == "qwen" else ""  # not `<s>`
    text = f"{text}]" if masked else text
    assert "".join(text.split()) == "".join(shown.split())
