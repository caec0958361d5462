"""The language model's weights in 4 or 8 bits, by bitsandbytes.

8 bits: LLM.int8() (Dettmers et al. 2022). 4 bits: NF4 with doubly quantised constants (Dettmers et al. 2023).
The projector and the output layer keep their type: they are small, and every error of theirs is heard.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import nn

from core_model.errors import GiantError, UsageError

BITS = (4, 8)
OUTLIERS = 6.0
"""Columns of inputs beyond this size are multiplied unpacked (8 bits)."""


def check_bits(bits: int) -> None:
    """Raise `UsageError` for another number of bits, `GiantError` where bitsandbytes is missing."""
    if bits not in BITS:
        raise UsageError(f"weights of {bits} bits are not offered", fix="use 4 or 8")
    _bitsandbytes()


def pack(llava: Any, bits: int, device: str) -> None:
    """Replace the linear layers of the language model, in place, and move everything to `device`.

    Layers are packed one by one as they arrive there, so that never more than one lies there unpacked.
    """
    library = _bitsandbytes()
    for module in list(llava.model.language_model.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(module, name, _packed(library, layer, bits).to(device))
    llava.to(device)


def _packed(library: Any, layer: nn.Linear, bits: int) -> Any:
    """A layer that packs its weight when it is moved to a device."""
    shape, bias, weight = (layer.in_features, layer.out_features), layer.bias is not None, layer.weight.data
    if bits == 8:
        packed_layer = library.nn.Linear8bitLt(
            *shape, bias, has_fp16_weights=False, threshold=OUTLIERS, device="meta"
        )
        packed_layer.weight = library.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    else:
        packed_layer = library.nn.Linear4bit(
            *shape, bias, compute_dtype=weight.dtype, quant_type="nf4", device="meta"
        )
        packed_layer.weight = library.nn.Params4bit(
            weight, requires_grad=False, quant_type="nf4", compress_statistics=True, module=packed_layer
        )
    packed_layer.bias = layer.bias
    return packed_layer


def _bitsandbytes() -> Any:
    try:
        return import_module("bitsandbytes")
    except ImportError as error:
        raise GiantError(
            f"4- and 8-bit weights need bitsandbytes ({error})", fix="pip install bitsandbytes"
        ) from error
