"""How much lies linearly in a tile encoder's features: linear readers trained on some groups or slides and
judged on others.

Letters: N tiles, P px of a side, D channels of a feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from core_model.errors import CohortError
from training.tiles.batches import cell_truth, correlation, mean_class_recall
from training.tiles.data import HELD_OUT_SHARE, PhantomTiles, RealTiles, load_real_tiles
from training.tiles.heads import NO_LABEL

if TYPE_CHECKING:
    from core_model.encoders.vit import TileEncoder

Features = npt.NDArray[np.float32]
BATCH = 64


@dataclass(frozen=True)
class ProbeResult:
    """What a linear reader of the features reaches on held-out groups of real tiles."""

    balanced_accuracy: float
    per_class: dict[str, float]
    """Share of each class's held-out tiles that was found."""
    n_train: int
    """Tiles the reader was trained on."""
    n_test: int
    """Tiles it was judged on."""
    groups: tuple[int, int]
    """Groups of the tiles trained and judged on; none is in both."""


@dataclass(frozen=True)
class PhantomProbe:
    """What linear readers of the features reach on tiles of other phantom slides."""

    diagnosis: float
    """Balanced accuracy over the diagnoses that tiles show."""
    grade: float
    """Balanced accuracy over no tumour and grades 1 to 3."""
    zones: dict[str, float]
    """Pearson's r of the share of each zone."""
    lymphocytes: float
    """Pearson's r of log(1 + lymphocytes in the tile)."""
    mitoses: float
    """Pearson's r of the mitoses in the tile."""
    n_train: int
    n_test: int


def probe_real_tiles(encoder: TileEncoder, tiles_folder: str | Path, seed: int = 0) -> ProbeResult:
    """Logistic regression on standardised features of real tiles, split by group with `seed`.

    Seed 0 is the split that `TileSettings.split_seed` trains on by default; with another, the encoder may
    have been trained on tiles that it is judged on here.
    """
    tiles = load_real_tiles(tiles_folder, encoder.tile_px)
    return probe_features(encode(encoder, tiles.pixels), tiles, seed)


def probe_features(features: Features, tiles: RealTiles, seed: int = 0) -> ProbeResult:
    """Logistic regression on features (N, D) that are computed already; see `probe_real_tiles`."""
    is_held_out = tiles.split_groups(seed, HELD_OUT_SHARE)
    predictions = _classify(features[~is_held_out], tiles.labels[~is_held_out], features[is_held_out])
    labels = tiles.labels[is_held_out]
    per_class = {name: float((predictions[labels == i] == i).mean()) for i, name in enumerate(tiles.classes)}
    return ProbeResult(
        mean_class_recall(predictions, labels),
        per_class,
        int((~is_held_out).sum()),
        int(is_held_out.sum()),
        (len(np.unique(tiles.groups[~is_held_out])), len(np.unique(tiles.groups[is_held_out]))),
    )


def probe_phantom(encoder: TileEncoder, train: PhantomTiles, test: PhantomTiles) -> PhantomProbe:
    """Linear readers of every attribute, trained and judged on tiles of different slides.

    Raises CohortError where a slide is in both.
    """
    from training.phantom.truth import Zone

    shared_slides = np.intersect1d(train.slides, test.slides)
    if len(shared_slides):
        raise CohortError("this slide is both trained and judged on", where=shared_slides[0])
    train_features, test_features = encode(encoder, train.pixels), encode(encoder, test.pixels)
    train_truth = cell_truth(train, np.arange(len(train)))
    test_truth = cell_truth(test, np.arange(len(test)))
    accuracy = [
        _judge_classes(train_features, have.numpy(), test_features, want.numpy())
        for have, want in zip(train_truth.labels(), test_truth.labels(), strict=True)
    ]
    have = np.concatenate([train_truth.zone_shares().numpy(), train_truth.counts().numpy()], axis=1)
    want = np.concatenate([test_truth.zone_shares().numpy(), test_truth.counts().numpy()], axis=1)
    predictions = _regress(train_features, have, test_features)
    fit = [correlation(predictions[:, i], want[:, i]) for i in range(want.shape[1])]
    zones = {zone.name.lower(): fit[zone] for zone in Zone}
    lymphocytes, mitoses = fit[len(Zone) + 1 :]
    return PhantomProbe(accuracy[0], accuracy[1], zones, lymphocytes, mitoses, len(train), len(test))


def encode(encoder: TileEncoder, pixels: npt.NDArray[np.uint8]) -> Features:
    """Features (N, D) of tiles (N, P, P, 3)."""
    from PIL import Image

    rows = [
        encoder.encode([Image.fromarray(tile) for tile in pixels[start : start + BATCH]])
        for start in range(0, len(pixels), BATCH)
    ]
    return np.concatenate(rows)  # (N, D)


def _judge_classes(features: Features, have: Any, new: Features, want: Any) -> float:
    """Balanced accuracy over the rows that have a label."""
    has_label = have != NO_LABEL
    return mean_class_recall(_classify(features[has_label], have[has_label], new), want)


def _classify(features: Features, labels: Any, new: Features) -> npt.NDArray[np.int64]:
    """The class that logistic regression finds for each new row."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    reader = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    predictions: npt.NDArray[np.int64] = reader.fit(features, labels).predict(new)
    return predictions


def _regress(features: Features, values: Any, new: Features) -> npt.NDArray[np.float64]:
    """The values that ridge regression finds for each new row."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    reader = make_pipeline(StandardScaler(), Ridge(alpha=10.0))
    predictions: npt.NDArray[np.float64] = reader.fit(features, values).predict(new)
    return predictions
