"""The tokenizer of a published language model, taught `<image>` and to end answers as its template does.

Llama's and Vicuna's come as a sentencepiece model (`tokenizer.model`), which transformers turns into a fast
tokenizer where sentencepiece is installed; `tokenizer.json` needs nothing more.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from core_model.errors import CheckpointError
from core_model.language.conversation import IMAGE, TEMPLATES

FAST, SENTENCEPIECE = "tokenizer.json", "tokenizer.model"


def read_tokenizer(folder: str | Path, template: str) -> Any | None:
    """The tokenizer in a folder, as `prepared` leaves it; None where there is none.

    Raises `CheckpointError` where it cannot be read, or is not one for `template`.
    """
    from transformers import AutoTokenizer

    folder = Path(folder)
    files = [name for name in (FAST, SENTENCEPIECE, "vocab.json") if (folder / name).is_file()]
    if not files:
        return None
    if files[0] == SENTENCEPIECE and find_spec("sentencepiece") is None:
        raise CheckpointError(
            f"{SENTENCEPIECE} cannot be read without sentencepiece",
            where=folder,
            fix=f"pip install sentencepiece, or put the {FAST} of the same tokenizer beside it",
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exception for a bad file
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(f"its tokenizer cannot be read ({reason[0]})", where=folder) from error
    return prepared(tokenizer, template, folder)


def prepared(tokenizer: Any, template: str, where: object = None) -> Any:
    """Give a tokenizer `<image>` as its last token, an end that closes an answer, and a padding token.

    Padding is what LLaVA takes: `<unk>` where the tokenizer has none of its own. Raises `CheckpointError`
    for a tokenizer that is not fast, does not know the template's end, or does not write its `<s>`.
    """
    if not tokenizer.is_fast:
        raise CheckpointError("its tokenizer is not a fast one", where=where, fix=f"give its {FAST}")
    end = TEMPLATES[template].end
    if end not in tokenizer.get_vocab():
        raise CheckpointError(
            f"its tokenizer does not know {end}, with which answers end in the template {template}",
            where=where,
        )
    tokenizer.eos_token = end
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or end
    tokenizer.padding_side = "right"
    if IMAGE not in tokenizer.get_vocab():
        tokenizer.add_tokens([IMAGE], special_tokens=True)
    ids = tokenizer("grade")["input_ids"]
    if tokenizer.bos_token_id not in (None, ids[0]) or ids[-1] == tokenizer.eos_token_id:
        raise CheckpointError(
            f"its tokenizer does not begin a text with {tokenizer.bos_token}, or ends it with {end}",
            where=where,
        )
    return tokenizer
