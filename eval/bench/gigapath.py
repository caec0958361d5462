"""Tiles per second of Prov-GigaPath's tile encoder, as `giant` runs it, with random weights of its size.

What it computes is compared with what a large matrix product reaches on the same device in the same run
(the share is the model FLOPs utilisation, MFU). Pixels are on the device before the clock starts: reading
and decoding tiles is another matter (`giant bench ask`).

Letters: B tiles at once, T tokens of a tile, D channels, F channels of SwiGLU after gating.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core_model.config import TileEncoderConfig
from core_model.errors import UsageError
from eval.tables import figures_table

if TYPE_CHECKING:
    from rich.table import Table

    from core_model.encoders.vit import ViTTileEncoder

ON_GPU, ON_CPU = (32, 64, 128, 256), (1, 4)
"""Tiles at once, where the user names none."""


@dataclass(frozen=True)
class Speed:
    """The speed that one batch size reached."""

    batch: int
    seconds: float
    """Per batch."""
    flops: float
    """Floating-point operations of a tile."""
    peak_gb: float

    @property
    def tiles_per_second(self) -> float:
        """Tiles encoded in a second."""
        return self.batch / self.seconds

    @property
    def rate(self) -> float:
        """FLOP/s."""
        return self.flops * self.tiles_per_second


def main(small: bool, use_compile: bool, batches: Sequence[int] | None) -> None:
    """Measure and print a table; `small` takes a network of a thousandth of the size."""
    import torch

    from agent.cli.terminal import stderr, stdout
    from core_model.devices import default_device, device_name, matmul_rate

    device = default_device()
    sizes = tuple(batches or (ON_GPU if device != "cpu" else ON_CPU))
    if min(sizes) < 1:
        raise UsageError(f"a batch of {min(sizes)} tiles means nothing", fix="Give --batch at least 1")
    config = small_tile_config() if small else TileEncoderConfig.gigapath()
    stderr().print("Making random weights")
    encoder = random_encoder(config, device)
    dtype = torch.bfloat16 if encoder.bf16 else torch.float32
    before = matmul_rate(device, dtype)
    speeds = measure_batches(encoder, config, sizes, use_compile)
    dense = max(before, matmul_rate(device, dtype))  # a device may be slower hot, or before it woke
    how = f"{str(dtype).removeprefix('torch.')}, {'compiled' if use_compile else 'not compiled'}"
    parameters = sum(p.numel() for p in encoder.network.parameters())
    stdout().print(f"{device_name(device)}; torch {torch.__version__}, {how}")
    stdout().print(f"{parameters:,} parameters, {tile_flops(config) / 1e9:.1f} GFLOP per tile")
    stdout().print(speeds_table(speeds, dense))
    stdout().print(f"A large matrix product reaches {dense / 1e12:.2f} TFLOP/s")


def measure_batches(
    encoder: ViTTileEncoder, config: TileEncoderConfig, batches: Sequence[int], use_compile: bool
) -> list[Speed]:
    """Time of each batch size after a warm-up, with the device waited for."""
    import torch

    from core_model.devices import peak_memory_gb, seconds_of

    if use_compile:
        encoder.network.compile(dynamic=False)
    side, speeds = config.image_px, []
    for batch in batches:
        pixels = torch.randn(batch, 3, side, side, device=encoder.device)
        for _ in range(2):  # the first compiles
            encoder.features(pixels)
        if torch.device(encoder.device).type == "cuda":
            torch.cuda.reset_peak_memory_stats(encoder.device)
        seconds = seconds_of(lambda batch_pixels=pixels: encoder.features(batch_pixels), encoder.device)  # type: ignore[misc]
        speeds.append(Speed(batch, seconds, tile_flops(config), peak_memory_gb(encoder.device)))
    return speeds


def tile_flops(config: TileEncoderConfig) -> float:
    """Floating-point operations to encode one tile: two for each multiplication and addition of a product."""
    D, F = config.embed_dim, config.ffn_dim
    patches = (config.image_px // config.patch_px) ** 2
    T = patches + 1
    layer = T * (4 * D * D + 3 * D * F) + 2 * T * T * D  # projections, SwiGLU, scores and weighted sum
    return 2.0 * (config.depth * layer + patches * 3 * config.patch_px**2 * D)


def random_encoder(config: TileEncoderConfig, device: str) -> ViTTileEncoder:
    """The encoder with random weights, made on the device and kept as a loaded one is."""
    import torch

    from core_model.encoders.vit import bind, build_tile_encoder

    with torch.device(device):
        network = build_tile_encoder(config)
    return bind(network.requires_grad_(False), "random", config, device, compact=True)


def small_tile_config() -> TileEncoderConfig:
    """A tile encoder of this kind at a size that a CPU runs in no time."""
    small = {"embed_dim": 128, "depth": 4, "heads": 2, "ffn_dim": 344}
    return TileEncoderConfig.gigapath().model_copy(update=small)


def speeds_table(speeds: Sequence[Speed], dense: float) -> Table:
    """Batch sizes with their figures; `dense` is the FLOP/s of the matrix product."""
    table = figures_table([], ["tiles at once", "ms", "tiles/s", "TFLOP/s", "of matmul", "peak GB"])
    for s in speeds:
        figures = (f"{1000 * s.seconds:.1f}", f"{s.tiles_per_second:.1f}", f"{s.rate / 1e12:.2f}")
        table.add_row(str(s.batch), *figures, f"{s.rate / dense:.1%}", f"{s.peak_gb:.2f}")
    return table
