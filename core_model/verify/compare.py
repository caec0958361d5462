"""Whether this installation computes what the reference networks do: golden files, and published weights.

A golden holds parameters, inputs and outputs of a reference network (see `goldens.py`). All is computed in
float32, on the CPU or a GPU, with the same kernels as elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
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


class GoldenCheck(BaseModel):
    """One output of a golden file compared with ours, or a file that was not compared."""

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
    """All comparisons of one `giant verify`, as it prints them with --json."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    device: str = "cpu"
    """Where ours was computed."""
    checks: tuple[GoldenCheck, ...]

    @property
    def compared(self) -> int:
        """Outputs for which there is a number."""
        return sum(check.status in ("ok", "beyond") for check in self.checks)

    @property
    def ok(self) -> bool:
        """Something was compared, all of it within tolerance, and no file is broken."""
        return self.compared > 0 and all(check.status in ("ok", "skipped") for check in self.checks)


def verify_folder(folder: Path, tolerance: float = TOLERANCE, device: str = "cpu") -> list[GoldenCheck]:
    """Compare every golden in a folder, or the one that the folder is.

    What is broken is a check that says so, and what is no golden, or not supported yet, is listed. Raises
    `GiantError` where there is no such folder.
    """
    from core_model.verify.goldens import EXPECTED

    if not folder.is_dir():
        raise GiantError("there is no such folder", where=folder)
    if (folder / EXPECTED).is_file():
        return list(_verify(folder, tolerance, device))
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return [check for path in entries for check in _verify(path, tolerance, device)]


def verify_example(weights: Path, image: Path, embedding_file: Path, device: str = "cpu") -> GoldenCheck:
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
        with Image.open(image) as picture:
            pixels = torch.from_numpy(TilePixels.of(config).batch([picture]))
    except (OSError, UnidentifiedImageError) as error:
        raise GiantError(f"the file cannot be read as an image ({error})", where=image) from error
    with torch.inference_mode(), exact_products():
        tokens = network.to(device)(pixel_values=pixels.to(device)).last_hidden_state  # (1, T, D)
    return _compare(
        file.name, image.name, tokens[0, 0].cpu(), _tensor(embedding_file).squeeze(), EXAMPLE_TOLERANCE
    )


def exact_products() -> AbstractContextManager[None]:
    """No TensorFloat-32 in convolutions, where PyTorch allows it unasked: float32 is meant."""
    import torch

    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def _verify(path: Path, tolerance: float, device: str) -> Iterator[GoldenCheck]:
    """The checks of one entry of a folder; those before a fault are kept."""
    import torch

    try:
        outputs = _outputs(path, device)
        if isinstance(outputs, str):
            yield GoldenCheck(file=path.name, status="skipped", message=outputs)
            return
        with torch.inference_mode(), exact_products():
            for name, value, reference in outputs:
                yield _compare(path.name, name, value, reference, tolerance)
    except GiantError as error:
        where = "" if error.where in (None, path) else f"{error.where}: "
        yield GoldenCheck(file=path.name, status="broken", message=where + error.what)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:  # tensors that fit no network
        reason = " ".join(str(error).split())
        yield GoldenCheck(file=path.name, status="broken", message=f"its tensors do not fit: {reason}")


def _outputs(path: Path, device: str) -> Outputs | str:
    """The outputs of a golden, or why there are none."""
    from core_model.verify import goldens

    if path.is_dir():
        is_golden = (path / goldens.EXPECTED).is_file()
        return goldens.llava_outputs(path, device) if is_golden else "no golden: a folder"
    if path.suffix != ".safetensors":
        return "no golden: not a .safetensors file"
    tensors, meta = goldens.read_golden(path, device)
    if (network := goldens.unsupported_network(tensors, meta)) is not None:
        return f"{network} is not supported yet"
    for inputs, reader in goldens.FORMATS.values():
        if all(name in tensors for name in inputs):
            return reader(tensors, meta)
    if any(name.startswith(("in.", "out.", "param.")) for name in tensors):
        raise CheckpointError("the file is a golden of no known format")
    return "no golden: it holds no inputs and outputs"


def _compare(file: str, output: str, value: Tensor, reference: Tensor, tolerance: float) -> GoldenCheck:
    delta, message = None, ""
    if value.shape != reference.shape:
        message = f"it has shape {tuple(value.shape)}, expected {tuple(reference.shape)}"
    elif math.isnan(largest := float((value.double() - reference.double()).abs().max())):
        message = "it holds a value that is not a number"
    else:
        delta = largest
    status: Status = "ok" if delta is not None and delta <= tolerance else "beyond"
    return GoldenCheck(
        file=file, output=output, delta=delta, tolerance=tolerance, status=status, message=message
    )


def _tensor(path: Path) -> Tensor:
    import torch

    from core_model.weights import load_torch

    content = load_torch(path, "a tensor", GiantError)
    if not isinstance(content, torch.Tensor):
        raise GiantError("the file holds no tensor", where=path)
    return content
