"""How likely the language model finds each answer, and the text it writes itself.

Letters: R slides or regions, A answers, P tokens of the common prompt, T tokens of the longest rest,
n slide tokens, C channels, V vocabulary.

The prompt with its slide tokens is by far the longest part of a sequence and the same for all options, so
it is read once per region and its cache is shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core_model.config import GenerationConfig
from core_model.language.conversation import IGNORE

Encoded = tuple[list[int], list[int]]
"""Token ids and labels, as `conversation.encode_turns` gives them."""

TOKENS_AT_ONCE = 16384
"""Tokens in one forward pass; bounds memory, not results."""


def option_log_likelihoods(llava: Any, slide_tokens: Tensor, options: Sequence[Encoded]) -> np.ndarray:
    """Summed log-likelihood of each option's labelled tokens after the prompt.

    `slide_tokens` (R, n, C); `options` are A whole conversations that differ in the answer.
    Returns (R, A) float64.
    """
    P = _common_prefix(options)
    tails, targets = _tails(options, P, llava.device)  # (A, T), (A, T)
    A, T = tails.shape
    prefix = torch.tensor([options[0][0][:P]], device=llava.device)  # (1, P)
    step = max(1, TOKENS_AT_ONCE // (A * (P + T)))
    rows = [
        _score(llava, slide_tokens[start : start + step], prefix, tails, targets)
        for start in range(0, len(slide_tokens), step)
    ]
    return torch.cat(rows).cpu().numpy()  # (R, A)


def _score(llava: Any, slide_tokens: Tensor, prefix: Tensor, tails: Tensor, targets: Tensor) -> Tensor:
    R, A = len(slide_tokens), len(tails)
    head = llava(
        input_ids=prefix.expand(R, -1), slide_features=slide_tokens, use_cache=True, logits_to_keep=1
    )  # logits (R, 1, V): they foretell the first token of the rest
    cache = head.past_key_values
    cache.batch_repeat_interleave(A)
    rest = llava(input_ids=tails.repeat(R, 1), past_key_values=cache, use_cache=True).logits  # (R·A, T, V)
    logits = torch.cat([head.logits.repeat_interleave(A, dim=0), rest[:, :-1]], dim=1)  # (R·A, T, V)
    labels = targets.repeat(R, 1)  # (R·A, T)
    # (R·A, T)
    log_probs = logits.double().log_softmax(-1).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return (log_probs * (labels != IGNORE)).sum(dim=1).reshape(R, A)  # (R·A, T) → (R, A)


def _common_prefix(options: Sequence[Encoded]) -> int:
    """Number of leading tokens that all options share and that no label falls on."""
    first_label = min(next(i for i, label in enumerate(labels) if label != IGNORE) for _, labels in options)
    columns = zip(*(ids[:first_label] for ids, _ in options), strict=True)
    return next((i for i, column in enumerate(columns) if len(set(column)) > 1), first_label)


def _tails(options: Sequence[Encoded], prefix: int, device: Any) -> tuple[Tensor, Tensor]:
    """Ids and labels after the prefix, filled up on the right, where causal attention hides the filling."""
    length = max(len(ids) for ids, _ in options)
    ids = [[*ids[prefix:], *[0] * (length - len(ids))] for ids, _ in options]
    labels = [[*labels[prefix:], *[IGNORE] * (length - len(labels))] for _, labels in options]
    return torch.tensor(ids, device=device), torch.tensor(labels, device=device)


def write(
    llava: Any, slide_tokens: Tensor, prompt: list[int], how: GenerationConfig
) -> tuple[list[int], float]:
    """Continuation of one prompt: new token ids, and the geometric mean of their probabilities.

    Generation starts from embeddings, so that rules about repetition see the new words alone, as LLaVA's do,
    and no `<image>`. The probabilities are the model's own, before temperature and rules.
    """
    ids = torch.tensor([prompt], device=llava.device)
    out = llava.generate(
        inputs_embeds=llava.merge(ids, slide_tokens),
        attention_mask=torch.ones_like(ids),
        max_new_tokens=how.max_new_tokens,
        do_sample=False,
        logits_processor=_rules(how),
        pad_token_id=llava.config.text_config.pad_token_id,
        eos_token_id=llava.config.text_config.eos_token_id,
        output_logits=True,
        return_dict_in_generate=True,
    )
    new = out.sequences[0]  # (T,)
    logits = torch.cat(out.logits).double()  # (T, V)
    log_probs = logits.log_softmax(-1).gather(-1, new.unsqueeze(-1))  # (T, 1)
    return new.tolist(), float(log_probs.mean().exp())


def _rules(how: GenerationConfig) -> list[Any]:
    """The processors that change the logits before the largest is taken."""
    from transformers import NoRepeatNGramLogitsProcessor

    repeats = [NoRepeatNGramLogitsProcessor(how.no_repeat_ngram)] if how.no_repeat_ngram else []
    return [*repeats, *([_Draw(how)] if how.temperature else [])]


class _Draw:
    """Makes taking the largest the same as drawing from the softmax at a temperature (Gumbel-max trick).

    The noise comes from a generator of its own, on the CPU: the same on every device, and nobody else's
    random numbers change.
    """

    def __init__(self, how: GenerationConfig) -> None:
        self.temperature = how.temperature
        self.random = torch.Generator().manual_seed(how.seed)

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        noise = -torch.empty(scores.shape).exponential_(generator=self.random).log()  # (1, V)
        return scores / self.temperature + noise.to(scores.device)


def mean_nll(llava: Any, ids: list[int], is_question: Sequence[bool]) -> float:
    """Mean negative log-likelihood (nats) of the counted tokens of a text without a slide."""
    row = torch.tensor([ids], device=llava.device)
    log_probs = llava(input_ids=row).logits[0, :-1].double().log_softmax(-1)  # (L-1, V)
    nll = -log_probs.gather(-1, row[0, 1:, None]).squeeze(-1)  # (L-1,)
    mask = torch.tensor(is_question[1:], device=llava.device)
    return float(nll[mask].mean()) if bool(mask.any()) else 0.0
