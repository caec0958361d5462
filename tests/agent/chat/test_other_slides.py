"""`giant ask --index`: tiles of other slides are named as similar, and nothing else of a run changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import chat_fakes as chat
import numpy as np
import pytest

from core_model.errors import FeatureStoreError, RunError, UsageError
from tools.cohort.update import add_slides
from tools.index import SUFFIX, TileIndex, unit

Ask = Callable[..., chat.Ran]
IDENTITY = {"space": "tile", "fingerprint": "f", "tile_um": "80"}
OTHER = "a1b2c3d4e5f60718"


class IndexedModel(chat.SlideModel):
    tile_encoder = SimpleNamespace(mpp=1.0, name="fake", fingerprint="f", tile_um=80.0)


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_reports: None) -> Ask:
    return chat.asker(tmp_path, monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An index of one other slide, of a patient whose name is its file's."""
    channels = chat.tile_features().features.shape[1]
    vectors = unit(np.random.default_rng(0).random((4, channels)))
    index = TileIndex(vectors, np.arange(8, dtype=np.int64).reshape(4, 2) * 100, 100, mpp=0.25)
    path = tmp_path / "store" / "features_fake" / f"DOE_JANE{SUFFIX}"
    index.save(path, {**IDENTITY, "slide": OTHER})
    add_slides([path])
    return tmp_path / "store"


def script(*search: tuple[str, dict[str, object]]) -> chat.Line:
    return chat.line(*map(chat.calls, search), chat.calls(chat.answer()), chat.verdict())


BY_BOX: tuple[str, dict[str, object]] = ("retrieve", {"x": 100, "y": 100, "w": 200, "h": 200, "k": 2})
BY_TEXT: tuple[str, dict[str, object]] = ("retrieve", {"text": "pink tissue", "k": 2})


def test_tiles_of_other_slides_are_named_apart_and_as_no_evidence(ask: Ask, store: Path) -> None:
    ran = ask(script(BY_BOX, BY_TEXT), index=store, slide_model=IndexedModel())
    for step, like in zip(ran.steps[9:11], ("the box", "the first of these"), strict=True):
        words, others = step.observation.text, step.observation.data["elsewhere"]
        assert (
            f"look like {like} (similar, but no evidence about this slide): 1. slide a1b2c3d4e5f6 at" in words
        )
        assert len(others) == 2
        assert all((hit["slide_id"], hit["mpp"]) == (OTHER, 0.25) for hit in others)
        assert all("slide_id" not in hit for hit in step.observation.data["hits"])
        assert "0.25 µm/px" in chat.text_of(ran.way.asked[2])
    told = json.dumps([[message.content for message in asked] for asked in ran.way.asked])
    assert "DOE" not in told, "a file's name may be a patient's"
    assert "DOE" not in (ran.folder / "trace.jsonl").read_text()


def test_a_model_is_told_the_same_until_it_retrieves(ask: Ask, store: Path) -> None:
    without = ask(script(BY_BOX), slide_model=IndexedModel())
    given = ask(script(BY_BOX), index=store, slide_model=IndexedModel())
    assert [message.content for message in given.way.asked[0]] == [
        message.content for message in without.way.asked[0]
    ]
    assert given.way.tools == without.way.tools
    searched = without.steps[9].observation
    assert "elsewhere" not in searched.data
    assert given.steps[9].observation.text.startswith(searched.text)


def test_a_run_goes_on_only_with_the_index_it_began_with(ask: Ask, store: Path, tmp_path: Path) -> None:
    given = {"index": store, "slide_model": IndexedModel(), "out": tmp_path / "run"}
    ran = ask(script(BY_BOX), **given)
    record = json.loads((ran.folder / "run.json").read_text())
    assert len(record["settings"]["index"]) == 16
    first = store / "features_fake" / f"DOE_JANE{SUFFIX}"
    again = TileIndex.load(first)
    again.save(first.with_name(f"second{SUFFIX}"), {**IDENTITY, "slide": "another"})
    add_slides([first])
    with pytest.raises(RunError, match="index"):
        ask(script(BY_BOX), **given, resume=True)


def test_an_index_of_other_weights_or_none_is_refused(ask: Ask, store: Path, tmp_path: Path) -> None:
    other = IndexedModel()
    other.tile_encoder = SimpleNamespace(mpp=1.0, name="fake", fingerprint="new", tile_um=80.0)
    with pytest.raises(FeatureStoreError, match="fingerprint"):
        ask(script(BY_BOX), index=store, slide_model=other)
    with pytest.raises(UsageError, match=r"no index of a cohort.*giant index"):
        ask(script(BY_BOX), index=tmp_path / "nowhere", slide_model=IndexedModel())
    with pytest.raises(UsageError, match="--index"):
        ask(script(BY_BOX), index=store, profile="giant")
