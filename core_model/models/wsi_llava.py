"""`WsiLlava`: all parts of a model behind one object that speaks of features, questions and answers.

`Embedder` is what comes before any question: slide tokens, and vectors of slides and texts in a shared space.

Letters: N tiles, n slide tokens, C channels of a slide token, E channels of the shared space, T texts, R
regions, O options.
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
from torch import Tensor
from torch.nn import functional as F

from core_model.checkpoints.folder import load_checkpoint, read_config
from core_model.config import GenerationConfig
from core_model.devices import default_device
from core_model.encoders.slide_encoder import encoder_coords
from core_model.encoders.vit import bind
from core_model.errors import CheckpointError, FeatureStoreError, NoTissue, UsageError
from core_model.features.tiles import SlideTokens
from core_model.language import conversation, wsi_llava
from core_model.models.tile_encoders import MINI
from core_model.words import content_words, unknown_words

if TYPE_CHECKING:
    from core_model.checkpoints.parts import Parts
    from core_model.config import ModelConfig
    from core_model.encoders.vit import TileEncoder
    from core_model.features.tiles import TileFeatures

TEXTS_AT_ONCE = 64

TILES_AT_ONCE = 1024

WORTH_KEEPING = 256
"""Tiles from which on encoding a slide again takes longer than a moment."""

INSTEAD = {
    "tile_encoder": "give features or slide tokens that are computed already, or import one with the model",
    "slide_encoder": "give slide tokens (.pt) in place of a slide, or import one with the model",
    "alignment": "ask with --mode slide, which searches nothing by text",
    "llava": "use the checkpoint of a later training stage",
}
"""What to do without a part."""


class Embedder:
    """The parts of a loaded model, and what needs no language model of them.

    A model may lack parts: what needs one raises `CheckpointError`.
    """

    def __init__(self, folder: Path, parts: Parts, config: ModelConfig, device: str | None = None) -> None:
        self.folder, self.config = folder, config
        self.name, self.version = config.name, config.model_version
        self.device = device or default_device()
        self.tokenizer = parts.tokenizer
        self._text_tokenizer = parts.text_tokenizer or parts.tokenizer
        self._parts: dict[str, Any] = {
            name: part.eval().requires_grad_(False).to(self.device)
            for name in ("slide_encoder", "alignment", "llava")
            if (part := getattr(parts, name)) is not None
        }
        if (network := parts.tile_encoder) is not None:
            encoder = bind(network, config.name, config.tile_encoder, self.device)
            self._parts["tile_encoder"] = encoder
        self._recent: list[tuple[TileFeatures, Tensor]] = []

    def has(self, part: str) -> bool:
        """True where the model has the part: tile_encoder, slide_encoder, alignment or llava."""
        return part in self._parts

    def need(self, part: str) -> Any:
        """A part (see `has`), or `CheckpointError` that says what works without it."""
        if part not in self._parts:
            name = "language model" if part == "llava" else part.replace("_", " ")
            raise CheckpointError(
                f"the model '{self.name}' has no {name}", where=self.folder, fix=INSTEAD[part]
            )
        return self._parts[part]

    @property
    def tile_encoder(self) -> TileEncoder:
        """The encoder of the tile features that this model reads."""
        encoder: TileEncoder = self.need("tile_encoder")
        return encoder

    # ---- slides ----

    @torch.inference_mode()
    def slide_tokens(self, features: TileFeatures | SlideTokens) -> Tensor:
        """The slide or region as the language model sees it: (n, C) float32."""
        if isinstance(features, SlideTokens):
            return self._stored(features)
        tokens = self._pooled(features)  # (n, D)
        return F.pad(tokens, (0, self.config.feature_dim - tokens.shape[1]))

    def _stored(self, slide: SlideTokens) -> Tensor:
        shape, own_shape = tuple(slide.tokens.shape), (self.config.n_tokens, self.config.feature_dim)
        if shape != own_shape:
            raise FeatureStoreError(
                f"slide tokens of '{slide.name}' have shape {shape}, '{self.name}' reads {own_shape}"
            )
        return slide.tokens.to(self.device)

    @torch.inference_mode()
    def embed_slide(self, features: TileFeatures) -> np.ndarray:
        """One unit vector (E,) for the slide or region, in the space of `embed_text`."""
        return self.need("alignment").head(self._pooled(features)[None])[0].cpu().numpy()  # (E,)

    def _pooled(self, features: TileFeatures) -> Tensor:
        """Slide tokens before padding (n, D). An agent asks many questions of one slide: those are kept."""
        for recent, tokens in self._recent:
            if recent is features:
                return tokens
        tokens = self.need("slide_encoder").slide_tokens(
            *self._inputs(features), self.config.n_tokens, pooling=self.config.pooling
        )[0]
        if len(features) >= WORTH_KEEPING:
            self._recent = [(features, tokens), *self._recent][:2]
        return tokens

    @torch.inference_mode()
    def embed_tiles(self, features: TileFeatures) -> np.ndarray:
        """A unit vector for each tile on its own (N, E), in the space of `embed_text`."""
        tiles, coords = (x.transpose(0, 1) for x in self._inputs(features))  # (N, 1, ·): slides of one tile
        batches = zip(tiles.split(TILES_AT_ONCE), coords.split(TILES_AT_ONCE), strict=True)
        head, encoder = self.need("alignment").head, self.need("slide_encoder")
        rows = [head(encoder.slide_tokens(*batch, 1, pooling=self.config.pooling)) for batch in batches]
        return torch.cat(rows).cpu().numpy()  # (N, E)

    def _inputs(self, features: TileFeatures) -> tuple[Tensor, Tensor]:
        """Tile features (1, N, C) and their places in px at encoder mpp (1, N, 2)."""
        if len(features) == 0:
            raise NoTissue("there is no tile of tissue here to look at")
        channels = self.config.slide_encoder.in_chans
        made_by = self.tile_encoder.name if self.has("tile_encoder") else features.encoder
        if features.features.shape[1] != channels or features.encoder != made_by:
            raise FeatureStoreError(
                f"features of '{features.encoder}' with {features.features.shape[1]} channels do not fit"
                f" '{self.name}', which reads {channels} channels of '{made_by}'",
                fix="compute them with this model's tile encoder",
            )
        places = encoder_coords(*features.squared, self.config.slide_encoder.encoder_mpp)
        tiles = torch.from_numpy(np.ascontiguousarray(features.features, dtype=np.float32))
        # (1, N, C), (1, N, 2)
        return tiles[None].to(self.device), torch.from_numpy(places)[None].to(self.device)

    # ---- text ----

    @torch.inference_mode()
    def embed_text(self, texts: list[str]) -> np.ndarray:
        """Unit vectors (T, E); words beyond the text tower's reach are cut off."""
        tower = self.need("alignment").text
        rows = [np.zeros((0, self.config.alignment.shared_dim), dtype=np.float32)]
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            batch = self._text_tokenizer(
                [conversation.without_special_tokens(text) for text in texts[start : start + TEXTS_AT_ONCE]],
                padding=True,
                truncation=True,
                max_length=self.config.alignment.max_positions,
                return_tensors="pt",
            ).to(self.device)
            rows.append(tower(batch["input_ids"], batch["attention_mask"]).cpu().numpy())
        return np.concatenate(rows)  # (T, E)


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
