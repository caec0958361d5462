"""What every step of the training is given: settings, data, folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_model.checkpoints.folder import load_checkpoint
from core_model.encoders.vit import bind
from core_model.errors import RunError
from core_model.features.tiles import TileFeatures
from core_model.files import write_value
from training.cohort.cohort import Cohort, load_training_cohort
from training.cohort.stored import stored_features
from training.engine.fit import StageProgress, quiet, read_log
from training.settings import PretrainedTiles, Recipe

if TYPE_CHECKING:
    from torch import nn

    from core_model.config import TileEncoderConfig
    from core_model.encoders.vit import TileEncoder


CHECKPOINT, METRICS, POOL, FEATURE_INDEX = "checkpoint", "metrics.json", "pool", "index.json"


@dataclass(frozen=True)
class TrainingRun:
    """One training run: its recipe, its cohort folder and its output folder."""

    recipe: Recipe
    data: Path
    out: Path
    progress: StageProgress = quiet

    def folder(self, name: str) -> Path:
        """Where a step writes."""
        return self.out / name

    @cached_property
    def cohort(self) -> Cohort:
        """The cohort, read once."""
        return load_training_cohort(self.data)

    @cached_property
    def encoder(self) -> TileEncoder:
        """The tile encoder, under the name of the model that it becomes part of."""

        settings = self.recipe.tile_encoder
        if isinstance(settings, PretrainedTiles):
            network, config = pretrained_tiles(settings)
            return bind(network, self.recipe.name, config)
        folder = self.folder("tiles") / "encoder"
        parts, model_config = load_checkpoint(folder, need=("tile_encoder",), only=("tile_encoder",))
        return bind(parts.tile_encoder, self.recipe.name, model_config.tile_encoder)

    @cached_property
    def features(self) -> dict[str, TileFeatures]:
        """Tile features of every slide, as the step `features` found or computed them; read when used."""
        folder = self.folder("features")
        try:
            index: dict[str, str] = json.loads((folder / FEATURE_INDEX).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{FEATURE_INDEX} cannot be read ({error})", where=folder) from error
        is_foreign = bool(self.cohort.features)  # our own files know their scale
        features_by_name = stored_features(
            {name: folder / path for name, path in index.items()},
            mpp=self.recipe.feature_mpp if is_foreign else None,
            size=self.recipe.feature_side if is_foreign else None,
        )
        return {
            name: replace(features, encoder=self.recipe.name) for name, features in features_by_name.items()
        }

    def record(self, stage: str, figures: Mapping[str, float], **more: Any) -> None:
        """Write metrics.json of a stage: its figures on validation, and how its loss went."""
        rows = read_log(self.folder(stage))
        tenth = max(1, len(rows) // 10)
        record = {
            "stage": stage,
            "figures": dict(figures),
            "loss_first": sum(row["loss"] for row in rows[:tenth]) / tenth,
            "loss_last": sum(row["loss"] for row in rows[-tenth:]) / tenth,
            "steps": len(rows),
            "seconds": round(sum(row["seconds"] for row in rows), 1),
        }
        write_value(self.folder(stage) / METRICS, record | more)


def read_metrics(folder: Path) -> dict[str, Any]:
    """metrics.json of a finished stage. Raises RunError where there is none."""
    try:
        metrics: dict[str, Any] = json.loads((folder / METRICS).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{METRICS} cannot be read ({error})", where=folder) from error
    return metrics


def pretrained_tiles(settings: PretrainedTiles) -> tuple[nn.Module, TileEncoderConfig]:
    """The network of a tile encoder and its configuration; see `read_tile_network`."""
    from core_model.models.tile_encoders import read_tile_network

    if settings.path is None:
        raise RunError(
            "the recipe names no tile encoder and the cohort holds no features",
            fix="give the cohort a folder features/, or --set tile_encoder.path=gigapath",
        )
    return read_tile_network(settings.path)
