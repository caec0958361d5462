"""Names of tensors as wrappers of training leave them, and as the model itself has them.

module.…                       DistributedDataParallel and DeepSpeed
base_model.model.…             peft
mm_projector.0.weight          LLaVA's projector saved by itself
….lora_A.default.weight        an adapter with its name
….modules_to_save.default.…    what peft trained whole
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from core_model.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

PROJECTOR = "mm_projector."
_WRAPPERS = re.compile(r"^(?:_orig_mod\.|_fsdp_wrapped_module\.|module\.|base_model\.model\.)+")
_ADAPTER = re.compile(
    r"\.(lora_(?:A|B|embedding_A|embedding_B|magnitude_vector))(?:\.(?!weight$)[^.]+)?(?:\.weight)?$"
)
_WHOLE = re.compile(r"\.modules_to_save(?:\.(?!weight$|bias$)[^.\d][^.]*)?(?=\.(?:weight|bias)$|\.\d+\.)")
ZERO_3 = "python zero_to_fp32.py . recovered"
"""DeepSpeed's script, which it leaves in every checkpoint folder."""


def plain_name(key: str) -> str:
    """The name of a tensor without what wrappers put around it."""
    name = _WHOLE.sub("", _WRAPPERS.sub("", key)).replace(".base_layer.", ".")
    name = _ADAPTER.sub(r".\1.weight", name)
    return f"model.{name}" if name.startswith(PROJECTOR) else name


def plain(state: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Tensors under their plain names. Raises `CheckpointError` for one name twice or an empty tensor."""
    if empty := [key for key, value in state.items() if value.numel() == 0]:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        raise CheckpointError(
            f"{empty[0]}{more} holds no numbers: DeepSpeed ZeRO-3 left them in files of its own",
            where=file,
            fix=f"run `{ZERO_3}` in the checkpoint's folder, put what it writes in the place of this file,"
            " and import again",
        )
    keys: dict[str, str] = {}
    for key in state:
        name = plain_name(key)
        if name in keys:
            raise CheckpointError(f"{keys[name]} and {key} are both {name}", where=file)
        keys[name] = key
    return {name: state[key] for name, key in keys.items()}
