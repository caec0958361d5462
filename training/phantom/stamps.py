"""Small pictures of nuclei, drawn once per slide and then stamped many times.

A stamp holds haematoxylin in hundredths (uint8) and a mask that is a little larger than the nucleus, so
that a nucleus stamped over another stays apart from it. Lengths are in µm.

Letters: N nuclei.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from training.phantom.fields import Field, texture

ANGLES = 16
"""Directions in which an oriented stamp is available."""

Stamp = tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class NucleusStyle:
    """How the nuclei of one sort look."""

    length: float
    """Mean long axis in µm."""
    ratio: float
    """Short axis over long axis."""
    spread: float
    """Coefficient of variation of the size between nuclei."""
    density: float
    """Mean haematoxylin."""
    density_spread: float = 0.08
    vesicular: float = 0.0
    """0 solid, 1 pale inside with a dark membrane."""
    grain: float = 0.1
    """Strength of the chromatin's texture."""
    irregular: float = 0.05
    """Waves of the outline."""
    nucleoli: float = 0.0
    """Mean number of nucleoli."""
    halo: float = 0.6
    """Width of the clear rim in µm."""


NORMAL = NucleusStyle(7.2, 0.72, 0.06, 0.95, grain=0.1)
FIBROBLAST = NucleusStyle(13.0, 0.24, 0.18, 0.85, grain=0.12, irregular=0.05, halo=0.3)
LYMPHOCYTE = NucleusStyle(6.6, 0.94, 0.05, 1.6, 0.05, grain=0.14, irregular=0.03, halo=1.1)
SMALL_CELL = NucleusStyle(9.2, 0.7, 0.12, 1.02, 0.14, grain=0.2, irregular=0.1, halo=0.35)
SQUAME = NucleusStyle(8.5, 0.3, 0.15, 0.9, halo=0.2)
GHOST = NucleusStyle(8.5, 0.8, 0.2, 0.3, 0.2, grain=0.3, irregular=0.1, halo=0.0)
DEBRIS = NucleusStyle(2.4, 0.8, 0.35, 1.3, 0.2, irregular=0.15, halo=0.2)


def tumour_style(grade: int, length: float, ratio: float) -> NucleusStyle:
    """Nuclei that grow larger, more varied, coarser and more nucleolated with the grade."""
    base = NucleusStyle(length, ratio, 0.08, 1.0, vesicular=0.25, grain=0.14, irregular=0.04, nucleoli=0.1)
    if grade == 1:
        return base
    if grade == 2:
        return replace(
            base, length=length * 1.15, spread=0.17, density_spread=0.15, vesicular=0.45, nucleoli=0.8,
            irregular=0.07, grain=0.2,
        )  # fmt: skip
    return replace(
        base, length=length * 1.36, spread=0.32, density=1.12, density_spread=0.28, vesicular=0.6,
        nucleoli=1.6, irregular=0.12, grain=0.3,
    )  # fmt: skip


class Bank:
    """Stamps of one style: `per_angle` variants for each of ANGLES directions."""

    def __init__(
        self, rng: np.random.Generator, style: NucleusStyle, mpp: float, per_angle: int = 10
    ) -> None:
        grain = texture(rng, 128, 0.55 / mpp)
        self.per_angle = per_angle
        self.stamps = [
            _nucleus(rng, style, (k + 0.5) * np.pi / ANGLES, mpp, grain)
            for k in range(ANGLES)
            for _ in range(per_angle)
        ]

    def choose(self, rng: np.random.Generator, angle: Field) -> npt.NDArray[np.intp]:
        """A stamp for each direction (N,)."""
        direction = (np.mod(angle, np.pi) / np.pi * ANGLES).astype(np.intp) % ANGLES
        return direction * self.per_angle + rng.integers(0, self.per_angle, len(angle))


def grid_um(reach: float, mpp: float) -> tuple[Field, Field]:
    """x and y in µm of the pixels of a square stamp that reaches `reach` µm from its middle."""
    half = int(np.ceil(reach / mpp)) + 1
    line = np.arange(-half, half + 1, dtype=np.float32) * mpp
    return np.broadcast_to(line[None, :], (line.size, line.size)), np.broadcast_to(
        line[:, None], (line.size, line.size)
    )


