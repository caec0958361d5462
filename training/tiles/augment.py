"""Chance variation of tile images, a batch at a time: place, scale, orientation, stain, focus, exposure.

Letters: B tiles, P px of a side, K cells of a side. Every draw comes from the generator that is handed in,
so that a training step can be repeated.

A tissue section has no up and no left, and its colour says more about the laboratory than about the
patient: all eight orientations are equally likely, and the stain varies in optical-density space, where
dyes add (Ruifrok and Johnston 2001).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
"""Optical density in R, G, B of haematoxylin, eosin and a remainder (Ruifrok and Johnston 2001)."""


def crop_and_resize(images: Tensor, side: int, scale: tuple[float, float], generator: Generator) -> Tensor:
    """Random square crops, resized: (B, P, P, 3) uint8 → (B, 3, side, side) float in 0..255.

    One batch shares its crop size, drawn so that areas are uniform between the two `scale`s of the side;
    each tile has its own place.
    """
    full = images.shape[1]
    low, high = scale[0] ** 2, scale[1] ** 2
    share = (low + (high - low) * float(torch.rand((), generator=generator))) ** 0.5
    size = max(1, round(full * share))
    corners = torch.randint(0, full - size + 1, (len(images), 2), generator=generator).tolist()
    crops = torch.stack(
        [image[y : y + size, x : x + size] for image, (y, x) in zip(images, corners, strict=True)]
    )
    return resize(crops, side)


def resize(images: Tensor, side: int) -> Tensor:
    """(B, P, P, 3) uint8 → (B, 3, side, side) float in 0..255, averaged where it shrinks."""
    pixels = images.permute(0, 3, 1, 2).float()  # (B, 3, P, P)
    if pixels.shape[-1] == side:
        return pixels
    shrinks = pixels.shape[-1] > side
    return F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=shrinks, align_corners=False)


def orient(maps: Tensor, turns: Tensor) -> Tensor:
    """Turn and mirror the last two axes of (B, ..., P, P); `turns` (B,) names one of 8 orientations each."""
    result = torch.empty_like(maps)
    for turn in range(8):
        rows = turns == turn
        if bool(rows.any()):
            quarter = torch.rot90(maps[rows], turn % 4, (-2, -1))  # (b, ..., P, P)
            result[rows] = quarter.flip(-1) if turn >= 4 else quarter
    return result


def jitter_stain(pixels: Tensor, strength: float, generator: Generator) -> Tensor:
    """Vary amount, hue and background of the dyes of (B, 3, P, P) in 0..255; `strength` 0.2 is marked.

    The amount of haematoxylin and eosin varies by a factor of 1 ± strength (one standard deviation), the
    remainder half as much; the dyes' colours by 15 % of `strength`, the glass by a quarter of it.
    """
    count, _, height, width = pixels.shape
    dyes = F.normalize(torch.tensor(STAINS), dim=1)  # (dye, RGB)
    amounts = 1 + strength * torch.randn(count, 3, generator=generator) * torch.tensor([1.0, 1.0, 0.5])
    hues = dyes + 0.15 * strength * torch.randn(count, 3, 3, generator=generator)
    mix = torch.linalg.inv(dyes) @ (amounts[:, :, None] * hues)  # (B, RGB, RGB): densities before → after
    shift = 0.25 * strength * torch.randn(count, 3, 1, generator=generator)  # (B, RGB, 1)
    density = -torch.log((pixels.flatten(2).clamp(0, 255) + 1) / 256)  # (B, RGB, P·P)
    density = torch.bmm(mix.transpose(1, 2), density) + shift  # (B, RGB, P·P)
    return (256 * torch.exp(-density) - 1).clamp(0, 255).view(count, 3, height, width)


def jitter_light(pixels: Tensor, generator: Generator) -> Tensor:
    """Exposure and focus of (B, 3, P, P) in 0..255: gamma in half of the batches, blur in a fifth."""
    if float(torch.rand((), generator=generator)) < 0.2:
        smooth = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
        pixels = 0.4 * pixels + 0.6 * smooth
    if float(torch.rand((), generator=generator)) < 0.5:
        gamma = 0.7 + 0.6 * torch.rand(len(pixels), 1, 1, 1, generator=generator)
        pixels = 255 * (pixels / 255) ** gamma
    return pixels


def vary(pixels: Tensor, strength: float, generator: Generator) -> Tensor:
    """Stain, then light: (B, 3, P, P) in 0..255 → the same. No strength, no change."""
    if strength == 0:
        return pixels
    return jitter_light(jitter_stain(pixels, strength, generator), generator)
