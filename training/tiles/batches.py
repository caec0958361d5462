"""Batches of real and phantom tiles, and what a network's answers about held-out ones are worth.

Letters: B tiles of a batch, R of them real, K truth cells of a side, P px of a side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from training.tiles.augment import crop_and_resize, orient, resize, vary
from training.tiles.data import (
    CELLS,
    PhantomTiles,
    RealTiles,
    collect_phantom_tiles,
    load_real_tiles,
    read_split,
)
from training.tiles.heads import NO_LABEL, CellTruth
from training.tiles.settings import TileSettings

Answers = Callable[[Tensor], dict[str, np.ndarray]]
JUDGED = 400
"""At most this many held-out tiles of each sort are judged for a report."""


@dataclass(frozen=True)
class TileBatch:
    """Real tiles first, phantom tiles after them."""

    pixels: Tensor
    """(B, 3, side, side) normalised."""
    labels: Tensor
    """(R,) classes of the real tiles."""
    truth: CellTruth | None
    """Of the B - R phantom tiles."""

    def to(self, device: str) -> TileBatch:
        """A copy of the batch on another device."""
        return TileBatch(
            self.pixels.to(device),
            self.labels.to(device),
            None if self.truth is None else self.truth.to(device),
        )


class Deck:
    """Endless passes over `count` items, each pass in an order of its own."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed

    def take(self, start: int, number: int) -> np.ndarray:
        """Items `start` to `start + number` of the endless sequence, (number,)."""
        place = np.arange(start, start + number)
        passes = {
            int(i): np.random.default_rng([self.seed, int(i)]).permutation(self.count)
            for i in set(place // self.count)
        }
        return np.array([passes[int(i // self.count)][i % self.count] for i in place], dtype=np.int64)


class TileData:
    """All tiles in memory, and how batches are made of them."""

    def __init__(
        self,
        settings: TileSettings,
        real: RealTiles | None,
        phantom: PhantomTiles | None,
        unseen: PhantomTiles | None = None,
    ) -> None:
        """`unseen` are phantom tiles of validation slides."""
        self.settings, self.real, self.phantom, self.unseen = settings, real, phantom, unseen
        is_held_out = real.split_groups(settings.split_seed) if real is not None else np.zeros(0, bool)
        self.train_rows, self.held_rows = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
        self.classes = real.classes if real is not None else ()
        is_mixed = real is not None and phantom is not None
        share = settings.real_share if is_mixed else float(real is not None)
        self.n_real = round(settings.batch * share)
        self.n_phantom = settings.batch - self.n_real
        self._real_deck = Deck(len(self.train_rows), settings.seed)
        self._phantom_deck = Deck(len(phantom) if phantom is not None else 0, settings.seed)
        self._mean = torch.tensor(settings.encoder.mean).view(1, 3, 1, 1)
        self._std = torch.tensor(settings.encoder.std).view(1, 3, 1, 1)

    @classmethod
    def load(cls, cohort: str | Path | None, folder: str | Path | None, settings: TileSettings) -> TileData:
        """Read the tiles of a cohort, of a folder of real tiles, or of both."""
        encoder = settings.encoder
        real = load_real_tiles(folder, encoder.tile_px, settings.limit) if folder is not None else None
        if cohort is None:
            return cls(settings, real, None)
        split = read_split(cohort)

        def collect(names: list[str]) -> PhantomTiles:
            return collect_phantom_tiles(
                cohort,
                names,
                settings.per_slide,
                seed=settings.seed,
                tile_px=encoder.tile_px,
                mpp=encoder.mpp,
            )

        names = split["val"][: max(1, JUDGED // settings.per_slide)]
        phantom, unseen = collect(split["train"]), collect(names) if names else None
        return cls(settings, real, phantom, unseen)

    def batch(self, step: int, generator: Generator) -> TileBatch:
        """The batch of a step; whole tiles once the steps on crops are done."""
        settings = self.settings
        cells = settings.crop_cells if step < settings.crop_steps else CELLS
        scale = settings.crop_scale if step < settings.crop_steps else settings.full_scale
        parts: list[Tensor] = []
        labels = torch.zeros(0, dtype=torch.int64)
        truth = None
        if self.real is not None and self.n_real:
            rows = self.train_rows[self._real_deck.take(step * self.n_real, self.n_real)]
            images = torch.from_numpy(self.real.pixels[rows])  # (R, P, P, 3)
            pixels = crop_and_resize(images, cells * settings.cell_px, scale, generator)
            parts.append(orient(pixels, torch.randint(0, 8, (len(rows),), generator=generator)))
            labels = torch.from_numpy(self.real.labels[rows])
        if self.phantom is not None and self.n_phantom:
            rows = self._phantom_deck.take(step * self.n_phantom, self.n_phantom)
            pixels, truth = _phantom_crops(self.phantom, rows, cells, settings.cell_px, generator)
            parts.append(pixels)
        pixels_varied = vary(torch.cat(parts), settings.stain, generator)
        return TileBatch(self._normal(pixels_varied), labels, truth)

    def _normal(self, pixels: Tensor) -> Tensor:
        return (pixels / 255 - self._mean) / self._std

    def judge(self, answers: Answers) -> dict[str, float]:
        """Figures on held-out real tiles and on phantom tiles of validation slides, by the heads' answers."""
        figures: dict[str, float] = {}
        if self.real is not None:
            rows = _spread(self.held_rows)
            answers_by_head = self._ask(answers, self.real.pixels[rows])
            figures["real_balanced_accuracy"] = mean_class_recall(
                answers_by_head["real"].argmax(1), self.real.labels[rows]
            )
        if self.unseen is not None:
            rows = _spread(np.arange(len(self.unseen)))
            answers_by_head = self._ask(answers, self.unseen.pixels[rows])
            truth = cell_truth(self.unseen, rows)
            for name, labels in zip(("diagnosis", "grade"), truth.labels(), strict=True):
                figures[f"{name}_balanced_accuracy"] = mean_class_recall(
                    answers_by_head[name].argmax(1), labels.numpy()
                )
            counts = truth.counts().numpy()
            figures["lymphocytes_r"] = correlation(answers_by_head["counts"][:, 1], counts[:, 1])
            figures["mitoses_r"] = correlation(answers_by_head["counts"][:, 2], counts[:, 2])
        return {name: round(value, 4) for name, value in figures.items()}

    def _ask(self, answers: Answers, pixels: np.ndarray) -> dict[str, np.ndarray]:
        side = self.settings.encoder.tile_px
        parts = [answers(self._normal(resize(part, side))) for part in torch.from_numpy(pixels).split(64)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def cell_truth(tiles: PhantomTiles, rows: np.ndarray) -> CellTruth:
    """The truth of some whole tiles."""
    return CellTruth(
        torch.from_numpy(tiles.zones[rows].astype(np.int64)),
        torch.from_numpy(tiles.lymphocytes[rows].astype(np.float32)),
        torch.from_numpy(tiles.mitoses[rows].astype(np.float32)),
        torch.from_numpy(tiles.diagnosis[rows]),
        torch.from_numpy(tiles.grade[rows]),
    )


def _phantom_crops(
    tiles: PhantomTiles, rows: np.ndarray, cells: int, cell_px: int, generator: Generator
) -> tuple[Tensor, CellTruth]:
    """Crops of `cells` whole truth cells a side, turned by chance together with their truth.

    Pixels (B, 3, side, side) in 0..255.
    """
    places = torch.randint(0, CELLS - cells + 1, (len(rows), 2), generator=generator).tolist()
    turns = torch.randint(0, 8, (len(rows),), generator=generator)

    def cut(maps: Tensor, unit: int) -> Tensor:
        crops = [
            image[..., y * unit : (y + cells) * unit, x * unit : (x + cells) * unit]
            for image, (y, x) in zip(maps, places, strict=True)
        ]
        return orient(torch.stack(crops), turns)

    whole = cell_truth(tiles, rows)  # maps (B, K, K)
    pixels = cut(torch.from_numpy(tiles.pixels[rows]).permute(0, 3, 1, 2), cell_px).float()
    return pixels, replace(
        whole, zones=cut(whole.zones, 1), lymphocytes=cut(whole.lymphocytes, 1), mitoses=cut(whole.mitoses, 1)
    )


def mean_class_recall(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes present of the share of their rows that were found."""
    classes = np.unique(labels[labels != NO_LABEL])
    return (
        float(np.mean([(predictions[labels == c] == c).mean() for c in classes]))
        if len(classes)
        else float("nan")
    )


def correlation(predictions: np.ndarray, truth: np.ndarray) -> float:
    """Pearson's r; 0 where either does not vary."""
    if predictions.std() == 0 or truth.std() == 0:
        return 0.0
    return float(np.corrcoef(predictions, truth)[0, 1])


def _spread(rows: np.ndarray) -> np.ndarray:
    """At most JUDGED of the rows, evenly spread."""
    if len(rows) <= JUDGED:
        return rows
    return rows[np.linspace(0, len(rows) - 1, JUDGED).astype(int)]