def _nucleus(rng: np.random.Generator, style: NucleusStyle, turn: float, mpp: float, grain: Field) -> Stamp:
    size = float(np.clip(rng.lognormal(0, style.spread), 0.5, 2.2))
    half = style.length / 2 * size
    ratio = float(np.clip(style.ratio * rng.normal(1, 0.1), 0.15, 1.0))
    x, y = grid_um(half * 1.5 + style.halo, mpp)
    theta = np.arctan2(y, x) - turn
    oval = half / np.hypot(np.cos(theta), np.sin(theta) / ratio)
    waves = [
        a * np.cos(k * theta + p)
        for k, a, p in zip(
            (2, 3, 4), rng.normal(0, style.irregular, 3) / (1, 1.4, 2.2), rng.uniform(0, 6.28, 3), strict=True
        )
    ]
    rim = oval * np.clip(1 + np.sum(waves, axis=0), 0.6, 1.5)
    distance = np.hypot(x, y)
    u = distance / rim
    level = style.density * float(np.clip(rng.normal(1, style.density_spread), 0.5, 1.8))
    side = u.shape[0]
    y_px, x_px = rng.integers(0, 128, 2)
    grain = np.take(
        np.take(grain, np.arange(y_px, y_px + side), 0, mode="wrap"),
        np.arange(x_px, x_px + side),
        1,
        mode="wrap",
    )
    pale = style.vesicular * rng.uniform(0.6, 1.2)
    value = level * (1 - 0.5 * pale * np.clip(1 - (u / 0.85) ** 4, 0, 1)) * (1 + style.grain * grain)
    for _ in range(int(rng.poisson(style.nucleoli))):
        cx, cy = rng.uniform(-0.45, 0.45, 2) * half * ratio
        spot = np.hypot(x - cx, y - cy) / rng.uniform(0.7, 1.25)
        value = np.maximum(value, level * 1.45 * np.clip(1.6 - spot, 0, 1))
    value = value * np.clip((rim - distance) / mpp + 0.5, 0, 1)
    return np.clip(value * 100, 0, 255).astype(np.uint8), (distance < rim + style.halo)


def mitosis(rng: np.random.Generator, mpp: float) -> Stamp:
    """A mitotic figure without membrane in a cleared cell: plate, two plates moving apart, or a clump."""
    x, y = grid_um(8.5, mpp)
    turn = rng.uniform(0, np.pi)
    along = x * np.cos(turn) + y * np.sin(turn)
    across = -x * np.sin(turn) + y * np.cos(turn)
    roughness = 0.5 * np.sin(along * rng.uniform(1.2, 2.0) + rng.uniform(0, 6)) + rng.normal(0, 0.12, x.shape)
    length, width = rng.uniform(4.2, 5.4), rng.uniform(1.3, 1.8)
    form = rng.choice(3, p=[0.5, 0.3, 0.2])
    if form == 0:
        u = np.maximum(np.abs(along) / length, (np.abs(across) + 0.4 * roughness) / width)
    elif form == 1:
        gap = rng.uniform(2.6, 3.8)
        bow = np.abs(across) + 0.06 * along**2 - gap
        u = np.maximum(np.abs(along) / (length * 0.85), (np.abs(bow) + 0.3 * roughness) / (width * 0.75))
    else:
        lobes = int(rng.integers(3, 7))
        waves = 1 + 0.2 * np.cos(lobes * np.arctan2(y, x) + rng.uniform(0, 6)) + 0.3 * roughness
        u = np.hypot(along / 1.25, across) / (3.2 * np.clip(waves, 0.3, 1.8))
    value = np.clip((1 - u) * 2.2 / mpp / 2 + 0.5, 0, 1) * rng.uniform(2.1, 2.45)
    return np.clip(value * 100, 0, 255).astype(np.uint8), np.hypot(x, y) < rng.uniform(6.6, 7.8)
