"""Samples for stages 2 and 3: slide tokens and the words to be learned from them.

Letters: B samples, L tokens of the longest, n slide tokens, C channels of a slide token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
import torch
from torch import Tensor

from core_model.devices import default_device
from core_model.language.conversation import IGNORE, Turn, encode_plain, encode_turns
from training.cohort.cohort import Cohort
from training.engine.fit import FitOptions, StageBatch, Trainable, fit
from training.engine.shares import ALONE, BatchShare
from training.engine.step_log import COUNTS
from training.phantom.language import caption, pathology_report, questions
from training.stages.pool import TokenPool

if TYPE_CHECKING:
    from core_model.checkpoints.parts import Parts
    from training.settings import Recipe, Schedule

Sample = tuple[int, list[int], list[int]]
"""Position in the pool, token ids, labels."""
Make = Callable[..., list[Sample]]
"""`make(rng, turn)`: the samples of GROUPED batches, for the time of that number."""
GROUPED = 8
"""Batches whose samples are sorted by length together, so that little padding is computed."""


class LlavaTask(Trainable):
    """The Llava as a stage trains it; what requires gradients is the stage's choice."""

    def __init__(self, llava: Any, recompute: bool = False) -> None:
        super().__init__()
        self.llava = llava
        if recompute:
            llava.model.language_model.activation_checkpointing_enable({"use_reentrant": False})
        if default_device() == "cpu":
            # Measured there: the fused attention's backward pass takes half again as long as the plain one's.
            llava.model.language_model.set_attn_implementation("eager")

    def forward(
        self, slide_features: Tensor, input_ids: Tensor, labels: Tensor, label_count: float
    ) -> dict[str, Tensor]:
        """Summed loss of the labelled tokens, divided by `label_count`. Shapes (B, n, C), (B, L), (B, L).

        `label_count` is the number of labelled tokens of the whole step per micro-batch and process, so that
        the mean over micro-batches and processes is the mean over all labelled tokens of the step.

        Padding is on the right and attention causal, so no labelled token ever sees it and no mask is
        needed. Logits are computed only where a label asks for them.
        """
        projector = self.llava.model.multi_modal_projector
        features = slide_features.to(projector.linear_1.weight.dtype)  # (B, n, C)
        states = self.llava.model.language_model(
            inputs_embeds=self.llava.merge(input_ids, features), use_cache=False
        ).last_hidden_state  # (B, L, W)
        targets = labels[:, 1:]  # (B, L-1)
        has_label = targets != IGNORE  # (B, L-1)
        logits = self.llava.lm_head(states[:, :-1][has_label]).float()  # (label_count, V)
        loss = torch.nn.functional.cross_entropy(logits, targets[has_label], reduction="sum")
        return {"loss": loss / label_count}


class SampleBatches:
    """Micro-batches of samples, each a function of its number: GROUPED batches are made at a time."""

    def __init__(
        self,
        pool: TokenPool,
        make: Make,
        size: int,
        seed: list[int],
        pad: int,
        share: BatchShare = ALONE,
    ) -> None:
        """`make` draws the samples of GROUPED batches of `size` samples; each time is told its number."""
        self.pool, self.make, self.size = pool, make, size
        self.seed, self.pad, self.share = seed, pad, share
        self.parts = share.parts(size)
        self._round, self._batches = -1, []  # type: tuple[int, list[list[Sample]]]

    @classmethod
    def of_stage(
        cls, number: int, parts: Parts, pool: TokenPool, make: Make, schedule: Schedule, seed: int
    ) -> Self:
        """The batches of stage 2 or 3, of which this process computes its share."""
        pad = int(parts.tokenizer.pad_token_id)
        share = BatchShare.here(schedule.micro_batch)
        return cls(pool, make, schedule.batch, [seed, 20 + number], pad, share)

    def batch(self, number: int) -> StageBatch:
        """The arguments of `LlavaTask.forward` for this process's share of a micro-batch."""
        step, part = divmod(number, self.parts)
        whole = self.samples(step)
        label_count = sum(len(labels) - 1 - labels[1:].count(IGNORE) for _, _, labels in whole)
        samples = self.share.of(whole, part) or [without_labels(whole[0])]
        return {
            "slide_features": self.pool.tokens[[i for i, _, _ in samples]].float(),
            "input_ids": padded([ids for _, ids, _ in samples], self.pad),
            "labels": padded([labels for _, _, labels in samples], IGNORE),
            "label_count": label_count / (self.share.world * self.parts),
            COUNTS: {"samples": len(whole), "tokens": sum(len(ids) for _, ids, _ in whole)},
        }

    def samples(self, step: int) -> list[Sample]:
        """All samples of a step, the same in every process."""
        turn, place = divmod(step, GROUPED)
        if turn != self._round:
            rng = np.random.default_rng([*self.seed, turn])
            samples = sorted(self.make(rng, turn), key=lambda sample: len(sample[1]))
            starts = self.size * rng.permutation(GROUPED)
            self._batches = [samples[start : start + self.size] for start in starts]
            self._round = turn
        return self._batches[place]


