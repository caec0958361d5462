"""Formats of golden files: a reference network's parameters, inputs and outputs, to compare ours with.

    tile encoder    in.pixels, out.features, out.embedding, param.* as timm names them
    slide encoder   in.tiles, in.coords, out.tokens, out.global_pool, out.cls_layer*, param.*; dimensions in
                    the metadata
    WSI-LLaVA       a folder: expected.safetensors (in.*, and logits, loss, greedy of each variant) beside a
                    checkpoint in LLaVA's format for each variant, `base` among them

Each reader rebuilds the network from the file and yields, for every output that the file holds, its name,
what we compute and what is expected. Dimensions come from the file. Raises `CheckpointError` where a file
does not hold what its format needs, or holds an output that is not known.

Letters: B items, T or N tokens of an image or slide, L words, n slide tokens, D channels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_model.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

Tensors = Mapping[str, "Tensor"]
Outputs = Iterator[tuple[str, "Tensor", "Tensor"]]
EXPECTED = "expected.safetensors"
PLACEHOLDER = -200
"""LLaVA's id of the place where a slide's tokens go."""
IGNORED = -100


def read_golden(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors on the device, and metadata, of a safetensors file; raises `CheckpointError`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device=device) as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"the golden cannot be read ({error})", where=path) from error


def tile_outputs(tensors: Tensors, meta: Mapping[str, str]) -> Outputs:
    """Tokens (B, T, D) after the last LayerNorm, and the class token among them (B, D)."""
    from core_model.encoders.gigapath import network_of

    network, _ = network_of(_named(tensors, "param."), heads=_heads(meta))
    pixels = _needed(tensors, "in.pixels")
    tokens = network.to(pixels.device)(pixel_values=pixels).last_hidden_state
    yield from _pairs(tensors, {"features": tokens, "embedding": tokens[:, 0]})


def slide_outputs(tensors: Tensors, meta: Mapping[str, str]) -> Outputs:
    """Tokens (B, N+1, D) of the encoder, its global pooling, and the class token after each layer."""
    from core_model.encoders.slide_encoder import LongNetViT

    network = LongNetViT(_slide_config(meta)).eval()
    _fill(network, _named(tensors, "param."))
    inputs = _needed(tensors, "in.tiles"), _needed(tensors, "in.coords")
    network.to(inputs[0].device)
    outputs = {"tokens": network(*inputs), "global_pool": network.global_pool(*inputs)}
    outputs |= {f"cls_layer{i}": state[:, 0] for i, state in enumerate(network.all_layers(*inputs))}
    yield from _pairs(tensors, outputs)


def llava_outputs(folder: Path, device: str = "cpu") -> Outputs:
    """Logits, loss and greedily written ids of every variant of a WSI-LLaVA checkpoint."""
    from core_model.checkpoints.llava import import_llava

    golden, _ = read_golden(folder / EXPECTED, device)
    variants = dict.fromkeys(name.split(".")[0] for name in golden if not name.startswith("in."))
    for variant in variants:
        place = folder / variant
        base = folder / "base" if (place / "adapter_config.json").is_file() else None
        llava, config, _ = import_llava(place, base)
        references = _named(golden, f"{variant}.")
        outputs = _answers(llava.float().eval().to(device), config.language_model, golden, references)
        for name, ours, reference in _pairs(
            {f"out.{key}": value for key, value in references.items()}, outputs
        ):
            yield f"{variant}.{name}", ours, reference


FORMATS: Mapping[str, tuple[tuple[str, ...], Callable[[Tensors, Mapping[str, str]], Outputs]]] = {
    "tile encoder": (("in.pixels",), tile_outputs),
    "slide encoder": (("in.tiles", "in.coords"), slide_outputs),
}
"""Formats of one file, with the inputs by which they are known."""

NOT_YET: Mapping[str, str] = {
    "hipt": "HIPT",
    "hipt-wsi": "HIPT",
    **dict.fromkeys(("cells", "cellvit", "cellvit-sam", "conch", "ccaf", "spf"), "MLLM-HWSI"),
    **dict.fromkeys(("hwsi-language", "hwsi-losses", "hwsi-projector"), "MLLM-HWSI"),
}
"""Networks that are not built here, by the "format" that the metadata of their goldens name."""


def unsupported_network(tensors: Tensors, meta: Mapping[str, str]) -> str | None:
    """The network of a golden that cannot be compared yet; None where the golden is of no such network.

    An older golden of HIPT names no format: it is known by its tensors.
    """
    if any(name.startswith("vit256.") for name in tensors):
        return "HIPT"
    return NOT_YET.get(meta.get("format", ""))


def _pairs(tensors: Tensors, outputs: Mapping[str, Tensor]) -> Outputs:
    references = _named(tensors, "out.")
    if unknown := sorted(set(references) - set(outputs)):
        raise CheckpointError(f"the golden holds outputs that are not known: {', '.join(unknown)}")
    if not references:
        raise CheckpointError("the golden holds no output to compare with")
    for name, value in references.items():
        yield name, outputs[name], value


def _answers(llava: Any, language: Any, inputs: Tensors, references: Tensors) -> dict[str, Tensor]:
    """Outputs of our model for the golden's inputs; only those that `references` names are computed."""
    features, ids, labels = (_needed(inputs, f"in.{name}") for name in ("features", "input_ids", "labels"))
    n, outputs = features.shape[1], dict[str, Any]()
    places = {"input_ids": _expanded(ids, ids, n, language.image_id)}
    if {"logits", "loss"} & set(references):
        out = llava(**places, slide_features=features, labels=_expanded(ids, labels, n, IGNORED))
        outputs |= {"logits": out.logits, "loss": out.loss[None]}
    if "greedy" in references:
        prompt_length = int(
            (labels[0] == IGNORED).long().cumprod(0).sum()
        )  # up to the first word that is learned
        prompt = _expanded(ids[:, :prompt_length], ids[:, :prompt_length], n, language.image_id)
        ids_out = llava.generate(
            input_ids=prompt,
            attention_mask=prompt.new_ones(prompt.shape),
            slide_features=features,
            max_new_tokens=references["greedy"].shape[1],
            do_sample=False,
            eos_token_id=language.eos_id,
            pad_token_id=language.pad_id,
        )
        outputs["greedy"] = ids_out[:, prompt.shape[1] :]
    return outputs


