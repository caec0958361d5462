"""Whether this installation computes what the reference networks do: golden files, and published weights.

A golden holds parameters, inputs and outputs of a reference network (see `goldens.py`). All is computed in
float32 on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from core_model.errors import CheckpointError, GiantError

if TYPE_CHECKING:
    from torch import Tensor

    from core_model.verify.goldens import Outputs

TOLERANCE = 1e-4
EXAMPLE_TOLERANCE = 1e-2
"""Prov-GigaPath's own, for its published embedding."""
Status = Literal["ok", "beyond", "broken", "skipped"]


class Check(BaseModel):
    """One output compared, or a file that was not."""

    model_config = ConfigDict(frozen=True)

    file: str
    """Name in the folder."""
    output: str = ""
    delta: float | None = None
    """Largest absolute difference; None where there is no number."""
    tolerance: float | None = None
    status: Status
    message: str = ""


class Verification(BaseModel):
    """What `giant verify` prints with --json."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    checks: tuple[Check, ...]

    @property
    def compared(self) -> int:
        """Outputs for which there is a number."""
        return sum(check.status in ("ok", "beyond") for check in self.checks)

    @property
    def ok(self) -> bool:
        """Something was compared, all of it within tolerance, and no file is broken."""
        return self.compared > 0 and all(check.status in ("ok", "skipped") for check in self.checks)


def verify_folder(folder: Path, tolerance: float = TOLERANCE) -> list[Check]:
    """Compare every golden in a folder, or the one that the folder is.

    What is broken is a check that says so, and what is no golden, or not supported yet, is listed. Raises
    `GiantError` where there is no such folder.
    """
    from core_model.verify.goldens import EXPECTED

    if not folder.is_dir():
        raise GiantError("there is no such folder", where=folder)
    if (folder / EXPECTED).is_file():
        return list(_verify(folder, tolerance))
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return [check for path in entries for check in _verify(path, tolerance)]


def verify_example(weights: Path, image: Path, expected: Path) -> Check:
    """Prov-GigaPath's published weights: its published image gives its published embedding (D,).

    Raises `GiantError` where a file is missing, `CheckpointError` where the weights do not fit.
    """
    import torch
    from PIL import Image, UnidentifiedImageError

    from core_model.encoders.gigapath import find_weights, network_of
    from core_model.encoders.vit import TilePixels
    from core_model.weights import read_state

    file = find_weights(weights)
    network, config = network_of(read_state(file))
    try:
        with Image.open(image) as opened:
            pixels = torch.from_numpy(TilePixels.of(config).batch([opened]))
    except (OSError, UnidentifiedImageError) as error:
        raise GiantError(f"cannot be read as an image ({error})", where=image) from error
    with torch.inference_mode():
        found = network(pixel_values=pixels).last_hidden_state[0, 0]  # (D,)
    return _compare(file.name, image.name, found, _tensor(expected).squeeze(), EXAMPLE_TOLERANCE)


def _verify(path: Path, tolerance: float) -> Iterator[Check]:
    """The checks of one entry of a folder; those before a fault are kept."""
    import torch

    try:
        outputs = _outputs(path)
        if isinstance(outputs, str):
            yield Check(file=path.name, status="skipped", message=outputs)
            return
        with torch.inference_mode():
            for name, found, expected in outputs:
                yield _compare(path.name, name, found, expected, tolerance)
    except GiantError as error:
        where = "" if error.where in (None, path) else f"{error.where}: "
        yield Check(file=path.name, status="broken", message=where + error.what)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:  # tensors that fit no network
        reason = " ".join(str(error).split())
        yield Check(file=path.name, status="broken", message=f"its tensors do not fit: {reason}")


def _outputs(path: Path) -> Outputs | str:
    """The outputs of a golden, or why there are none."""
    from core_model.verify.goldens import EXPECTED, FORMATS, llava_outputs, read_golden

    if path.is_dir():
        return llava_outputs(path) if (path / EXPECTED).is_file() else "no golden: a folder"
    if path.suffix != ".safetensors":
        return "no golden: not a .safetensors file"
    tensors, meta = read_golden(path)
    for inputs, reader in FORMATS.values():
        if all(name in tensors for name in inputs):
            return reader(tensors, meta)
    if any(name.startswith("vit256.") for name in tensors):
        return "HIPT is not supported yet"
    if any(name.startswith(("in.", "out.", "param.")) for name in tensors):
        raise CheckpointError("is a golden of no known format")
    return "no golden: it holds no inputs and outputs"


def _compare(file: str, output: str, found: Tensor, expected: Tensor, tolerance: float) -> Check:
    delta, message = None, ""
    if found.shape != expected.shape:
        message = f"has shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    elif math.isnan(largest := float((found.double() - expected.double()).abs().max())):
        message = "is not a number"
    else:
        delta = largest
    status: Status = "ok" if delta is not None and delta <= tolerance else "beyond"
    return Check(file=file, output=output, delta=delta, tolerance=tolerance, status=status, message=message)


def _tensor(path: Path) -> Tensor:
    import pickle

    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise GiantError(f"cannot be read as a tensor ({reason})", where=path) from error
    if not isinstance(found, torch.Tensor):
        raise GiantError("holds no tensor", where=path)
    return found