def fit_llava(
    llava: Any,
    batches: SampleBatches,
    schedule: Schedule,
    folder: Path,
    *,
    seed: int,
    rates: Mapping[str, float] | None = None,
    **options: Unpack[FitOptions],
) -> None:
    """Train what requires gradients of `llava` on `batches`, in place."""
    task = LlavaTask(llava, schedule.recompute)
    fit(task, batches.batch, schedule, folder, seed=seed, parts=batches.parts, rates=rates, **options)


def without_labels(sample: Sample) -> Sample:
    """The sample as one from which nothing is to be learned."""
    i, ids, labels = sample
    return i, ids, [IGNORE] * len(labels)


def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Rows of unequal length as one tensor (B, L), filled up on the right."""
    length = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows])


def epoch_positions(count: int, first: int, number: int, seed: Sequence[int]) -> list[int]:
    """`wanted` positions from the `first` on in an endless row that shows each of `count` once an epoch."""
    positions: list[int] = []
    while len(positions) < number:
        epoch, place = divmod(first + len(positions), count)
        order = np.random.default_rng([*seed, epoch]).permutation(count)
        positions += [int(i) for i in order[place : place + number - len(positions)]]
    return positions


def plain_samples(cohort: Cohort, pool: TokenPool, tokenizer: Any, recipe: Recipe) -> Make:
    """Stage 2: a description after the image tokens.

    Regions with a truth map are drawn at random, each with words of its own every time; where there is
    none, every slide comes once an epoch.
    """
    model, count = recipe.model, recipe.stage2.schedule.batch * GROUPED

    def make(rng: np.random.Generator, turn: int = 0) -> list[Sample]:
        samples = []
        if cohort.truths:
            positions = pool.draw(count, recipe.regions.whole_share, rng)
        else:
            positions = epoch_positions(len(pool), turn * count, count, [recipe.seed, 25])
        for i in positions:
            words = _described(cohort, pool, i, rng)
            ids_and_labels = encode_plain(
                tokenizer, words, recipe.n_tokens, recipe.stage2.max_length, template=model.template
            )
            samples.append((i, *ids_and_labels))
        return samples

    return make


def _described(cohort: Cohort, pool: TokenPool, i: int, rng: np.random.Generator) -> str:
    """A report of a slide, its own half of the time; of a region a report or caption."""
    truth, whole = pool.truth(i, cohort), pool.boxes[i] is None
    if truth is None or (whole and rng.random() < 0.5):
        return cohort.reports[pool.slides[i]]
    return pathology_report(truth, rng) if whole or rng.random() < 0.5 else caption(truth, rng)


def conversations(cohort: Cohort, pool: TokenPool, turns: int) -> list[tuple[int, list[Turn]]]:
    """Conversations about the pool's whole slides, `turns` questions at a time, with the place there."""
    return [
        (i, list(turns_told[start : start + turns]))
        for i, name in enumerate(pool.slides)
        if pool.boxes[i] is None
        for turns_told in [cohort.turns_about(name)]
        for start in range(0, len(turns_told), turns)
    ]


def instruction_samples(cohort: Cohort, pool: TokenPool, tokenizer: Any, recipe: Recipe) -> Make:
    """Stage 3: a few questions about one region, or of a slide those of instructions.json.

    As in `plain_samples`: at random with truth maps, else every question once an epoch.
    """
    settings, model = recipe.stage3, recipe.model
    count = settings.schedule.batch * GROUPED
    dialogues = [] if cohort.truths else conversations(cohort, pool, settings.turns)

    def make(rng: np.random.Generator, turn: int = 0) -> list[Sample]:
        if cohort.truths:
            drawn_dialogues = [_drawn(i, rng) for i in pool.draw(count, settings.whole_share, rng)]
        else:
            drawn_dialogues = [
                dialogues[k] for k in epoch_positions(len(dialogues), turn * count, count, [recipe.seed, 26])
            ]
        encode = partial(
            encode_turns,
            tokenizer,
            n_image_tokens=recipe.n_tokens,
            max_length=settings.max_length,
            system=model.system,
            template=model.template,
        )
        return [(i, *encode(turns)) for i, turns in drawn_dialogues]

    def _drawn(i: int, rng: np.random.Generator) -> tuple[int, list[Turn]]:
        turns = _asked(cohort, pool, i, rng)
        return i, [turns[k] for k in rng.permutation(len(turns))[: settings.turns]]

    return make


def _asked(cohort: Cohort, pool: TokenPool, i: int, rng: np.random.Generator) -> list[Turn]:
    """Questions about a region; of a slide without truth map, where none is given, a call for its report."""
    truth, name = pool.truth(i, cohort), pool.slides[i]
    if truth is None:
        return list(cohort.turns_about(name))
    pairs = list(cohort.turns.get(name, ())) if pool.boxes[i] is None else []
    if pairs and rng.random() < 0.25:
        return pairs
    return [Turn(qa.question, qa.answer, qa.options) for qa in questions(truth, rng)]
