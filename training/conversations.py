"""Samples for stages 2 and 3: slide tokens and the words to be learned from them.

Letters: B samples, L tokens of the longest, n slide tokens, C channels of a slide token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from core_model.conversation import IGNORE, Turn, encode_plain, encode_turns
from training.data import Cohort
from training.fit import Batch, Trainable
from training.phantom.language import caption, questions, report
from training.pool import TokenPool

if TYPE_CHECKING:
    from training.recipes import Recipe

Sample = tuple[int, list[int], list[int]]
"""Position in the pool, token ids, labels."""
GROUPED = 8
"""Batches whose samples are sorted by length together, so that little padding is computed."""


class LlavaTask(Trainable):
    """The Llava as a stage trains it; what requires gradients is the stage's choice."""

    def __init__(self, llava: Any) -> None:
        super().__init__()
        self.llava = llava
        # Measured on CPU: the fused attention's backward pass takes half again as long as the plain one's.
        llava.model.language_model.set_attn_implementation("eager")

    def forward(self, slide_features: Tensor, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Mean loss over the labelled tokens. Shapes (B, n, C), (B, L), (B, L).

        Padding is on the right and attention causal, so no labelled token ever sees it and no mask is
        needed. Logits are computed only where a label asks for them.
        """
        hidden = self.llava.model.language_model(
            inputs_embeds=self.llava.merge(input_ids, slide_features), use_cache=False
        ).last_hidden_state  # (B, L, W)
        targets = labels[:, 1:]
        asked = targets != IGNORE  # (B, L-1)
        logits = self.llava.lm_head(hidden[:, :-1][asked]).float()  # (labelled, V)
        return {"loss": torch.nn.functional.cross_entropy(logits, targets[asked])}


class SampleBatches:
    """Batches of samples, each a function of its number: GROUPED of them are made at a time."""

    def __init__(
        self, pool: TokenPool, make: Callable[[np.random.Generator], list[Sample]], seed: list[int], pad: int
    ) -> None:
        """`make` draws the samples of GROUPED batches, in a number that divides by GROUPED."""
        self.pool, self.make, self.seed, self.pad = pool, make, seed, pad
        self._round, self._batches = -1, []  # type: tuple[int, list[list[Sample]]]

    def batch(self, step: int) -> Batch:
        """The arguments of `LlavaTask.forward` for one step."""
        turn, place = divmod(step, GROUPED)
        if turn != self._round:
            rng = np.random.default_rng([*self.seed, turn])
            samples = sorted(self.make(rng), key=lambda sample: len(sample[1]))
            size = len(samples) // GROUPED
            self._batches = [samples[i * size : (i + 1) * size] for i in rng.permutation(GROUPED)]
            self._round = turn
        samples = self._batches[place]
        return {
            "slide_features": self.pool.tokens[[i for i, _, _ in samples]].float(),
            "input_ids": padded([ids for _, ids, _ in samples], self.pad),
            "labels": padded([labels for _, _, labels in samples], IGNORE),
        }


def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Rows of unequal length as one tensor (B, L), filled up on the right."""
    length = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows])


def plain_samples(
    cohort: Cohort, pool: TokenPool, tokenizer: Any, recipe: Recipe
) -> Callable[[np.random.Generator], list[Sample]]:
    """Stage 2: a description after the image tokens."""
    count = recipe.stage2.schedule.batch * GROUPED

    def make(rng: np.random.Generator) -> list[Sample]:
        samples = []
        for i in pool.draw(count, recipe.regions.whole_share, rng):
            words = _described(cohort, pool, i, rng)
            samples.append((i, *encode_plain(tokenizer, words, recipe.n_tokens, recipe.stage2.max_length)))
        return samples

    return make


def _described(cohort: Cohort, pool: TokenPool, i: int, rng: np.random.Generator) -> str:
    """A report of a slide, its own half of the time; of a region a report or caption."""
    truth, whole = pool.truth(i, cohort), pool.boxes[i] is None
    if truth is None or (whole and rng.random() < 0.5):
        return cohort.reports[pool.slides[i]]
    return report(truth, rng) if whole or rng.random() < 0.5 else caption(truth, rng)


def instruction_samples(
    cohort: Cohort, pool: TokenPool, tokenizer: Any, recipe: Recipe
) -> Callable[[np.random.Generator], list[Sample]]:
    """Stage 3: a few questions about one region, or of a slide those of instructions.json."""
    settings = recipe.stage3

    def make(rng: np.random.Generator) -> list[Sample]:
        samples = []
        for i in pool.draw(settings.schedule.batch * GROUPED, settings.whole_share, rng):
            turns = _asked(cohort, pool, i, rng)
            kept = [turns[k] for k in rng.permutation(len(turns))[: settings.turns]]
            samples.append((i, *encode_turns(tokenizer, kept, recipe.n_tokens, settings.max_length)))
        return samples

    return make


def _asked(cohort: Cohort, pool: TokenPool, i: int, rng: np.random.Generator) -> list[Turn]:
    """Questions about a region; of a slide without truth map, where none is given, a call for its report."""
    truth, name = pool.truth(i, cohort), pool.slides[i]
    written = list(cohort.turns.get(name, ())) if pool.boxes[i] is None else []
    if truth is None:
        return written or [Turn("Describe the slide.", cohort.reports[name])]
    if written and rng.random() < 0.25:
        return written
    return [Turn(qa.question, qa.answer, qa.options) for qa in questions(truth, rng)]
