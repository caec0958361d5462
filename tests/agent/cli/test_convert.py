"""`giant import`, `giant export`, and asking an imported model: the embedded one stands for the released."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_fakes import giant, one_line, only_json, paint

from core_model import load_model
from core_model.checkpoints.folder import load_checkpoint, read_config
from core_model.features.slide_tokens import SlideTokens
from core_model.models.tile_encoders import MINI

OPTIONS = ("--option", "grade 1", "--option", "grade 2")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model's language model and projector in LLaVA's format."""
    folder = tmp_path_factory.mktemp("released") / "llava"
    result = giant("export", "mini", "--out", folder)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(folder)
    return folder


@pytest.fixture(scope="module")
def speaking(released: Path) -> Path:
    """Imported without encoders."""
    folder = released.with_name("speaking")
    result = giant("import", "--llava", released, "--out", folder, "--name", "speaking")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def seeing(released: Path) -> Path:
    """Imported with both encoders."""
    folder = released.with_name("seeing")
    encoders = ("--tile-encoder", "mini", "--slide-encoder", MINI)
    result = giant("import", "--llava", released, *encoders, "--out", folder)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_what_comes_back_is_what_went_out(speaking: Path) -> None:
    mini, _ = load_checkpoint(MINI)
    parts, config = load_checkpoint(speaking)
    assert config.parts == ("projector", "language_model")
    before, after = mini.states(), parts.states()
    for name in config.parts:
        assert all(torch.equal(value, before[name][key]) for key, value in after[name].items())
    assert config.model_copy(update={"parts": (), "name": "mini"}) == read_config(MINI).model_copy(
        update={"parts": ()}
    )
    assert "--mode slide" in (speaking / "MODEL_CARD.md").read_text()


def test_an_imported_model_answers_like_the_one_it_came_from(speaking: Path) -> None:
    values = torch.randn((32, 192), generator=torch.Generator().manual_seed(0))
    seen, question = SlideTokens(values, "slide", "digest"), "What is the grade?"
    imported, mini = load_model(speaking, "cpu"), load_model("mini", "cpu")
    assert imported.generate(seen, question) == mini.generate(seen, question)
    options = ["grade 1", "grade 2"]
    found, expected = (model.score_options(seen, question, options) for model in (imported, mini))
    np.testing.assert_array_equal(found, expected)


def test_an_imported_model_with_encoders_is_asked_about_a_slide(seeing: Path, tmp_path: Path) -> None:
    slide = paint(tmp_path / "a.png")
    how = ("--model", seeing, "--mpp", "2", "--json")
    answer = only_json(giant("ask", slide, "What is the grade?", *OPTIONS, "--mode", "slide", *how))
    assert answer["model"] == "mini"
    assert answer["mode"] == "slide"
    assert answer["confidence"] > 0
    line = one_line(giant("ask", slide, "What is the grade?", *OPTIONS, *how[:-1]))
    assert "has no alignment" in line
    assert "--mode slide" in line


def test_an_imported_model_without_encoders_is_asked_about_tokens(speaking: Path, tmp_path: Path) -> None:
    torch.save(torch.randn(32, 192), tmp_path / "a.pt")
    how = ("--model", speaking, "--mode", "slide")
    answer = only_json(giant("ask", "a.pt", "What is the grade?", *OPTIONS, *how, "--json"))
    assert answer["choice"] in ("grade 1", "grade 2")
    line = one_line(giant("ask", paint(tmp_path / "a.png"), "What is the grade?", "--mpp", "2", *how))
    assert "'speaking' has no tile encoder" in line
    assert not (tmp_path / "giant-runs" / "a").exists()


def test_a_round_trip_through_both_commands_is_exact(released: Path, speaking: Path, tmp_path: Path) -> None:
    assert giant("export", speaking, "--out", tmp_path / "again").exit_code == 0
    weights = [(folder / "model.safetensors").read_bytes() for folder in (released, tmp_path / "again")]
    assert weights[0] == weights[1]
    fields = [json.loads((folder / "config.json").read_text()) for folder in (released, tmp_path / "again")]
    names = [one.pop("giant").pop("name") for one in fields]
    assert names == ["mini", "speaking"]
    assert fields[0] == fields[1]


