"""Files of the Hugging Face hub, kept in its own cache; what goes wrong there in words of ours.

Whether the network may be used (`HF_HUB_OFFLINE`), whose account it is (`HF_TOKEN`) and where the cache lies
(`HF_HOME`) is the library's to read from the environment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core_model.errors import GiantError

TEXTS = ("*.json", "*.txt", "*.model")
"""Configuration and tokenizer. Code is never fetched."""
WEIGHTS = "*.safetensors"
OLD_WEIGHTS = "pytorch_model*.bin"


def fetch(repo_id: str, filename: str, *, place: str | None = None) -> Path:
    """Path of a repository's file in the cache, downloaded where it is not there yet.

    `place` says in the error how a file from elsewhere is given instead. Raises `GiantError` where the
    repository is gated, unknown or out of reach, or has no such file.
    """
    import huggingface_hub

    with _in_our_words(repo_id, filename, place):
        return Path(huggingface_hub.hf_hub_download(repo_id, filename))


def fetch_folder(repo_id: str) -> Path:
    """Folder in the cache with a transformers model: texts and weights, safetensors where there are any.

    Raises `GiantError` as `fetch` does.
    """
    import huggingface_hub

    place = "copy its folder here and give the folder's path"
    with _in_our_words(repo_id, "config.json", place):
        folder = Path(huggingface_hub.snapshot_download(repo_id, allow_patterns=[*TEXTS, WEIGHTS]))
        if not any(folder.glob(WEIGHTS)):
            huggingface_hub.snapshot_download(repo_id, allow_patterns=[*TEXTS, OLD_WEIGHTS])
        return folder


@contextmanager
def _in_our_words(repo_id: str, filename: str, place: str | None) -> Iterator[None]:
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repo_id}"
    place = place or "download it elsewhere and give its path"
    try:
        yield
    except errors.GatedRepoError as error:
        raise GiantError(
            f"'{repo_id}' is gated: its weights are given to those who asked",
            fix=f"Ask for access at {page}, then set HF_TOKEN to a token of that account; or {place}",
        ) from error
    except errors.LocalEntryNotFoundError as error:
        offline = constants.HF_HUB_OFFLINE
        why = "HF_HUB_OFFLINE is set" if offline else "the hub cannot be reached"
        raise GiantError(
            f"{filename} of '{repo_id}' is not in the cache and {why}",
            fix=f"{'Unset HF_HUB_OFFLINE' if offline else 'Try again when it can'}, or {place}",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise GiantError(
            f"there is no repository '{repo_id}' on the hub, or not for this account",
            fix="Check the name; for a private one set HF_TOKEN",
        ) from error
    except errors.EntryNotFoundError as error:
        raise GiantError(f"'{repo_id}' has no {filename}", where=page, fix=place.capitalize()) from error
    except (errors.HTTPError, errors.HFValidationError, OSError) as error:
        raise GiantError(f"'{repo_id}' cannot be fetched ({error})", fix=place.capitalize()) from error
