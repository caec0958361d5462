"""What the hub refuses, in words a user can act on. The library's own errors; nothing leaves the machine."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from core_model import load_tile_encoder
from core_model.encoders import hub
from core_model.errors import GiantError

HTTP = import_module(errors.HTTPError.__module__.split(".")[0])
"""The library's HTTP client: httpx, under the name of its version."""
REPOSITORY = "prov-gigapath/prov-gigapath"


def refused(kind: type[errors.HfHubHTTPError], status: int) -> errors.HfHubHTTPError:
    request = HTTP.Request("GET", f"{constants.ENDPOINT}/{REPOSITORY}")
    return kind(f"{status} Client Error.", response=HTTP.Response(status, request=request))


def failing(error: Exception) -> Any:
    def download(*_: Any, **__: Any) -> str:
        raise error

    return download


REFUSALS = [
    (refused(errors.GatedRepoError, 403), rf"is gated.*access at \S+/{REPOSITORY}.*HF_TOKEN"),
    (refused(errors.RepositoryNotFoundError, 401), "no repository.*HF_TOKEN"),
    (refused(errors.RemoteEntryNotFoundError, 404), "has no "),
    (refused(errors.HfHubHTTPError, 500), "cannot be fetched.*500"),
    (errors.LocalEntryNotFoundError("not cached"), "not in the cache and the hub cannot be reached"),
    (errors.HFValidationError("bad id"), "cannot be fetched.*bad id"),
    (HTTP.ProxyError("proxy"), "cannot be fetched.*proxy"),
    (PermissionError(13, "Permission denied"), "cannot be fetched.*Permission denied"),
]


@pytest.mark.parametrize(("error", "said"), REFUSALS)
def test_errors_say_what_to_do(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", failing(error))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", failing(error))
    with pytest.raises(GiantError, match=said) as caught:
        hub.fetch(REPOSITORY, "pytorch_model.bin")
    assert "\n" not in str(caught.value)
    with pytest.raises(GiantError, match=said):
        hub.fetch_folder(REPOSITORY)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and the library told not to use the network."""
    monkeypatch.delenv("GIANT_GIGAPATH", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_offline_without_a_cached_file(offline: Path) -> None:
    with pytest.raises(GiantError, match=r"HF_HUB_OFFLINE is set.*pytorch_model\.bin in GIANT_GIGAPATH"):
        load_tile_encoder("gigapath")
    with pytest.raises(GiantError, match=r"HF_HUB_OFFLINE is set.*folder's path"):
        load_tile_encoder("some-lab/vit")


def test_offline_with_a_cached_file(offline: Path) -> None:
    place = offline / "models--prov-gigapath--prov-gigapath"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    cached = place / "snapshots" / ("0" * 40) / "pytorch_model.bin"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"weights")
    assert hub.fetch(REPOSITORY, "pytorch_model.bin") == cached


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_old_weights_only_where_there_are_no_safetensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    asked: list[list[str]] = []

    def download(_: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        if any(Path(weights).match(pattern) for pattern in allow_patterns):
            (tmp_path / weights).touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert hub.fetch_folder("some-lab/vit") == tmp_path
    assert (tmp_path / weights).exists()
    assert len(asked) == (1 if weights == "model.safetensors" else 2)
    assert not any("py" in pattern.split(".")[-1] for patterns in asked for pattern in patterns)
