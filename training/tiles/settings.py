"""Settings of the tile encoder's pretraining."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any

from core_model.config import TileEncoderConfig
from core_model.errors import UsageError
from training.tiles.data import CELLS


@dataclass(frozen=True)
class TileSettings:
    """How the tile encoder is trained."""

    encoder: TileEncoderConfig = field(default_factory=TileEncoderConfig)
    """The network, and the size and scale of its tiles."""
    seed: int = 0
    crop_steps: int = 1000
    """Steps on crops."""
    full_steps: int = 120
    """Steps on whole tiles, after those on crops."""
    crop_cells: int = 4
    """Side of a crop in truth cells of 16 µm."""
    batch: int = 64
    real_share: float = 0.5
    """Share of a batch that is real, where there are real and phantom tiles."""
    per_slide: int = 24
    """Tiles taken of each phantom slide."""
    limit: int | None = None
    """Real tiles that are loaded; None: all."""
    split_seed: int = 0
    """Seed of the split of real tiles by group: the probe must use the same one."""
    learning_rate: float = 1e-3
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises; then it falls as a cosine to 0."""
    weight_decay: float = 0.05
    drop_path: float = 0.1
    """Chance that the last layer is skipped for a tile; it rises linearly from 0 at the first."""
    smoothing: float = 0.1
    """Label smoothing of the real classes."""
    average: float = 0.998
    """Decay of the moving average of the weights."""
    stain: float = 0.2
    """Strength of the stain's variation; 0: no variation of colour."""
    crop_scale: tuple[float, float] = (0.4, 1.0)
    """Side of the part of a real tile that becomes a crop."""
    full_scale: tuple[float, float] = (0.65, 1.0)
    """Side of the part of a real tile that becomes a whole tile."""
    phantom_weight: float = 0.5
    """Weight of the phantom losses, summed, against the real loss."""
    report_every: int = 100
    """Steps between reports (and states to resume from)."""

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.crop_steps + self.full_steps

    @property
    def cell_px(self) -> int:
        """Side of a truth cell in px of the tile image."""
        return self.encoder.tile_px // CELLS

    def __post_init__(self) -> None:
        if self.encoder.tile_px % (CELLS * self.encoder.patch_px) or not 1 <= self.crop_cells <= CELLS:
            raise UsageError(
                f"a tile of {self.encoder.tile_px} px in patches of {self.encoder.patch_px}"
                f" does not divide into {CELLS} cells of whole patches",
                fix=f"choose tile_px as a multiple of {CELLS} patches, and 1 to {CELLS} cells for a crop",
            )

    def plain(self) -> dict[str, Any]:
        """The settings as JSON values: equal settings have equal values."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        plain: dict[str, Any] = json.loads(json.dumps(values | {"encoder": self.encoder.model_dump()}))
        return plain