def _expanded(ids: Tensor, values: Tensor, n: int, fill: int) -> Tensor:
    """`values` (B, L) with `fill` n times where `ids` have the placeholder: (B, L + n - 1)."""
    import torch

    rows = []
    for row, value in zip(ids, values, strict=True):
        places = (row == PLACEHOLDER).nonzero().flatten().tolist()  # where in the row (L,)
        if len(places) != 1:
            raise CheckpointError(f"in.input_ids hold {len(places)} places for a slide where one is needed")
        middle = value.new_full((n,), fill)
        rows.append(torch.cat([value[: places[0]], middle, value[places[0] + 1 :]]))  # (L + n - 1,)
    return torch.stack(rows)  # (B, L + n - 1)


def _slide_config(meta: Mapping[str, str]) -> Any:
    from core_model.config import SlideEncoderConfig

    names = ("in_chans", "embed_dim", "depth", "heads", "tile_size", "slide_ngrids", "max_wsi_size")
    try:
        fields: dict[str, Any] = {name: int(meta[name]) for name in names}
        fields |= {name: json.loads(meta[name]) for name in ("dilated_ratio", "segment_length")}
        return SlideEncoderConfig(ffn_dim=int(meta["ffn"]), **fields)
    except KeyError as error:
        raise CheckpointError(f"its metadata do not say {error}") from error
    except ValueError as error:
        raise CheckpointError(f"its metadata describe no slide encoder ({error})") from error


def _heads(meta: Mapping[str, str]) -> int | None:
    """Attention heads, which no tensor tells: a field, or "num_heads 3" in the words about the source."""
    match = re.search(
        r"num_heads[ =:]*(\d+)", f"num_heads {meta.get('num_heads', '')} {meta.get('source', '')}"
    )
    return int(match[1]) if match else None


def _fill(network: Any, state: Mapping[str, Tensor]) -> None:
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise CheckpointError(f"its parameters do not fit: {' '.join(lines)}") from error


def _named(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _needed(tensors: Tensors, name: str) -> Tensor:
    if name not in tensors:
        raise CheckpointError(f"the golden holds no {name}")
    return tensors[name]
