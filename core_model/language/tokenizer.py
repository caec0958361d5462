"""The tokenizer of a published language model, taught `<image>` and to end answers as its template does.

Llama's and Vicuna's come as a sentencepiece model (`tokenizer.model`), which transformers turns into a fast
tokenizer where sentencepiece is installed; `tokenizer.json` needs nothing more. What comes out must split
texts as sentencepiece does, and know every token of `added_tokens.json` by its id there.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from core_model.errors import CheckpointError
from core_model.language.conversation import IMAGE, TEMPLATES

FAST, SENTENCEPIECE, DESCRIBED, ADDED = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "added_tokens.json",
)
_LLAMA = ("LlamaTokenizer", "LlamaTokenizerFast", None)
_TRIED = ("grade 2 tumour, no necrosis.", "USER: What is the diagnosis? ASSISTANT:", "a  b")
"""Texts that a converted tokenizer must split as its sentencepiece model does."""


def read_tokenizer(folder: str | Path, template: str) -> Any | None:
    """The tokenizer in a folder, as `prepared` leaves it; None where there is none.

    Raises `CheckpointError` where it cannot be read, or is not one for `template`.
    """
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
        tokenizer = _loaded(folder, files[0])
    except CheckpointError:
        raise
    except Exception as error:  # the tokenizers library raises bare Exception for a bad file
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(f"its tokenizer cannot be read ({reason[0]})", where=folder) from error
    _check_added(tokenizer, folder)
    if files[0] == SENTENCEPIECE:
        _check_pieces(tokenizer, folder)
    return prepared(tokenizer, template, folder)


def _loaded(folder: Path, file: str) -> Any:
    """The tokenizer as transformers reads it; a sentencepiece model that says nothing else is a Llama's.

    It begins texts with `<s>` unless its description says otherwise: transformers 5 would leave that out.
    """
    from transformers import AutoTokenizer, LlamaTokenizer

    described = _read_json(folder / DESCRIBED)
    where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if file != SENTENCEPIECE or described.get("tokenizer_class", _LLAMA[0]) not in _LLAMA:
        return AutoTokenizer.from_pretrained(folder, **where)
    pieces = _pieces(folder)
    places = {"unk_token": pieces.unk_id(), "bos_token": pieces.bos_id(), "eos_token": pieces.eos_id()}
    unsaid = {name: pieces.id_to_piece(place) for name, place in places.items() if not described.get(name)}
    begins = {"add_bos_token": described.get("add_bos_token", True)}
    return LlamaTokenizer.from_pretrained(folder, **where, **unsaid, **begins)


def _pieces(folder: Path) -> Any:
    """The sentencepiece model itself. Raises `CheckpointError`."""
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_file=str(folder / SENTENCEPIECE))
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"{SENTENCEPIECE} is no model of sentencepiece ({str(error).strip()})",
            where=folder,
            fix=f"put the {FAST} of the same tokenizer beside it",
        ) from error


def _check_added(tokenizer: Any, folder: Path) -> None:
    """Raise `CheckpointError` where a token of added_tokens.json has another id, or none."""
    vocabulary = tokenizer.get_vocab()
    for token, place in _read_json(folder / ADDED).items():
        if vocabulary.get(token) != place:
            found = vocabulary.get(token, "none")
            raise CheckpointError(
                f"{ADDED} gives {token!r} the id {place}, the tokenizer has {found}",
                where=folder,
                fix="give the files of one tokenizer",
            )


def _check_pieces(tokenizer: Any, folder: Path) -> None:
    """Raise `CheckpointError` where the tokenizer splits texts otherwise than its sentencepiece model."""
    pieces = _pieces(folder)
    for text in _TRIED:
        if tokenizer.encode(text, add_special_tokens=False) != pieces.encode(text):
            raise CheckpointError(
                f"the tokenizer that transformers makes of {SENTENCEPIECE} splits {text!r} otherwise",
                where=folder,
                fix=f"put the {FAST} of the same tokenizer beside it",
            )


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is no such file. Raises `CheckpointError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the file cannot be read ({error})", where=path) from error
    if not isinstance(content, dict):
        raise CheckpointError("the file holds no JSON object", where=path)
    return content


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
