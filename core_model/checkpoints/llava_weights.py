"""Weights as LLaVA and transformers leave them in a folder: whole or in shards, under their plain names."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_model.checkpoints.llava_names import PROJECTOR, ZERO_3, plain
from core_model.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

log = logging.getLogger(__name__)

FILES = ("model.safetensors", "pytorch_model.bin")
"""The weights of a model; `<file>.index.json` where they are in shards."""
VISION = "model.vision_tower."
FREQUENCIES = ".rotary_emb.inv_freq"
"""End of the names of constants that older files of transformers hold."""

_SHARD = re.compile(r"(?:model|pytorch_model)-(\d+)-of-(\d+)\.(?:safetensors|bin)")
"""Shards whose names say how many there are."""


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a model's folder. Raises `CheckpointError` that names a missing file or key."""
    for name in FILES:
        if (folder / name).is_file():
            return read_plain(folder / name)
        if (folder / f"{name}.index.json").is_file():
            return _read_shards(folder, f"{name}.index.json")
    if shards := _counted_shards(folder):
        return _joined(folder, {name: read_plain(folder / name) for name in shards})
    if any(folder.glob("global_step*")) or any(folder.glob("zero_pp_rank_*")):
        raise CheckpointError(
            "the folder holds no weights but those that DeepSpeed split over its processes",
            where=folder,
            fix=f"run `{ZERO_3}` in it, put config.json and the tokenizer into `recovered`, and import that",
        )
    raise CheckpointError(
        "the folder holds no weights of a model",
        where=folder,
        fix=f"{' or '.join(FILES)} belongs there, or its shards",
    )


def read_plain(file: Path) -> dict[str, Tensor]:
    """The tensors of a file under their plain names. Raises `CheckpointError`."""
    from core_model.weights import read_state

    return plain(read_state(file), file)


def _read_shards(folder: Path, index: str) -> dict[str, Tensor]:
    from core_model.weights import read_state

    places = read_json(folder / index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError("the file is no index of shards", where=folder / index)
    shards: dict[str, dict[str, Tensor]] = {}
    for name in sorted(set(places.values())):
        if name != Path(name).name or not (folder / name).is_file():
            raise CheckpointError(
                f"{index} names {name}, which is missing",
                where=folder,
                fix="copy or download that file again",
            )
        shard = read_state(folder / name)
        same_names(name, {key for key, place in places.items() if place == name}, shard, folder)
        shards[name] = plain(shard, folder / name)
    return _joined(folder, shards)


def _counted_shards(folder: Path) -> list[str]:
    """Shards without an index, in order. Raises `CheckpointError` naming the first that is missing."""
    names = sorted(path.name for path in folder.iterdir() if _SHARD.fullmatch(path.name))
    if not names:
        return []
    stem, total, suffix = (
        names[0].split("-")[0],
        names[0].split("-of-")[1].split(".")[0],
        Path(names[0]).suffix,
    )
    expected = [f"{stem}-{number:0{len(total)}d}-of-{total}{suffix}" for number in range(1, int(total) + 1)]
    for name in expected:
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{name} is missing", where=folder, fix="copy or download that file again, and its index"
            )
    return expected


def _joined(folder: Path, shards: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for name, shard in shards.items():
        if twice := sorted(state.keys() & shard):
            raise CheckpointError(f"{name} holds {twice[0]}, which another shard holds too", where=folder)
        state |= shard
    return state


def holds_weights(folder: Path) -> bool:
    """True where a folder has the weights of a whole model, or some of its shards."""
    whole = any((folder / f"{name}{end}").is_file() for name in FILES for end in ("", ".index.json"))
    return whole or any(_SHARD.fullmatch(path.name) for path in folder.iterdir())


def write_weights(folder: Path, state: dict[str, Tensor], shard_bytes: int) -> None:
    """Write tensors to one file, or with an index to shards of at most `shard_bytes` (or of one tensor)."""
    from huggingface_hub import save_torch_state_dict

    save_torch_state_dict(state, folder, max_shard_size=shard_bytes)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises `CheckpointError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the file cannot be read ({error})", where=path) from error
    if not isinstance(content, dict):
        raise CheckpointError("the file holds no JSON object", where=path)
    return content


def same_names(source: str, own_names: Iterable[str], file_names: Iterable[str], folder: Path) -> None:
    """Raise `CheckpointError` where the two are not the same names."""
    own, from_file = set(own_names), set(file_names)
    for problem, keys in (("lacks", own - from_file), ("has unexpected", from_file - own)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise CheckpointError(f"{source} {problem} {', '.join(sorted(keys)[:3])}{more}", where=folder)


def without_vision(state: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """The tensors but those of a vision tower: slides come as tokens, so it has no part here."""
    vision_keys = [key for key in state if key.startswith(VISION)]
    if vision_keys:
        log.warning(
            "%s: %d tensors of a vision tower are left out (%s …)", folder, len(vision_keys), vision_keys[0]
        )
    return {key: value for key, value in state.items() if not key.startswith(VISION)}


def stored_type(state: dict[str, Tensor], folder: Path) -> torch.dtype:
    """The narrowest type that holds every tensor exactly."""
    import torch

    weights = {key: value for key, value in state.items() if not key.endswith(FREQUENCIES)}
    types = {value.dtype for value in weights.values()}
    if integer_keys := [key for key, value in weights.items() if not value.is_floating_point()]:
        raise CheckpointError(f"{integer_keys[0]} does not hold floating-point numbers", where=folder)
    widest = torch.bfloat16 if types == {torch.bfloat16} else torch.float16
    for dtype in types:
        widest = torch.promote_types(widest, dtype)
    if widest not in (torch.float32, torch.float16, torch.bfloat16):
        raise CheckpointError(f"weights of type {widest} are not supported", where=folder)
    return widest


def converted(key: str, value: Tensor, dtype: torch.dtype, folder: Path) -> Tensor:
    """A tensor in another type. Raises `CheckpointError` where a number would become infinite."""
    result = value.to(dtype)
    if result.dtype != value.dtype and not bool(result.isfinite().all()):
        raise CheckpointError(f"{key} holds numbers that {dtype} does not", where=folder)
    return result


def replace_weights(state: dict[str, Tensor], file: Path) -> None:
    """Put the tensors of `file` in the place of a base's, or beside them where they are the projector's.

    They are stored in the base's type. Raises `CheckpointError` that names what is neither.
    """
    replace_tensors(state, without_vision(read_plain(file), file.parent), file)


def replace_tensors(state: dict[str, Tensor], tensors: dict[str, Tensor], file: Path) -> None:
    """As `replace_weights`, with tensors of `file` by their plain names."""
    dtype = stored_type(state, file.parent)
    for key, value in tensors.items():
        if key not in state and not key.startswith(f"model.{PROJECTOR}"):
            raise CheckpointError(f"{file.name} has unexpected {key}", where=file.parent)
        state[key] = converted(key, value, dtype, file.parent)