def test_a_slide_encoder_file_and_a_tile_encoder_file(
    released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published formats, at small size; what their readers do has tests of its own."""
    from core_model.config import SlideEncoderConfig, TileEncoderConfig
    from core_model.encoders import gigapath, slide_encoder
    from core_model.encoders.slide_encoder import LongNetViT
    from core_model.encoders.vit import build_tile_encoder

    tiles = TileEncoderConfig.gigapath().model_copy(
        update={"embed_dim": 24, "depth": 1, "heads": 1, "ffn_dim": 64, "tile_px": 32, "crop_px": 32}
    )
    slides = SlideEncoderConfig(in_chans=24, embed_dim=16, depth=1, heads=2, ffn_dim=16)
    given: dict[str, Any] = {}

    def network_of(state: dict[str, Any]) -> Any:
        given["tiles"] = state
        return build_tile_encoder(tiles), tiles

    def load_slide_encoder(path: Path) -> LongNetViT:
        given["slides"] = path
        return LongNetViT(slides)

    monkeypatch.setattr(gigapath, "network_of", network_of)
    monkeypatch.setattr(slide_encoder, "load_slide_encoder", load_slide_encoder)
    torch.save({"cls_token": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    encoders = ("--tile-encoder", tmp_path, "--slide-encoder", tmp_path / "slide_encoder.pth")
    result = giant("import", "--llava", released, *encoders, "--out", tmp_path / "model")
    assert result.exit_code == 0, result.output
    assert set(given["tiles"]) == {"cls_token"}
    assert given["slides"] == tmp_path / "slide_encoder.pth"
    parts, config = load_checkpoint(tmp_path / "model")
    assert (config.tile_encoder, config.slide_encoder) == (tiles, slides)
    assert parts.slide_encoder is not None
    assert parts.tile_encoder is not None


def test_encoders_that_do_not_fit_are_refused(released: Path, seeing: Path, tmp_path: Path) -> None:
    config = json.loads((released / "config.json").read_text())
    del config["giant"]
    (tmp_path / "bare").mkdir()
    for path in released.iterdir():
        (tmp_path / "bare" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "bare" / "config.json").write_text(json.dumps(config | {"mm_hidden_size": 768}))
    line = one_line(giant("import", "--llava", tmp_path / "bare", "--out", tmp_path / "model"))
    assert "model.mm_projector.0.weight has shape" in line
    found = giant("import", "--llava", released, "--tile-encoder", seeing / "x", "--out", tmp_path / "model")
    assert "there is no such file" in one_line(found)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("import", "--llava", "nothing", "--out", "model"), "no such folder"),
        (("import", "--llava", "bare", "--out", "model"), "config.json: the file cannot be read"),
        (("export", "nothing", "--out", "model"), "no such model folder"),
        (("import", "--llava", "bare", "--out", "bare"), "is in the way"),
    ],
)
def test_what_cannot_be_converted_is_said_in_one_line(
    args: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "thesis.txt").write_text("years of work")
    result = giant(*args)
    assert says in one_line(result)
    assert result.exit_code == 1
    assert not (tmp_path / "model").exists()


def test_a_released_folder_without_tokenizer_asks_for_one(released: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((released / name).read_bytes())
    line = one_line(giant("import", "--llava", bare, "--out", tmp_path / "model"))
    assert "--tokenizer DIR" in line
    result = giant("import", "--llava", bare, "--tokenizer", released, "--out", tmp_path / "model")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("bits", ["3", "16"])
def test_bits_that_are_not_offered_are_refused(bits: str, tmp_path: Path) -> None:
    slide = paint(tmp_path / "a.png")
    result = giant("ask", slide, "Which?", "--mpp", "2", "--bits", bits)
    assert "use 4 or 8" in one_line(result)
    assert result.exit_code == 2
