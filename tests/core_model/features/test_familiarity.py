"""How unlike its training data a slide is: one number from the distances of its tiles."""

from __future__ import annotations

import numpy as np
import pytest

from core_model.features.tiles import Familiarity, fit_familiarity

TRAINED = Familiarity(
    mean=np.array([1.0, 2.0], np.float32),
    scale=np.array([2.0, 0.5], np.float32),
    centroids=np.array([[0.0, 0.0], [10.0, 0.0]], np.float32),
)


def tiles_at(*distances: float) -> np.ndarray:
    """Tiles (N, 2) that lie so far from the first centroid, in root mean square per channel."""
    return np.array([[1.0, 2.0 + 0.5 * distance * np.sqrt(2)] for distance in distances], np.float32)


def test_a_tile_is_as_far_as_its_nearest_centroid() -> None:
    features = np.concatenate([tiles_at(0, 3), [[1.0 + 2.0 * 10, 2.0]]])  # the last is the second centroid
    assert TRAINED.distances(features) == pytest.approx([0, 3, 0], abs=1e-3)


@pytest.mark.parametrize(
    ("distances", "expected"),
    [
        ((1, 1, 1, 9, 9), 1),  # two odd tiles do not make a slide unfamiliar: mean 4.2, largest 9
        ((1, 1, 9, 9, 9), 9),  # a few ordinary ones do not make it familiar: mean 5.8, smallest 1
        ((1, 2, 4, 30), 3),
    ],
)
def test_a_slide_is_as_far_as_the_tile_in_the_middle(distances: tuple[float, ...], expected: float) -> None:
    assert TRAINED.distance(tiles_at(*distances)) == pytest.approx(expected, rel=1e-4)


def test_training_tiles_are_near_and_others_are_far() -> None:
    random = np.random.default_rng(0)
    training = random.normal(5, 2, (400, 8)).astype(np.float32)
    fitted = fit_familiarity(training, k=16)
    again = fit_familiarity(training, k=16)
    assert np.array_equal(fitted.centroids, again.centroids), "the same tiles give the same centroids"
    assert fitted.centroids.shape == (16, 8)
    assert fitted.scale == pytest.approx(training.std(axis=0), rel=1e-3)
    near, far = fitted.distance(training), fitted.distance(training + 20)
    assert near < 1.2
    assert far > 5 * near
    assert len(fit_familiarity(training[:3], k=16).centroids) == 3, "no more centroids than tiles"
