"""The checkpoint folder: written whole or not at all, read strictly or not at all.

    config.json               ModelConfig: class names, dimensions, calibration, provenance
    <part>.safetensors        weights of each part present (see `parts.py`)
    tokenizer/  words.txt     what reads text, and the words it knows
    MODEL_CARD.md             for people
    manifest.json             sha256 of every file above, written last

A missing or unexpected key, a wrong shape, a changed or missing file is a `CheckpointError` that names it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_model.config import ModelConfig
from core_model.errors import CheckpointError
from core_model.parts import NEEDS_TOKENIZER, WEIGHT_FILES, Parts, new_model

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["ModelConfig", "Parts", "load_checkpoint", "new_model", "read_config", "save_checkpoint"]

MANIFEST = "manifest.json"
_AGAIN = "copy or download the folder again"


def save_checkpoint(folder: str | Path, parts: Parts, config: ModelConfig, *, card: str = "") -> ModelConfig:
    """Write every present part; returns the configuration as written, which lists them.

    The folder is written beside its place and renamed. An older checkpoint there is replaced; a folder
    that is anything else is refused with `CheckpointError`.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / MANIFEST).is_file() and (folder.is_file() or any(folder.iterdir())):
        raise CheckpointError("is in the way and is no checkpoint", where=folder, fix="choose another folder")
    states = parts.states()
    config = config.model_copy(update={"parts": tuple(name for name in WEIGHT_FILES if name in states)})
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.mkdir(parents=True)
        _write(part, states, parts, config, card)
        _swap(part, folder)
    except OSError as error:
        raise CheckpointError(f"cannot be written ({error})", where=folder) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return config


def _write(
    folder: Path, states: dict[str, dict[str, Tensor]], parts: Parts, config: ModelConfig, card: str
) -> None:
    import torch
    from safetensors.torch import save_file

    dtype = getattr(torch, config.dtype)
    for name, state in states.items():
        kept = torch.float32 if name == "familiarity" else dtype  # thresholds are compared with these
        stored = {key: value.detach().to("cpu", kept).contiguous() for key, value in state.items()}
        save_file(stored, folder / f"{name}.safetensors")
    if parts.tokenizer is not None:
        parts.tokenizer.save_pretrained(folder / "tokenizer")
    if parts.words is not None:
        (folder / "words.txt").write_text("".join(f"{word}\n" for word in parts.words), encoding="utf-8")
    (folder / "config.json").write_text(config.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (folder / "MODEL_CARD.md").write_text(card or f"# {config.name}\n", encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = {path.relative_to(folder).as_posix(): _sha256(path) for path in files}
    text = json.dumps({"version": 1, "sha256": hashes}, indent=1) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _swap(part: Path, folder: Path) -> None:
    """Put `part` where `folder` is; what was there is gone only once the new one stands."""
    if not folder.exists():
        os.replace(part, folder)
        return
    old = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.old")
    os.replace(folder, old)
    os.replace(part, folder)
    shutil.rmtree(old)


def read_config(folder: str | Path, *, verify: bool = True) -> ModelConfig:
    """The configuration of a checkpoint folder, after all its files were compared with the manifest."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError("there is no such model folder", where=folder)
    if verify:
        _verify(folder)
    try:
        return ModelConfig.model_validate_json((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"config.json cannot be used ({error})", where=folder, fix=_AGAIN) from error


def load_checkpoint(
    folder: str | Path, *, need: tuple[str, ...] = (), only: tuple[str, ...] | None = None
) -> tuple[Parts, ModelConfig]:
    """Build and fill the parts that the folder holds, as float32 in eval mode on the CPU.

    `need` names parts that must be there; `only` limits what is built.
    """
    folder = Path(folder)
    config = read_config(folder)
    if missing := [name for name in need if name not in config.parts]:
        raise CheckpointError(
            f"holds no {', '.join(missing)}",
            where=folder,
            fix="it is a checkpoint of an earlier training stage",
        )
    wanted = tuple(name for name in config.parts if only is None or name in only)
    tokenizer = _tokenizer(folder, config) if set(wanted) & set(NEEDS_TOKENIZER) else None
    parts = new_model(config, tokenizer, only=wanted)
    for name in wanted:
        _fill(parts, name, _tensors(folder, name), folder)
    words = folder / "words.txt"
    parts.words = tuple(words.read_text(encoding="utf-8").split()) if words.is_file() else None
    return parts, config


def _verify(folder: Path) -> None:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        hashes: dict[str, str] = dict(manifest["sha256"])
    except FileNotFoundError as error:
        raise CheckpointError(
            f"has no {MANIFEST}: it is no checkpoint, or not whole", where=folder
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{MANIFEST} cannot be read ({error})", where=folder, fix=_AGAIN) from error
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{name} is missing", where=folder, fix=_AGAIN)
        if _sha256(path) != expected:
            raise CheckpointError(f"{name} does not match the manifest", where=folder, fix=_AGAIN)
    for path in folder.glob("*.safetensors"):
        if path.name not in hashes:
            raise CheckpointError(f"{path.name} is not in the manifest", where=folder, fix=_AGAIN)


def _tensors(folder: Path, name: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {key: value.float() for key, value in load_file(folder / f"{name}.safetensors").items()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{name}.safetensors cannot be read ({error})", where=folder) from error


def _fill(parts: Parts, name: str, state: dict[str, Tensor], folder: Path) -> None:
    if name == "familiarity":
        from core_model.familiarity import Familiarity

        _compare(name, {"mean", "scale", "centroids"}, set(state), folder)
        parts.familiarity = Familiarity(**{key: value.numpy() for key, value in state.items()})
        return
    expected = parts.states()[name]
    _compare(name, set(expected), set(state), folder)
    for key, value in state.items():
        if value.shape != expected[key].shape:
            found, wanted = tuple(value.shape), tuple(expected[key].shape)
            raise CheckpointError(f"{name}: {key} has shape {found}, expected {wanted}", where=folder)
        expected[key].copy_(value)  # state_dict() hands out views of the parameters themselves


def _compare(name: str, expected: set[str], found: set[str], folder: Path) -> None:
    for problem, keys in (("lacks", expected - found), ("has unexpected", found - expected)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            listed = ", ".join(sorted(keys)[:3])
            raise CheckpointError(f"{name}.safetensors {problem} {listed}{more}", where=folder)


def _tokenizer(folder: Path, config: ModelConfig) -> Any:
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer", local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception for a bad file
        raise CheckpointError(f"tokenizer/ cannot be read ({error})", where=folder, fix=_AGAIN) from error
    if config.for_tokenizer(tokenizer) != config:
        raise CheckpointError("tokenizer/ does not fit the vocabulary in config.json", where=folder)
    return tokenizer


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(module: nn.Module) -> str:
    """The first 16 hex digits of a sha256 over names, shapes and float32 values of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
