"""The command line over real slides, tools and reports, with a model that tells purple from pink."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import agent_fakes as fakes
import numpy as np
from click.testing import Result
from paint_encoder import PaintEncoder
from PIL import Image
from typer.testing import CliRunner

from core_model.features.tiles import TileFeatures

FIELDS = {
    "agreement",
    "claims",
    "votes",
    *("question", "answer", "choice", "options", "confidence", "abstained", "reason", "evidence"),
    *("coverage", "steps", "model", "mode", "slide", "cost", "run_dir"),
}
"""The fields of the JSON answer."""
PURPLE, PINK, GLASS = (110, 70, 150), (225, 140, 180), (245, 245, 245)


class PaintModel(fakes.FakeModel):
    """Answers the first option over purple tissue, the second over pink."""

    tile_encoder, folder = PaintEncoder(), Path("nowhere")

    def score_options(self, features: TileFeatures, question: str, options: list[str]) -> np.ndarray:
        self.usage.tokens_in += len(question)
        purple = float(features.features[:, 0].mean())
        logits = np.array([4 * purple, 4 * (1 - purple), *[-2.0] * (len(options) - 2)])
        weights = np.exp(logits)
        return weights / weights.sum()

    def generate(self, features: TileFeatures, question: str) -> tuple[str, float]:
        return ("Purple tissue." if features.features[:, 0].mean() > 0.5 else "Pink tissue."), 0.9

    def embed_tiles(self, features: TileFeatures) -> np.ndarray:
        return features.features + 1e-3

    def embed_text(self, texts: list[str]) -> np.ndarray:
        return np.array([[1.0, 0.2]] * len(texts), dtype=np.float32)


def paint(path: Path, purple_share: float = 0.6) -> Path:
    """A slide of 1600 x 1200 px: tissue with a purple left part and a pink right part on glass."""
    image = Image.new("RGB", (1600, 1200), GLASS)
    left = round(1400 * purple_share)
    image.paste(PURPLE, (100, 100, 100 + left, 1100))
    image.paste(PINK, (100 + left, 100, 1500, 1100))
    noise = np.random.default_rng(1).integers(-12, 13, (1200, 1600, 3))
    Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)).save(path)
    return path


def giant(*args: object, stdin: str | None = None) -> Result:
    """Run `giant` with these arguments in this process."""
    from agent.cli.app import build_app

    return CliRunner().invoke(build_app(), [str(arg) for arg in args], input=stdin)


def one_line(result: Any) -> str:
    """The single line of stderr. Fails where there is a traceback, more than a line, or stdout."""
    from typer import Exit

    assert result.exception is None or isinstance(result.exception, SystemExit | Exit), result.exception
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("giant: ")
    return lines[0]


def only_json(result: Any) -> dict[str, Any]:
    """The single JSON object of stdout."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
