"""The checkpoint folder: written whole or not at all, read strictly or not at all.

    config.json               ModelConfig: class names, dimensions, calibration, provenance
    <part>.safetensors        weights of each part present (see `parts.py`)
    tokenizer/  words.txt     what reads text, and the words it knows
    text_tokenizer/           the text tower's own, where that is a pretrained text encoder
    MODEL_CARD.md             for people
    training_slides.json      names of the slides it was trained on, where they are known
    manifest.json             sha256 of every file above, written last

A missing or unexpected key, a wrong shape, a changed or missing file is a `CheckpointError` that names it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_model.checkpoints.parts import LLAVA, NEEDS_TOKENIZER, WEIGHT_FILES, Parts, fill_llava, new_model
from core_model.config import ModelConfig
from core_model.errors import CheckpointError
from core_model.files import replacing_folder, writing

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["ModelConfig", "Parts", "load_checkpoint", "new_model", "read_config", "save_checkpoint"]

MANIFEST, TRAINING_SLIDES = "manifest.json", "training_slides.json"
_AGAIN = "copy or download the folder again"


def save_checkpoint(
    folder: str | Path,
    parts: Parts,
    config: ModelConfig,
    *,
    card: str = "",
    base: str | Path | None = None,
    slides: Iterable[str] | None = None,
) -> ModelConfig:
    """Write every present part; returns the configuration as written, which lists them.

    What `parts` lacks is taken from the checkpoint `base` as it is, without being read. `slides` names those
    it was trained on. The folder is written beside its place and renamed. An older checkpoint there is
    replaced; a folder that is anything else is refused with `CheckpointError`.
    """
    folder = Path(folder)
    check_place(folder)
    states = parts.states()
    base_hashes = _hashes(Path(base)) if base is not None else {}
    present = {*states, *(name for name in WEIGHT_FILES if f"{name}.safetensors" in base_hashes)}
    config = config.model_copy(update={"parts": tuple(name for name in WEIGHT_FILES if name in present)})
    with writing("the checkpoint", folder, CheckpointError), replacing_folder(folder) as part:
        _write(part, states, parts, config, card)
        if slides is not None:
            (part / TRAINING_SLIDES).write_text(
                json.dumps({"version": 1, "slides": sorted(slides)}, indent=1)
            )
        _finish(part, Path(base or part), base_hashes)
    return config


def check_place(folder: Path) -> None:
    """Raise `CheckpointError` where `folder` is neither a checkpoint nor free for one."""
    if folder.exists() and not (folder / MANIFEST).is_file() and (folder.is_file() or any(folder.iterdir())):
        raise CheckpointError(
            "a file or folder that is no checkpoint is in the way", where=folder, fix="choose another folder"
        )


def _write(
    folder: Path, states: dict[str, dict[str, Tensor]], parts: Parts, config: ModelConfig, card: str
) -> None:
    from safetensors.torch import save_file

    for name, state in states.items():
        dtype = _stored_type(config, name)
        tensors = {key: value.detach().to("cpu", dtype).contiguous() for key, value in state.items()}
        # Not huggingface_hub's save_torch_state_dict: it shards, and leaves out tensors that share memory.
        save_file(tensors, folder / f"{name}.safetensors")
    for name in ("tokenizer", "text_tokenizer"):
        if (tokenizer := getattr(parts, name)) is not None:
            tokenizer.save_pretrained(folder / name)
    if parts.words is not None:
        (folder / "words.txt").write_text("".join(f"{word}\n" for word in parts.words), encoding="utf-8")
    (folder / "config.json").write_text(config.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (folder / "MODEL_CARD.md").write_text(card or f"# {config.name}\n", encoding="utf-8")


def _stored_type(config: ModelConfig, part: str) -> torch.dtype:
    import torch

    if part == "familiarity":  # thresholds are compared with these
        return torch.float32
    dtype: torch.dtype = getattr(
        torch, config.dtype if part in LLAVA else config.encoder_dtype or config.dtype
    )
    return dtype


def _finish(folder: Path, base: Path, base_hashes: dict[str, str]) -> None:
    """Link the files of `base` that `folder` lacks (whole tokenizers only), and write the manifest."""
    new_files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    tops = {name.split("/")[0] for name in new_files}
    hashes = {name: digest for name, digest in base_hashes.items() if name.split("/")[0] not in tops}
    for name in hashes:
        (folder / name).parent.mkdir(exist_ok=True)
        try:
            os.link(base / name, folder / name)
        except OSError:  # another file system, or one without links
            shutil.copyfile(base / name, folder / name)
    hashes |= _sha256s(folder, new_files)
    text = json.dumps({"version": 1, "sha256": dict(sorted(hashes.items()))}, indent=1) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


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
    folder: str | Path,
    *,
    need: tuple[str, ...] = (),
    only: tuple[str, ...] | None = None,
    dtype: torch.dtype | None = None,
    device: str | None = None,
) -> tuple[Parts, ModelConfig]:
    """Build and fill the parts that the folder holds, as float32 in eval mode on the CPU or `device`.

    `need` names parts that must be there; `only` limits what is built. `dtype` is the type of projector and
    language model instead: with the stored one nothing is converted, and a CPU reads from the file what it
    computes with. Nothing is initialised at random.
    """
    folder = Path(folder)
    config = read_config(folder)
    part_names = {name for name in config.parts if only is None or name in only}
    if part_names & set(LLAVA):
        part_names |= set(LLAVA)  # one network
        need = (*need, *LLAVA)
    if missing := [name for name in dict.fromkeys(need) if name not in config.parts]:
        raise CheckpointError(
            f"the checkpoint holds no {', '.join(missing)}",
            where=folder,
            fix="it is a checkpoint of an earlier training stage",
        )
    tokenizer = _tokenizer(folder, config) if part_names & set(NEEDS_TOKENIZER) else None
    parts = new_model(config, tokenizer, only=tuple(part_names), empty=True)
    for name in config.parts:
        if name in part_names:
            _fill(parts, name, _tensors(folder, name, dtype if name in LLAVA else None, device), folder)
    for network in (parts.tile_encoder, parts.slide_encoder, parts.alignment, parts.llava):
        if network is not None and device is not None:
            network.to(device)  # buffers; the weights are there already
    if parts.alignment is not None and config.alignment.text_config is not None:
        parts.text_tokenizer = _read_tokenizer(folder, "text_tokenizer")
    words = folder / "words.txt"
    parts.words = tuple(words.read_text(encoding="utf-8").split()) if words.is_file() else None
    return parts, config


def _hashes(folder: Path) -> dict[str, str]:
    """The manifest: sha256 by file."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return dict(manifest["sha256"])
    except FileNotFoundError as error:
        raise CheckpointError(
            f"the folder has no {MANIFEST}: it is no checkpoint, or not whole", where=folder
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{MANIFEST} cannot be read ({error})", where=folder, fix=_AGAIN) from error


def _verify(folder: Path) -> None:
    hashes = _hashes(folder)
    for name in hashes:
        if not (folder / name).is_file():
            raise CheckpointError(f"{name} is missing", where=folder, fix=_AGAIN)
    for name, digest in _sha256s(folder, hashes).items():
        if digest != hashes[name]:
            raise CheckpointError(f"{name} does not match the manifest", where=folder, fix=_AGAIN)
    for path in folder.glob("*.safetensors"):
        if path.name not in hashes:
            raise CheckpointError(f"{path.name} is not in the manifest", where=folder, fix=_AGAIN)


def _tensors(folder: Path, name: str, dtype: torch.dtype | None, device: str | None) -> dict[str, Tensor]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(folder / f"{name}.safetensors", device=device or "cpu")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{name}.safetensors cannot be read ({error})", where=folder) from error
    return {key: value.to(dtype or torch.float32) for key, value in tensors.items()}


def _fill(parts: Parts, name: str, state: dict[str, Tensor], folder: Path) -> None:
    if name == "familiarity":
        from core_model.features.tiles import Familiarity

        _compare(name, {"mean", "scale", "centroids"}, set(state), folder)
        parts.familiarity = Familiarity(**{key: value.cpu().numpy() for key, value in state.items()})
        return
    own_state = parts.states()[name]
    _compare(name, set(own_state), set(state), folder)
    for key, value in state.items():
        if value.shape != own_state[key].shape:
            shape, own_shape = tuple(value.shape), tuple(own_state[key].shape)
            raise CheckpointError(f"{name}: {key} has shape {shape}, expected {own_shape}", where=folder)
    if name in LLAVA:
        assert parts.llava is not None
        fill_llava(parts.llava, state)
    else:
        getattr(parts, name).load_state_dict(state, assign=True)


def _compare(name: str, own_keys: set[str], file_keys: set[str], folder: Path) -> None:
    for problem, keys in (("lacks", own_keys - file_keys), ("has unexpected", file_keys - own_keys)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            first_three = ", ".join(sorted(keys)[:3])
            raise CheckpointError(f"{name}.safetensors {problem} {first_three}{more}", where=folder)


def _tokenizer(folder: Path, config: ModelConfig) -> Any:
    tokenizer = _read_tokenizer(folder, "tokenizer")
    if config.for_tokenizer(tokenizer) != config:
        raise CheckpointError("tokenizer/ does not fit the vocabulary in config.json", where=folder)
    return tokenizer


def _read_tokenizer(folder: Path, name: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    try:
        return PreTrainedTokenizerFast.from_pretrained(folder / name, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception for a bad file
        raise CheckpointError(f"{name}/ cannot be read ({error})", where=folder, fix=_AGAIN) from error


def _sha256s(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The digest of each file; several are read at once, hashing frees Python's lock."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(lambda name: _sha256(folder / name), names), strict=True))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
