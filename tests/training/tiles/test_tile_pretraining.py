"""Tile-encoder pretraining on tiny tiles: splits, crops that keep their truth, resumption, the probe."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core_model.config import TileEncoderConfig
from core_model.encoders.vit import build_tile_encoder
from core_model.errors import CheckpointError, CohortError, UsageError
from core_model.models.tile_encoders import load_tile_encoder
from training.phantom.truth import BENIGN, DIAGNOSES, PhantomTruth, Zone
from training.tiles.augment import jitter_stain, orient
from training.tiles.batches import TileData, _phantom_crops
from training.tiles.data import PhantomTiles, RealTiles, collect_phantom_tiles, load_real_tiles, split_groups
from training.tiles.heads import NO_LABEL, CellTruth, cell_tokens
from training.tiles.pretrain import TileRun, pretrain_tile_encoder
from training.tiles.probe import probe_features, probe_phantom, probe_real_tiles
from training.tiles.settings import TileSettings
from training.tiles.vit import vit_tokens

TINY = TileEncoderConfig(embed_dim=16, depth=2, heads=2, ffn_dim=32, patch_px=8, tile_px=56, mpp=2.0)
SETTINGS = TileSettings(encoder=TINY, crop_steps=2, full_steps=2, batch=8, per_slide=4, report_every=2)
COLOURS = {"pink": (220, 120, 170), "purple": (110, 70, 150), "white": (240, 238, 242)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of flat colour with noise, four groups each, two variants of each group."""
    root = tmp_path_factory.mktemp("tiles")
    rng = np.random.default_rng(0)
    rows = []
    for name, colour in COLOURS.items():
        for group in range(4):
            for variant in range(2):
                file = f"{name}_{group}_{variant}.png"
                noise = rng.normal(0, 12, (56, 56, 3))
                Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(root / file)
                rows.append({"file": file, "class": name, "group": f"{name}_{group}"})
    with (root / "tiles.csv").open("w", newline="") as file_:
        writer = csv.DictWriter(file_, ["file", "class", "group"])
        writer.writeheader()
        writer.writerows(rows)
    return root


def phantom(count: int = 6, prefix: str = "a") -> PhantomTiles:
    """Tiles whose cells are painted in the colour of their zone."""
    rng = np.random.default_rng(count)
    zones = rng.integers(0, len(Zone), (count, 7, 7)).astype(np.uint8)
    pixels = np.kron(zones * 40, np.ones((1, 8, 8), np.uint8))[..., None].repeat(3, axis=3)
    lymphocytes = rng.integers(0, 3, zones.shape).astype(np.uint8)
    mitoses = (rng.random(zones.shape) < 0.1).astype(np.uint8)
    diagnosis = np.arange(count) % len(DIAGNOSES)
    grade = np.where(diagnosis == DIAGNOSES.index(BENIGN), 0, 1 + np.arange(count) % 3)
    slides = np.array([f"{prefix}{i}" for i in range(count)])
    return PhantomTiles(pixels, zones, lymphocytes, mitoses, diagnosis, grade, slides)


def weights(run: TileRun) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in run.averaged.encoder.parameters()])


@pytest.mark.parametrize("seed", range(5))
def test_groups_never_straddle_the_split(folder: Path, seed: int) -> None:
    tiles = load_real_tiles(folder, 56)
    held = tiles.split_groups(seed)
    assert not set(tiles.groups[held]) & set(tiles.groups[~held])
    assert set(tiles.labels[held]) == set(tiles.labels[~held]) == {0, 1, 2}
    assert np.array_equal(held, tiles.split_groups(seed))


def test_a_group_of_two_classes_is_refused() -> None:
    with pytest.raises(CohortError, match="two classes"):
        split_groups(np.array(["a", "b", "a", "c"]), np.array([0, 0, 1, 1]), 0, 0.25)


def test_a_missing_column_and_a_broken_tile_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tiles.csv").write_text("file,class\na.png,x\n")
    with pytest.raises(CohortError, match="group"):
        load_real_tiles(tmp_path)
    (tmp_path / "tiles.csv").write_text("file,class,group\na.png,x,g\n")
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(CohortError, match=r"a\.png"):
        load_real_tiles(tmp_path)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One slide of 672 px at 0.5 µm/px: 3 x 3 tiles, pink, each truth cell's red value its own."""
    root = tmp_path_factory.mktemp("cohort")
    cells = np.arange(21 * 21).reshape(21, 21)
    pixels = np.empty((672, 672, 3), np.uint8)
    pixels[:] = (0, 90, 160)
    pixels[..., 0] = np.kron(150 + cells % 97, np.ones((32, 32)))
    (root / "slides").mkdir()
    Image.fromarray(pixels).save(root / "slides" / "one.tiff", dpi=(50800, 50800), compression="tiff_lzw")
    zones = np.full((21, 21), Zone.TUMOUR, np.uint8)
    truth = PhantomTruth(
        name="one", seed=0, index=0, width=672, height=672, mpp=0.5, cell_px=32, stain="violet",
        diagnosis=DIAGNOSES[0], grade=2, zones=zones, lymphocytes=(cells % 97).astype(np.uint8),
        mitoses=np.zeros((21, 21), np.uint8), mitosis_xy=np.zeros((0, 2), np.int32),
    )  # fmt: skip
    truth.save(root)
    (root / "split.json").write_text(json.dumps({"train": ["one"], "val": []}))
    return root


