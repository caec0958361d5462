"""Pretrains the tile encoder on real and phantom tiles at once.

A short loop of its own rather than transformers' Trainer: a batch is cut from arrays in memory and varied
as a whole, and crops and whole tiles share one network, which single examples in a loader would slow down.
The kept network is the moving average of the weights.

Letters: B tiles of a batch, n patches of a side, D channels.
"""

from __future__ import annotations

import copy
import json
import math
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from core_model.checkpoints.folder import ModelConfig, Parts, new_model, save_checkpoint
from core_model.config import SlideEncoderConfig
from core_model.devices import default_device, has_bf16
from core_model.errors import CheckpointError, UsageError
from core_model.files import replacing, writing
from training.tiles.batches import TileBatch, TileData
from training.tiles.heads import TileHeads
from training.tiles.settings import TileSettings
from training.tiles.vit import place_positions, vit_tokens

__all__ = ["TileSettings", "pretrain_tile_encoder"]

ENCODER, LOG, STATE = "encoder", "log.jsonl", "state.pt"
"""In the output folder: the checkpoint, one line per report, and what a resumed run needs."""


def pretrain_tile_encoder(
    cohort: str | Path | None,
    tiles_folder: str | Path | None,
    out: str | Path,
    settings: TileSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Train on the tiles of a cohort, of a folder, or of both; returns the encoder's checkpoint folder.

    A run that was broken off goes on from its last state in `out` and ends as if it had not been; a state
    of other settings is refused with CheckpointError. Raises UsageError where there is nothing to train on.
    """
    settings = settings or TileSettings()
    if cohort is None and tiles_folder is None:
        raise UsageError(
            "there are no tiles to train on", fix="give a cohort, a folder of real tiles, or both"
        )
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    run = TileRun(settings, TileData.load(cohort, tiles_folder, settings))
    run.resume(out / STATE)
    while run.step < settings.steps:
        run.advance()
        if run.step % settings.report_every == 0 or run.step == settings.steps:
            with writing("the log", out / LOG), (out / LOG).open("a", encoding="utf-8") as log:
                log.write(json.dumps(run.report()) + "\n")
            run.save(out / STATE)
        if progress is not None:
            progress(run.step, settings.steps)
    return _write_encoder(run, out / ENCODER)


def _write_encoder(run: TileRun, folder: Path) -> Path:
    """The averaged network as a checkpoint folder of one part."""
    encoder = run.settings.encoder
    config = ModelConfig(
        name="tile-encoder",
        tile_encoder=encoder,
        slide_encoder=SlideEncoderConfig(in_chans=encoder.embed_dim),
        training={"tile_pretrain": run.settings.plain()},
    )
    save_checkpoint(folder, Parts(tile_encoder=run.averaged.encoder), config)
    return folder


class Student(nn.Module):
    """The encoder with its heads."""

    def __init__(self, encoder: nn.Module, heads: TileHeads) -> None:
        super().__init__()
        self.encoder, self.heads = encoder, heads


class TileRun:
    """One training in progress: everything that a step changes."""

    def __init__(self, settings: TileSettings, data: TileData) -> None:
        self.settings, self.data = settings, data
        self.device = default_device()
        self.bf16 = has_bf16(self.device)
        self.student = _new_student(settings, data).to(self.device)
        self.averaged = copy.deepcopy(self.student).eval()
        self.optimizer = _optimizer(self.student, settings)
        self.step = 0
        self._sums: dict[str, float] = {}
        self._since, self._clock = 0, time.monotonic()

    def advance(self) -> None:
        """One step. What it does follows from the settings and the number of the step alone."""
        generator = Generator().manual_seed(self.settings.seed * 1_000_003 + self.step)
        batch = self.data.batch(self.step, generator).to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.student.train()
        losses = self._losses(batch, generator)
        total = losses["total"]
        self.optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._average()
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach())
        self._since += 1

    def _learning_rate(self) -> float:
        share = (self.step + 1) / self.settings.steps
        rise = min(1.0, share / self.settings.warmup) if self.settings.warmup else 1.0
        return self.settings.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))

    def _losses(self, batch: TileBatch, generator: Generator) -> dict[str, Tensor]:
        heads, settings = self.student.heads, self.settings
        losses: dict[str, Tensor] = {}
        total = torch.zeros((), device=self.device)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            states = vit_tokens(
                self.student.encoder, batch.pixels, settings.drop_path, generator
            )  # (B, 1 + n·n, D)
            real = len(batch.labels)
            if real:
                losses["real"] = heads.real_loss(states[:real, 0], batch.labels, settings.smoothing)
                total = total + losses["real"]
            if batch.truth is not None:
                phantom_losses = heads.tile_losses(states[real:, 0], batch.truth)
                phantom_losses |= heads.cell_losses(states[real:, 1:], batch.truth)
                total = total + settings.phantom_weight * torch.stack(list(phantom_losses.values())).sum()
                losses |= phantom_losses
        return losses | {"total": total}

    @torch.no_grad()
    def _average(self) -> None:
        """Move the average; early on it forgets faster, so that it is never mostly the random start."""
        decay = min(self.settings.average, (1 + self.step) / (10 + self.step))
        for mean, value in zip(self.averaged.parameters(), self.student.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)

    def report(self) -> dict[str, Any]:
        """Mean losses since the last report, speed, and how the averaged network does on held-out tiles."""
        since = max(1, self._since)
        row: dict[str, Any] = {
            "step": self.step,
            "seconds_per_step": round((time.monotonic() - self._clock) / since, 3),
            "losses": {name: round(value / since, 4) for name, value in self._sums.items()},
            "held_out": self.data.judge(self._answers),
        }
        self._sums, self._since, self._clock = {}, 0, time.monotonic()
        return row

    @torch.no_grad()
    def _answers(self, pixels: Tensor) -> dict[str, np.ndarray]:
        """What the averaged network's heads say of whole tiles (B, 3, px, px)."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            cls = self.averaged.encoder(pixel_values=pixels.to(self.device)).last_hidden_state[:, 0]
            heads = self.averaged.heads
            return {
                name: getattr(heads, name)(cls).float().cpu().numpy()
                for name in ("real", "diagnosis", "grade", "counts")
            }

    def save(self, path: Path) -> None:
        """Write everything that a step changes, whole or not at all."""
        state = {
            "settings": self.settings.plain(),
            "step": self.step,
            "student": self.student.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        # To an open file: torch does not say what the system answers where it opens one itself.
        with writing("the state", path), replacing(path) as part, part.open("wb") as file:
            torch.save(state, file)

    def resume(self, path: Path) -> None:
        """Go on from a state, where there is one. Raises CheckpointError if it is not this run's."""
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            is_same = state["settings"] == self.settings.plain()
        except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
            raise CheckpointError(
                f"the saved state cannot be read ({error})", where=path, fix="remove it to start again"
            ) from error
        if not is_same:
            raise CheckpointError(
                "the saved state is of a training with other settings",
                where=path,
                fix="choose another folder",
            )
        self.student.load_state_dict(state["student"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def _new_student(settings: TileSettings, data: TileData) -> Student:
    """Encoder and heads with random weights that follow from the seed."""
    config = ModelConfig(
        tile_encoder=settings.encoder, slide_encoder=SlideEncoderConfig(in_chans=settings.encoder.embed_dim)
    )
    encoder = new_model(config, seed=settings.seed, only=("tile_encoder",)).tile_encoder
    assert encoder is not None
    place_positions(encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return Student(encoder, TileHeads(settings.encoder.embed_dim, len(data.classes)))


def _optimizer(student: nn.Module, settings: TileSettings) -> torch.optim.Optimizer:
    """AdamW; matrices decay, vectors do not."""
    matrices = [p for p in student.parameters() if p.ndim > 1]
    vectors = [p for p in student.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)
