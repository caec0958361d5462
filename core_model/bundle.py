"""`WsiLlava`: all parts of a model behind one object that speaks of features, questions and answers.

Letters: N tiles, n slide tokens, C channels of a slide token, E channels of the shared space, R regions.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core_model import conversation, scoring
from core_model.checkpoint import load_checkpoint
from core_model.errors import FeatureStoreError, NoTissue, UsageError
from core_model.parts import WEIGHT_FILES
from core_model.slide_encoder import encoder_coords
from core_model.tile_encoder import MINI, bind, default_device
from core_model.words import content_words, unknown_words

if TYPE_CHECKING:
    from core_model.config import ModelConfig
    from core_model.features import TileFeatures
    from core_model.parts import Parts
    from core_model.tile_encoder import TileEncoder

TEXTS_AT_ONCE = 64
TILES_AT_ONCE = 1024
WORTH_KEEPING = 256
"""Tiles from which on encoding a slide again takes longer than a moment."""


@dataclass(frozen=True)
class Usage:
    """Tokens that the language model has read and written so far."""

    tokens_in: int = 0
    tokens_out: int = 0


class WsiLlava:
    """A loaded model. Every method takes tile features of a slide, or of a region of one.

    Methods that look at features raise `NoTissue` where there is no tile, and `FeatureStoreError` where
    the features are another encoder's.
    """

    def __init__(self, folder: Path, parts: Parts, config: ModelConfig, device: str | None = None) -> None:
        self.folder, self.config = folder, config
        self.name, self.version = config.name, config.model_version
        self.device = device or default_device()
        self.tile_encoder: TileEncoder = bind(
            parts.tile_encoder, config.name, config.tile_encoder, self.device
        )
        self.tokenizer = parts.tokenizer
        self._slide: Any = _ready(parts.slide_encoder, self.device)
        self._alignment: Any = _ready(parts.alignment, self.device)
        self._llava: Any = _ready(parts.llava, self.device)
        self._familiar = parts.familiarity
        self._words = frozenset(parts.words) if parts.words is not None else None
        self._recent: list[tuple[TileFeatures, Tensor]] = []
        self._usage = Usage()

    # ---- slides ----

    @torch.inference_mode()
    def slide_tokens(self, features: TileFeatures) -> Tensor:
        """The slide or region as the language model sees it: (n, C) float32."""
        pooled = self._pooled(features)  # (n, D)
        return F.pad(pooled, (0, self.config.feature_dim - pooled.shape[1]))

    @torch.inference_mode()
    def embed_slide(self, features: TileFeatures) -> np.ndarray:
        """One unit vector (E,) for the slide or region, in the space of `embed_text`."""
        return self._alignment.head(self._pooled(features)[None])[0].cpu().numpy()

    def _pooled(self, features: TileFeatures) -> Tensor:
        """Slide tokens before padding (n, D). An agent asks many questions of one slide: those are kept."""
        for known, pooled in self._recent:
            if known is features:
                return pooled
        pooled = self._slide.slide_tokens(*self._inputs(features), self.config.n_tokens)[0]
        if len(features) >= WORTH_KEEPING:
            self._recent = [(features, pooled), *self._recent][:2]
        return pooled

    @torch.inference_mode()
    def embed_tiles(self, features: TileFeatures) -> np.ndarray:
        """A unit vector for each tile on its own (N, E), in the space of `embed_text`."""
        tiles, coords = (x.transpose(0, 1) for x in self._inputs(features))  # (N, 1, ·): slides of one tile
        batches = zip(tiles.split(TILES_AT_ONCE), coords.split(TILES_AT_ONCE), strict=True)
        rows = [self._alignment.head(self._slide.slide_tokens(*batch, 1)) for batch in batches]
        return torch.cat(rows).cpu().numpy()

    def _inputs(self, features: TileFeatures) -> tuple[Tensor, Tensor]:
        """Tile features (1, N, C) and their places in px at encoder mpp (1, N, 2)."""
        if len(features) == 0:
            raise NoTissue("there is no tile of tissue here to look at")
        expected = self.config.slide_encoder.in_chans
        if features.features.shape[1] != expected or features.encoder != self.tile_encoder.name:
            raise FeatureStoreError(
                f"features of '{features.encoder}' with {features.features.shape[1]} channels do not fit"
                f" '{self.name}', which reads {expected} channels of '{self.tile_encoder.name}'",
                fix="compute them with this model's tile encoder",
            )
        places = encoder_coords(features.coords, features.slide_mpp, self.config.slide_encoder.encoder_mpp)
        tiles = torch.from_numpy(np.ascontiguousarray(features.features, dtype=np.float32))
        return tiles[None].to(self.device), torch.from_numpy(places)[None].to(self.device)

    # ---- text ----

    @torch.inference_mode()
    def embed_text(self, texts: list[str]) -> np.ndarray:
        """Unit vectors (T, E); words beyond the text tower's reach are cut off."""
        rows = [np.zeros((0, self.config.alignment.shared_dim), dtype=np.float32)]
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            batch = self.tokenizer(
                [conversation.clean(text) for text in texts[start : start + TEXTS_AT_ONCE]],
                padding=True,
                truncation=True,
                max_length=self.config.alignment.max_positions,
                return_tensors="pt",
            ).to(self.device)
            rows.append(self._alignment.text(batch["input_ids"], batch["attention_mask"]).cpu().numpy())
        return np.concatenate(rows)

    # ---- questions ----

    def answer(self, features: TileFeatures, question: str, options: list[str] | None = None) -> str:
        """The likeliest option, or without options the generated text."""
        if options:
            return options[int(self.score_options(features, question, options).argmax())]
        return self.generate(features, question)[0]

    @torch.inference_mode()
    def generate(
        self,
        features: TileFeatures,
        question: str,
        options: list[str] | None = None,
        max_new_tokens: int = 64,
    ) -> tuple[str, float]:
        """Text written greedily, and the geometric mean of its tokens' probabilities.

        Raises `UsageError` where the question is longer than the model can read.
        """
        prompt = conversation.encode_prompt(
            self.tokenizer,
            question,
            options,
            self.config.n_tokens,
            self.config.language_model.max_positions - max_new_tokens,
            system=self.config.system,
        )
        ids, probability = scoring.write(
            self._llava, self.slide_tokens(features)[None], prompt, max_new_tokens
        )
        self._count(len(prompt), len(ids))
        return conversation.readable(self.tokenizer.decode(ids, skip_special_tokens=True)), probability

    def score_options(self, features: TileFeatures, question: str, options: Sequence[str]) -> np.ndarray:
        """Probability of each option (O,), see `score_options_many`."""
        return self.score_options_many([features], question, options)[0]

    @torch.inference_mode()
    def score_options_many(
        self, many: Sequence[TileFeatures], question: str, options: Sequence[str]
    ) -> np.ndarray:
        """Probability of each option for each region, (R, O); rows sum to 1.

        The softmax of the summed log-likelihood of the option's words and the closing `</s>`, divided by
        the calibrated temperature. Raises `UsageError` where the question is too long.
        """
        if not many:
            return np.zeros((0, len(options)))
        encoded = self._encoded(question, options)
        tokens = torch.stack([self.slide_tokens(features) for features in many])  # (R, n, C)
        scores = scoring.option_log_likelihoods(self._llava, tokens, encoded)  # (R, O)
        self._count(len(many) * sum(len(ids) for ids, _ in encoded), 0)
        scores = scores / self.config.calibration.temperature
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def _encoded(self, question: str, options: Sequence[str]) -> list[scoring.Encoded]:
        """The conversation that each option would make, whole."""
        config, limit = self.config, self.config.language_model.max_positions
        encoded = []
        for option in options:
            turn = conversation.Turn(question, option, tuple(options))
            ids, labels = conversation.encode_turns(
                self.tokenizer, [turn], config.n_tokens, sys.maxsize, system=config.system
            )
            if len(ids) > limit:
                raise UsageError(
                    f"question and options make {len(ids)} tokens, the model reads at most {limit}",
                    fix="ask a shorter question or offer fewer options",
                )
            encoded.append((ids, labels))
        return encoded

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
        words = conversation.asked(question)
        text = conversation.prompt(question, n_image_tokens=0, system=self.config.system)
        start = text.index("\n") + 1
        encoded = self.tokenizer(text, return_offsets_mapping=True)
        limit = self.config.language_model.max_positions
        counted = [a < start + len(words) and b > start and b > a for a, b in encoded["offset_mapping"]]
        return scoring.mean_nll(self._llava, encoded["input_ids"][:limit], counted[:limit])

    @property
    def usage(self) -> Usage:
        """Tokens read and written since the model was loaded."""
        return self._usage

    def _count(self, read: int, written: int) -> None:
        self._usage = Usage(self._usage.tokens_in + read, self._usage.tokens_out + written)


def load_model(name_or_folder: str | Path = "mini", device: str | None = None) -> WsiLlava:
    """The embedded model, or the one in a checkpoint folder. Raises `CheckpointError`."""
    folder = MINI if str(name_or_folder) == "mini" else Path(name_or_folder)
    parts, config = load_checkpoint(folder, need=WEIGHT_FILES)
    return WsiLlava(folder, parts, config, device)


def _ready(module: Any, device: str) -> Any:
    return module.eval().requires_grad_(False).to(device)