def test_phantom_tiles_come_with_the_truth_under_them(cohort: Path) -> None:
    tiles = collect_phantom_tiles(cohort, ["one"], 5, seed=1)
    assert tiles.pixels.shape == (5, 224, 224, 3)
    shown = tiles.pixels[:, 16::32, 16::32, 0].astype(int) - 150
    assert np.array_equal(shown, tiles.lymphocytes)
    assert set(tiles.grade) == {2}
    again = collect_phantom_tiles(cohort, ["one"], 5, seed=1)
    assert np.array_equal(tiles.pixels, again.pixels)
    with pytest.raises(CohortError, match="112 µm"):
        collect_phantom_tiles(cohort, ["one"], 5, tile_px=128)


def test_a_cohort_alone_trains_an_encoder(cohort: Path, tmp_path: Path) -> None:
    written = pretrain_tile_encoder(cohort, None, tmp_path / "run", SETTINGS)
    assert load_tile_encoder(written).dim == TINY.embed_dim


def test_a_crop_keeps_the_truth_of_its_cells() -> None:
    tiles = phantom(24)
    pixels, truth = _phantom_crops(tiles, np.arange(24), 4, 8, torch.Generator().manual_seed(3))
    assert pixels.shape == (24, 3, 32, 32)
    assert torch.equal(pixels[:, 0, ::8, ::8].long(), truth.zones * 40)


def test_the_eight_orientations_differ() -> None:
    seen = orient(torch.arange(9.0).view(1, 3, 3).expand(8, 3, 3), torch.arange(8))
    assert len({tuple(one.flatten().tolist()) for one in seen}) == 8


def test_stain_varies_between_tiles_and_spares_the_range() -> None:
    flat = torch.full((4, 3, 8, 8), 150.0)
    varied = jitter_stain(flat, 0.2, torch.Generator().manual_seed(0))
    assert len({round(float(one.mean()), 3) for one in varied}) == 4
    assert float(varied.min()) >= 0
    assert float(varied.max()) <= 255
    assert torch.allclose(jitter_stain(flat, 0.0, torch.Generator()), flat, atol=0.01)


def test_whole_tiles_give_the_tokens_of_the_plain_network() -> None:
    network = build_tile_encoder(TINY).eval()
    images = torch.rand(2, 3, 56, 56)
    with torch.no_grad():
        ours = vit_tokens(network, images, 0.5, torch.Generator())
        assert torch.allclose(ours, network(pixel_values=images).last_hidden_state, atol=1e-5)
        assert vit_tokens(network, images[..., :32, :32], 0.0, torch.Generator()).shape == (2, 1 + 16, 16)


