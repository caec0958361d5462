"""`WsiLlava`: all parts of a model behind one object that speaks of features, questions and answers.

Letters: n slide tokens, R regions, O options.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import ValidationError

from core_model.checkpoints.folder import load_checkpoint, read_config
from core_model.config import GenerationConfig
from core_model.devices import default_device
from core_model.errors import UsageError
from core_model.features.tiles import SlideTokens
from core_model.language import conversation, wsi_llava
from core_model.models.embedder import Embedder
from core_model.models.tile_encoders import MINI
from core_model.words import content_words, unknown_words

if TYPE_CHECKING:
    from core_model.checkpoints.parts import Parts
    from core_model.config import ModelConfig
    from core_model.features.tiles import TileFeatures


@dataclass(frozen=True)
class Usage:
    """Tokens that the language model has read and written so far."""

    tokens_in: int = 0
    tokens_out: int = 0


class WsiLlava(Embedder):
    """A loaded model. Every method takes tile features of a slide or of a region of one.

    Those that only read slide tokens (`answer`, `generate`, `score_options`) take `SlideTokens` as well.
    Methods that look at features raise `NoTissue` where there is no tile, and `FeatureStoreError` where
    the features are another encoder's. A model may lack parts: what needs one raises `CheckpointError`.
    """

    def __init__(self, folder: Path, parts: Parts, config: ModelConfig, device: str | None = None) -> None:
        super().__init__(folder, parts, config, device)
        self._familiar = parts.familiarity
        self._words = frozenset(parts.words) if parts.words is not None else None
        self._usage = Usage()

    # ---- questions ----

    def answer(
        self, features: TileFeatures | SlideTokens, question: str, options: list[str] | None = None
    ) -> str:
        """The likeliest option, or without options the generated text."""
        if options:
            return options[int(self.score_options(features, question, options).argmax())]
        return self.generate(features, question)[0]

    @torch.inference_mode()
    def generate(
        self,
        features: TileFeatures | SlideTokens,
        question: str,
        options: list[str] | None = None,
        max_new_tokens: int | None = None,
        **how: Any,
    ) -> tuple[str, float]:
        """Text that the model writes, and the geometric mean of its tokens' probabilities.

        It writes as `config.generation` says; `max_new_tokens` and fields of `GenerationConfig` given as
        keywords (`temperature=0.7`) come first. Raises `UsageError` where the question is longer than the
        model can read, or a keyword means nothing.
        """
        llava, settings = self.need("llava"), self._generation(max_new_tokens, how)
        prompt = conversation.encode_prompt(
            self.tokenizer,
            question,
            options,
            self.config.n_tokens,
            self.config.language_model.max_positions - settings.max_new_tokens,
            system=self.config.system,
            template=self.config.template,
        )
        ids, probability = wsi_llava.write(llava, self.slide_tokens(features)[None], prompt, settings)
        self._count(len(prompt), len(ids))
        return conversation.readable(self.tokenizer.decode(ids, skip_special_tokens=True)), probability

    def _generation(self, max_new_tokens: int | None, how: dict[str, Any]) -> GenerationConfig:
        settings = how if max_new_tokens is None else how | {"max_new_tokens": max_new_tokens}
        try:
            wish = GenerationConfig.model_validate(self.config.generation.model_dump() | settings)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise UsageError(f"generation: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        room = self.config.language_model.max_positions // 2  # the other half is for slide and question
        return wish.model_copy(update={"max_new_tokens": min(wish.max_new_tokens, room)})

    def score_options(
        self, features: TileFeatures | SlideTokens, question: str, options: Sequence[str]
    ) -> np.ndarray:
        """Probability of each option (O,), see `score_options_many`."""
        return self.score_options_many([features], question, options)[0]

    @torch.inference_mode()
    def score_options_many(
        self, many: Sequence[TileFeatures | SlideTokens], question: str, options: Sequence[str]
    ) -> np.ndarray:
        """Probability of each option for each region, (R, O); rows sum to 1.

        The softmax of the summed log-likelihood of the option's words and their closing token, divided by
        the calibrated temperature. Raises `UsageError` where the question is too long.
        """
        if not many:
            return np.zeros((0, len(options)))
        conversations = self._encoded(question, options)
        tokens = torch.stack([self.slide_tokens(features) for features in many])  # (R, n, C)
        scores = wsi_llava.option_log_likelihoods(self.need("llava"), tokens, conversations)  # (R, O)
        self._count(len(many) * sum(len(ids) for ids, _ in conversations), 0)
        scores = scores / self.config.calibration.temperature
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)  # (R, O)

    def _encoded(self, question: str, options: Sequence[str]) -> list[wsi_llava.Encoded]:
        """The conversation that each option would make, whole."""
        config, limit = self.config, self.config.language_model.max_positions
        conversations = []
        for option in options:
            turn = conversation.Turn(question, option, tuple(options))
            ids, labels = conversation.encode_turns(
                self.tokenizer,
                [turn],
                config.n_tokens,
                sys.maxsize,
                system=config.system,
                template=config.template,
            )
            if len(ids) > limit:
                raise UsageError(
                    f"question and options make {len(ids)} tokens, the model reads at most {limit}",
                    fix="ask a shorter question or offer fewer options",
                )
            conversations.append((ids, labels))
        return conversations

    # ---- what the model knows ----

    def slide_unfamiliarity(self, features: TileFeatures) -> float:
        """Median tile distance to the training tiles over its threshold: above 1 is unlike training."""
        limit = self.config.familiarity.slide_threshold
        if self._familiar is None or limit is None:
            return 0.0
        self._inputs(features)
        return self._familiar.distance(features.features) / limit

    def question_unfamiliarity(
        self, question: str, options: Sequence[str] | None = None
    ) -> tuple[float, list[str]]:
        """How unlike the training questions this is (above 1: unlike), and the words never seen there.

        The larger of two ratios: share of unknown content words over the share allowed, and the language
        model's surprise at the question over its threshold. Without any content word it counts as unlike.
        """
        limits = self.config.familiarity
        text = " ".join([question, *(options or ())])
        unknown = unknown_words(text, self._words) if self._words is not None else []
        subject = len(set(content_words(text)))
        share = (len(unknown) / subject if subject else 1.0) if self._words is not None else 0.0
        ratio = share / limits.unknown_share
        if limits.question_nll is not None:
            ratio = max(ratio, self.question_nll(question) / limits.question_nll)
        return ratio, unknown

    @torch.inference_mode()
    def question_nll(self, question: str) -> float:
        """Mean negative log-likelihood (nats) of the question's tokens as a user's first words."""
        text, (start, stop) = conversation.question_alone(
            question, system=self.config.system, template=self.config.template
        )
        encoding = self.tokenizer(text, return_offsets_mapping=True)
        limit = self.config.language_model.max_positions
        is_question = [a < stop and b > start and b > a for a, b in encoding["offset_mapping"]]
        return wsi_llava.mean_nll(self.need("llava"), encoding["input_ids"][:limit], is_question[:limit])

    @property
    def usage(self) -> Usage:
        """Tokens read and written since the model was loaded."""
        return self._usage

    def _count(self, tokens_in: int, tokens_out: int) -> None:
        self._usage = Usage(self._usage.tokens_in + tokens_in, self._usage.tokens_out + tokens_out)


def load_model(
    name_or_folder: str | Path = "mini",
    device: str | None = None,
    *,
    bits: int | None = None,
    dtype: torch.dtype | None = None,
) -> WsiLlava:
    """The embedded model, or the one in a checkpoint folder, with the parts that it holds.

    Projector and language model are in `dtype`: by default as stored on a GPU, float32 on a CPU. With `bits`
    (4 or 8) the language model's layers are packed by bitsandbytes. Raises `CheckpointError`.
    """
    folder = MINI if str(name_or_folder) == "mini" else Path(name_or_folder)
    device = device or default_device()
    if bits is not None:
        from core_model.language.quantize import check_bits, pack

        check_bits(bits)
    if dtype is None and (bits is not None or torch.device(device).type != "cpu"):
        dtype = getattr(torch, read_config(folder, verify=False).dtype)
    parts, config = load_checkpoint(folder, dtype=dtype, device="cpu" if bits else device)
    if bits is not None and parts.llava is not None:
        pack(parts.llava, bits, device)
    return WsiLlava(folder, parts, config, device)
