"""Smooth random fields and resampling: the geometry of a slide is drawn on a coarse grid and enlarged.

Letters: (h, w) rows and columns of a coarse grid, (H, W) of the fine one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Field = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def _axis_weights(length: int, target: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Field]:
    """Left index, right index and right weight of each of `target` pixel centres among `length` ones."""
    place = np.clip((np.arange(target) + 0.5) * length / target - 0.5, 0, length - 1)
    low = np.minimum(place.astype(np.intp), max(length - 2, 0))
    return low, np.minimum(low + 1, length - 1), (place - low).astype(np.float32)


def enlarge(field: Field, shape: tuple[int, int]) -> Field:
    """Linear interpolation of `field` (h, w) to `shape` (H, W), pixel centres aligned."""
    top, bottom, weight = _axis_weights(field.shape[0], shape[0])
    rows = field[top] + (field[bottom] - field[top]) * weight[:, None]  # (H, w)
    low, right, weight = _axis_weights(field.shape[1], shape[1])
    return rows[:, low] + (rows[:, right] - rows[:, low]) * weight[None, :]  # (H, W)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> Field:
    """Noise of mean 0 and standard deviation about 1 whose details are about `scale` px wide."""
    step = max(scale / 2.0, 1.0)
    coarse = tuple(int(np.ceil(side / step)) + 4 for side in shape)
    noise = rng.standard_normal(coarse, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, scale / step, mode="wrap", output=np.float32)
    noise /= max(float(noise.std()), 1e-6)
    return enlarge(noise, shape)


def texture(rng: np.random.Generator, side: int, scale: float) -> Field:
    """A tile (side, side) of noise with details of `scale` px that repeats without seams."""
    noise = rng.standard_normal((side, side), dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, scale, mode="wrap", output=np.float32)
    return (noise / noise.std()).astype(np.float32)


def top_share(score: Field, inside: Mask, share: float) -> Mask:
    """The part of `inside` with the highest scores that makes up `share` of it."""
    values = score[inside]
    count = round(share * values.size)
    if count <= 0:
        return np.zeros_like(inside)
    border = np.partition(values, values.size - count)[values.size - count]
    return inside & (score >= border)


def block_mean(field: npt.NDArray[Any], size: int) -> Field:
    """Mean over blocks of `size` x `size`; the sides must be multiples of `size`."""
    rows, columns = field.shape[0] // size, field.shape[1] // size
    return field.reshape(rows, size, columns, size).mean(axis=(1, 3), dtype=np.float32)


def scattered(rng: np.random.Generator, shape: tuple[int, int], spacing: float, jitter: float) -> Field:
    """Points (N, 2) as x, y px on a hexagonal grid of `spacing` px, each moved by up to `jitter` spacings."""
    row_step = spacing * 0.866
    rows, columns = int(shape[0] / row_step) + 1, int(shape[1] / spacing) + 1
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    points = np.stack([(x + 0.5 * (y % 2)) * spacing, y * row_step], axis=-1).reshape(-1, 2)
    points += rng.uniform(-jitter, jitter, points.shape).astype(np.float32) * spacing
    inside = (points >= 0).all(1) & (points[:, 0] < shape[1] - 1) & (points[:, 1] < shape[0] - 1)
    return points[inside]


def at(grid: npt.NDArray[Any], points: Field) -> npt.NDArray[Any]:
    """Values of `grid` (h, w) under points (N, 2) given as x, y px of that grid."""
    return grid[points[:, 1].astype(np.intp), points[:, 0].astype(np.intp)]