def test_patch_tokens_are_averaged_in_their_own_cell() -> None:
    places = torch.arange(16.0).view(1, 16, 1)  # 4 x 4 patches, 2 x 2 cells
    assert cell_tokens(places, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


def test_a_tile_of_a_tumour_slide_teaches_only_what_it_shows() -> None:
    zones = torch.full((3, 7, 7), int(Zone.STROMA))
    zones[1, :4] = Zone.TUMOUR
    zones[2, 0, :4] = Zone.TUMOUR  # 8 %: neither
    none = torch.zeros(3, 7, 7)
    truth = CellTruth(zones, none, none, torch.tensor([1, 1, 1]), torch.tensor([2, 2, 2]))
    diagnosis, grade = truth.labels()
    assert diagnosis.tolist() == [DIAGNOSES.index(BENIGN), 1, NO_LABEL]
    assert grade.tolist() == [0, 2, NO_LABEL]


def test_training_changes_the_network_and_resumes_to_the_same(folder: Path, tmp_path: Path) -> None:
    data = TileData(SETTINGS, load_real_tiles(folder, 56), phantom(), phantom(5, "b"))
    whole, first = TileRun(SETTINGS, data), TileRun(SETTINGS, data)
    start = weights(whole)
    for _ in range(4):
        whole.advance()
    assert not torch.equal(start, weights(whole))
    for _ in range(2):
        first.advance()
    first.save(tmp_path / "state.pt")
    second = TileRun(SETTINGS, data)
    second.resume(tmp_path / "state.pt")
    while second.step < 4:
        second.advance()
    assert torch.equal(weights(whole), weights(second))
    figures = second.report()["held_out"]
    assert 0 <= figures["real_balanced_accuracy"] <= 1
    assert "mitoses_r" in figures


def test_the_rate_rises_and_falls_to_nothing_and_vectors_do_not_decay() -> None:
    settings = replace(SETTINGS, crop_steps=6, full_steps=2, warmup=0.5, learning_rate=0.01)
    run = TileRun(settings, TileData(settings, None, phantom()))
    rates = []
    for _ in range(settings.steps):
        run.advance()
        rates += [group["lr"] for group in run.optimizer.param_groups[:1]]
    share = (np.arange(8) + 1) / 8
    expected = 0.01 * np.minimum(1, share / 0.5) * 0.5 * (1 + np.cos(np.pi * share))
    assert rates == pytest.approx(expected, abs=1e-12)
    for group in run.optimizer.param_groups:
        assert {parameter.ndim > 1 for parameter in group["params"]} == {group["weight_decay"] > 0}


def test_the_average_follows_quickly_at_first() -> None:
    settings = replace(SETTINGS, learning_rate=0.1)
    run = TileRun(settings, TileData(settings, None, phantom()))
    start = weights(run)
    run.advance()
    average, student = (
        weights(run),
        torch.cat([p.detach().flatten() for p in run.student.encoder.parameters()]),
    )
    assert torch.allclose(average, torch.lerp(start, student, 9 / 11), atol=1e-6)
    assert not torch.allclose(average, student, atol=1e-4)


def test_a_layer_weighs_more_where_it_is_not_skipped() -> None:
    """On average over skipping, the tokens are those of the whole network."""
    network = build_tile_encoder(TINY).train()
    network.layernorm = torch.nn.Identity()  # after it, means would not be means
    images = torch.rand(1, 3, 56, 56).expand(20, -1, -1, -1)
    with torch.no_grad():
        states = vit_tokens(network, images, 0.5, torch.Generator().manual_seed(0))
        whole = vit_tokens(network, images[:1], 0.0, torch.Generator())[0]
    first = states[0]
    second = next(tokens for tokens in states if not torch.allclose(tokens, first, atol=1e-4))
    assert all(
        torch.allclose(tokens, first, atol=1e-4) or torch.allclose(tokens, second, atol=1e-4)
        for tokens in states
    )
    assert torch.allclose((first + second) / 2, whole, atol=1e-4)


def test_a_state_of_other_settings_is_refused(folder: Path, tmp_path: Path) -> None:
    data = TileData(SETTINGS, load_real_tiles(folder, 56), None)
    TileRun(SETTINGS, data).save(tmp_path / "state.pt")
    other = TileSettings(**{**vars(SETTINGS), "seed": 1})
    with pytest.raises(CheckpointError, match="other settings"):
        TileRun(other, data).resume(tmp_path / "state.pt")
    (tmp_path / "state.pt").write_bytes(b"cut off")
    with pytest.raises(CheckpointError, match="cannot be read"):
        TileRun(SETTINGS, data).resume(tmp_path / "state.pt")


def test_the_written_encoder_loads_and_its_features_tell_the_classes(folder: Path, tmp_path: Path) -> None:
    written = pretrain_tile_encoder(None, folder, tmp_path / "run", SETTINGS)
    assert (written / "tile_encoder.safetensors").is_file()
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    encoder = load_tile_encoder(written)
    result = probe_real_tiles(encoder, folder)
    assert result.balanced_accuracy == 1.0  # flat colours: any network tells them apart
    assert result.groups == (9, 3)
    assert (result.n_train, result.n_test) == (18, 6)


def test_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no tiles"):
        pretrain_tile_encoder(None, None, tmp_path)
    with pytest.raises(UsageError, match="7 cells"):
        TileSettings(encoder=TileEncoderConfig(tile_px=64))


def test_the_probe_finds_nothing_in_shuffled_labels() -> None:
    rng = np.random.default_rng(0)
    groups = np.array([f"g{i}" for i in range(400)])
    labels = np.arange(400) % 4
    features = np.eye(4, dtype=np.float32)[labels] + rng.normal(0, 0.2, (400, 4)).astype(np.float32)
    names = ("a", "b", "c", "d")
    empty = np.zeros((400, 1, 1, 3), np.uint8)
    assert probe_features(features, RealTiles(empty, labels, groups, names)).balanced_accuracy > 0.95
    shuffled = RealTiles(empty, rng.permutation(labels), groups, names)
    assert probe_features(features, shuffled).balanced_accuracy < 0.45


def test_the_phantom_probe_refuses_a_slide_on_both_sides() -> None:
    class Mean:
        """An encoder that sees only the mean of each row of pixels."""

        tile_px = 56

        def encode(self, images: list[Image.Image]) -> np.ndarray:
            return np.stack([np.asarray(image, np.float32).mean((1, 2)) for image in images])

    result = probe_phantom(Mean(), phantom(40), phantom(30, "b"))  # type: ignore[arg-type]
    assert (result.n_train, result.n_test) == (40, 30)
    assert set(result.zones) == {zone.name.lower() for zone in Zone}
    with pytest.raises(CohortError, match="both trained and judged"):
        probe_phantom(Mean(), phantom(40), phantom(30))  # type: ignore[arg-type]
