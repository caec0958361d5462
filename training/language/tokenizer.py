"""The small tokenizer of the embedded model, trained on the text it will read and write.

Byte-level BPE, so that any question has tokens. Input is lower-cased and its white space evened out:
"Grade?", "grade ?" and "GRADE?" are one sequence, and a vocabulary of 1,500 holds nearly every word of the
cohort whole. `core_model.conversation.readable` gives generated text its capitals back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from core_model.language.conversation import (
    BOS,
    EOS,
    SPECIAL_TOKENS,
    TOKEN_ROLES,
    without_special_tokens,
)
from core_model.words import content_words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 1500
"""Tokens, the 256 bytes and the special ones included."""


def train_tokenizer(texts: Iterable[str], vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `vocabulary` tokens for `texts`; it adds `<s>` before every text."""
    from tokenizers import (
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Replace(Regex(r" +(?=[?.!,;:)]|$)"), ""),
        ]
    )
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator((without_special_tokens(text) for text in texts), trainer)
    core.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A $B",
        special_tokens=[(BOS, SPECIAL_TOKENS.index(BOS))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, clean_up_tokenization_spaces=False, padding_side="right", **TOKEN_ROLES
    )


def word_list(texts: Iterable[str]) -> list[str]:
    """The content words of `texts`, sorted, each once (see `core_model.words`)."""
    # Special tokens stand between words without spaces: removed bare, they would join their neighbours.
    return sorted(
        {word for text in texts for word in content_words(without_special_tokens(text.replace(EOS, " ")))}
    )
