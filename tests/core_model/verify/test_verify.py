"""`giant verify`: goldens that agree, that do not, that are broken, and the published example."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from core_model.encoders.gigapath import load_gigapath, network_of
from core_model.encoders.slide_encoder import LongNetViT, SlideEncoderConfig
from core_model.errors import CheckpointError, GiantError
from core_model.verify.compare import Verification, verify_folder

Tensors = dict[str, torch.Tensor]
SLIDE = SlideEncoderConfig(
    in_chans=6, embed_dim=12, depth=2, heads=3, ffn_dim=8, tile_size=256, slide_ngrids=64, max_wsi_size=16384
)


def giant(*args: object) -> Any:
    from agent.cli.app import build_app

    return CliRunner().invoke(build_app(), [str(arg) for arg in args])


@torch.inference_mode()
def tile_golden(folder: Path, state: Tensors) -> Path:
    """A golden of a tile encoder with 2 heads, in the reference's format."""
    network, _ = network_of(state)
    pixels = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    tokens = network(pixel_values=pixels).last_hidden_state
    tensors = {"in.pixels": pixels, "out.features": tokens, "out.embedding": tokens[:, 0].contiguous()}
    tensors |= {f"param.{name}": value for name, value in state.items()}
    save_file(tensors, folder / "tile.safetensors", metadata={"source": "ours, num_heads 2; random"})
    return folder / "tile.safetensors"


@torch.inference_mode()
def slide_golden(folder: Path) -> Path:
    """A golden of a slide encoder, in the reference's format."""
    torch.manual_seed(0)
    network = LongNetViT(SLIDE).eval()
    inputs = torch.randn(1, 40, 6), torch.rand(1, 40, 2) * 9000
    tensors = {"in.tiles": inputs[0], "in.coords": inputs[1], "out.tokens": network(*inputs)}
    tensors["out.global_pool"] = network.global_pool(*inputs)
    layers = network.all_layers(*inputs)
    tensors |= {f"out.cls_layer{i}": x[:, 0].contiguous() for i, x in enumerate(layers)}
    tensors |= {f"param.{name}": value for name, value in network.state_dict().items()}
    names = ("in_chans", "embed_dim", "depth", "heads", "tile_size", "slide_ngrids", "max_wsi_size")
    meta = {name: str(getattr(SLIDE, name)) for name in names} | {"ffn": str(SLIDE.ffn_dim)}
    meta |= {"dilated_ratio": json.dumps(SLIDE.dilated_ratio), "segment_length": json.dumps(SLIDE.segments)}
    save_file(tensors, folder / "slide.safetensors", metadata=meta)
    return folder / "slide.safetensors"


def change(path: Path, how: Callable[[Tensors], object], **meta: str) -> None:
    """Write a golden again after `how` was done to its tensors."""
    with safe_open(path, framework="pt") as file:
        known = file.metadata() or {}
    tensors = load_file(path)
    how(tensors)
    save_file(tensors, path, metadata=known | meta)


@pytest.fixture
def goldens(tmp_path: Path, timm_state: Tensors) -> Path:
    folder = tmp_path / "goldens"
    folder.mkdir()
    tile_golden(folder, timm_state)
    slide_golden(folder)
    return folder


def only(folder: Path, status: str) -> list[Any]:
    return [check for check in verify_folder(folder) if check.status == status]


# ---- agreement ----


def test_every_golden_of_the_reference_agrees(shared: Path) -> None:
    found = Verification(checks=tuple(verify_folder(shared / "goldens")))
    assert found.ok, [check for check in found.checks if check.status != "ok"]
    outputs = {(check.file.split(".")[0], check.output) for check in found.checks}
    assert {("gigapath_tile", "features"), ("gigapath_tile", "embedding")} < outputs
    assert {("longnet_segmented", name) for name in ("tokens", "global_pool", "cls_layer3")} < outputs
    variants = {f"{name}.{what}" for name in ("base", "lora") for what in ("logits", "loss")}
    assert {("wsi_llava_checkpoint", name) for name in (*variants, "base.greedy")} < outputs
    skipped = {check.file: check.message for check in found.checks if check.status == "skipped"}
    assert skipped["hipt.safetensors"] == "HIPT is not supported yet"
    hwsi = {name: message for name, message in skipped.items() if name.startswith("hwsi_")}
    assert set(hwsi.values()) <= {"MLLM-HWSI is not supported yet", "HIPT is not supported yet"}
    assert {path.name for path in (shared / "goldens").glob("hwsi_*.safetensors")} == set(hwsi)


@pytest.mark.parametrize(
    ("format_name", "network"),
    [("cellvit", "MLLM-HWSI"), ("hwsi-projector", "MLLM-HWSI"), ("spf", "MLLM-HWSI"), ("hipt-wsi", "HIPT")],
)
def test_goldens_of_networks_that_are_not_built_here_are_skipped(
    goldens: Path, format_name: str, network: str
) -> None:
    tensors = {"in.batch": torch.zeros(1), "out.batch": torch.zeros(1)}
    save_file(tensors, goldens / "later.safetensors", metadata={"format": format_name})
    (check,) = only(goldens, "skipped")
    assert (check.file, check.message) == ("later.safetensors", f"{network} is not supported yet")
    result = giant("verify", goldens)
    assert result.exit_code == 0, "what is skipped is no failure"
    assert f"{network} is not supported yet" in " ".join(result.stdout.split())


def test_a_golden_of_a_format_that_nobody_knows_is_broken(goldens: Path) -> None:
    tensors = {"in.batch": torch.zeros(1), "out.batch": torch.zeros(1)}
    save_file(tensors, goldens / "new.safetensors", metadata={"format": "hwsi-unheard-of"})
    (check,) = only(goldens, "broken")
    assert (check.file, check.message) == ("new.safetensors", "the file is a golden of no known format")
    assert giant("verify", goldens).exit_code == 1


def test_other_files_of_the_same_formats_work(goldens: Path) -> None:
    checks = verify_folder(goldens)
    assert [check.output for check in checks] == [
        *("cls_layer0", "cls_layer1", "cls_layer2", "global_pool", "tokens"),
        *("embedding", "features"),
    ]
    assert all(check.status == "ok" and check.delta is not None for check in checks)


def test_a_folder_may_be_a_golden_itself(shared: Path) -> None:
    checks = verify_folder(shared / "goldens" / "wsi_llava_checkpoint")
    assert {check.output.split(".")[0] for check in checks} == {"base", "lora"}
    assert Verification(checks=tuple(checks)).ok


def test_the_number_of_heads_is_the_files(goldens: Path) -> None:
    """It is in no tensor's shape; with another number the outputs differ."""
    change(goldens / "tile.safetensors", lambda _: None, num_heads="4")
    assert {check.output for check in only(goldens, "beyond")} == {"features", "embedding"}


# ---- disagreement ----


def test_a_changed_weight_is_beyond_tolerance(goldens: Path) -> None:
    change(goldens / "tile.safetensors", lambda t: t["param.blocks.1.mlp.fc2.bias"].add_(1.0))
    assert {check.output for check in only(goldens, "beyond")} == {"features", "embedding"}
    change(goldens / "slide.safetensors", lambda t: t["out.global_pool"].add_(0.01))
    (check,) = (c for c in only(goldens, "beyond") if c.file == "slide.safetensors")
    assert check.output == "global_pool"
    assert check.delta == pytest.approx(0.01, abs=1e-5)


def test_the_tolerance_is_the_users(goldens: Path) -> None:
    change(goldens / "slide.safetensors", lambda t: t["out.global_pool"].add_(0.01))
    assert giant("verify", goldens).exit_code == 1
    assert giant("verify", goldens, "--tolerance", "0.02").exit_code == 0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.full((1, 12), torch.nan), "not a number"),
        (torch.zeros(1, 11), "shape (1, 12), expected (1, 11)"),
    ],
)
def test_what_has_no_difference_does_not_agree(goldens: Path, value: torch.Tensor, said: str) -> None:
    change(goldens / "slide.safetensors", lambda t: t.update({"out.global_pool": value}))
    (check,) = only(goldens, "beyond")
    assert check.delta is None
    assert said in check.message


# ---- broken files ----


def pop(name: str) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.pop(name)


def keep(*prefixes: str) -> Callable[[Tensors], object]:
    return lambda tensors: [tensors.pop(n) for n in list(tensors) if not n.startswith(prefixes)]


@pytest.mark.parametrize(
    ("file", "how", "said"),
    [
        ("tile", pop("param.norm.bias"), "lack norm.bias"),
        ("tile", pop("in.pixels"), "golden of no known format"),
        ("tile", keep("in.", "param."), "no output to compare"),
        ("tile", lambda t: t.update({"out.heads": torch.zeros(1)}), "not known: heads"),
        ("tile", lambda t: t.update({"in.pixels": torch.zeros(1, 4, 48, 48)}), "do not fit"),
        ("slide", pop("param.encoder.layers.1.ffn.fc1.bias"), "encoder.layers.1.ffn.fc1.bias"),
        ("slide", lambda t: t["in.coords"].add_(1e9), "position grid"),
    ],
)
def test_a_broken_golden_is_said_and_the_rest_compared(
    goldens: Path, file: str, how: Callable[[Tensors], object], said: str
) -> None:
    change(goldens / f"{file}.safetensors", how)
    (check,) = only(goldens, "broken")
    assert (check.file, check.delta) == (f"{file}.safetensors", None)
    assert said in check.message
    assert only(goldens, "ok")
    assert giant("verify", goldens).exit_code == 1


def test_a_cut_file_and_missing_metadata_are_broken(goldens: Path) -> None:
    whole = (goldens / "tile.safetensors").read_bytes()
    (goldens / "tile.safetensors").write_bytes(whole[: len(whole) // 2])
    tensors = load_file(goldens / "slide.safetensors")
    save_file(tensors, goldens / "slide.safetensors", metadata={"depth": "2"})
    slide, tile = only(goldens, "broken")
    assert "cannot be read" in tile.message
    assert "metadata do not say 'in_chans'" in slide.message


def test_a_broken_variant_of_a_checkpoint_is_said(shared: Path, tmp_path: Path) -> None:
    shutil.copytree(shared / "goldens" / "wsi_llava_checkpoint", tmp_path / "llava")
    lora = tmp_path / "llava" / "lora" / "adapter_model.safetensors"
    lora.parent.chmod(0o755)
    lora.chmod(0o644)
    lora.write_bytes(b"")
    checks = verify_folder(tmp_path)
    assert {check.output for check in checks if check.status == "ok"} == {
        *("base.logits", "base.loss", "base.greedy")
    }
    assert [check.status for check in checks if check.status != "ok"] == ["broken"]


# ---- the command ----


def test_the_table_lists_every_output(goldens: Path) -> None:
    (goldens / "README.txt").write_text("what this is")
    result = giant("verify", goldens)
    assert result.exit_code == 0, result.output
    assert "7 of 7 outputs agree with the reference on cpu" in result.stdout
    for part in ("cls_layer2", "embedding", "max |Δ|", "README.txt", "no golden"):
        assert part in result.stdout


def test_json_is_one_object(goldens: Path) -> None:
    change(goldens / "tile.safetensors", pop("param.norm.bias"))
    result = giant("verify", goldens, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["ok"], found["version"]) == (False, 1)
    assert {check["status"] for check in found["checks"]} == {"ok", "broken"}


def test_the_device_is_the_users_and_said(goldens: Path) -> None:
    found = json.loads(giant("verify", goldens, "--device", "cpu", "--json").stdout)
    assert (found["ok"], found["device"]) == (True, "cpu")
    if not torch.cuda.is_available():
        result = giant("verify", goldens, "--device", "cuda")
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert "no GPU that this PyTorch can use" in result.stderr
    assert "no device 'abacus'" in giant("verify", goldens, "--device", "abacus").stderr


def test_nothing_compared_is_a_failure(tmp_path: Path) -> None:
    save_file({"weights": torch.zeros(2)}, tmp_path / "model.safetensors")
    result = giant("verify", tmp_path)
    assert result.exit_code == 1
    assert "Nothing was compared" in result.stdout
    assert "it holds no inputs and outputs" in result.stdout


def test_calls_that_mean_nothing(tmp_path: Path) -> None:
    for args, said in (
        ((), "nothing to compare"),
        (("--weights", tmp_path), "--image and --expected"),
        ((tmp_path, "--tolerance", "0"), "above 0"),
    ):
        result = giant("verify", *args)
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert said in result.stderr
    with pytest.raises(GiantError, match="no such folder"):
        verify_folder(tmp_path / "nowhere")


# ---- the published example ----


@pytest.fixture
def example(tmp_path: Path, timm_state: Tensors) -> dict[str, Path]:
    """Weights, image and embedding as Prov-GigaPath publishes them, at small size."""
    paths = {"weights": tmp_path / "pytorch_model.bin", "image": tmp_path / "normal.png"}
    torch.save(timm_state, paths["weights"])
    values = np.random.default_rng(0).integers(0, 255, (60, 54, 4), dtype=np.uint8)
    Image.fromarray(values, "RGBA").save(paths["image"])
    encoder = load_gigapath(paths["weights"], device="cpu")
    encoder.bf16 = False
    encoder.network.float()
    with Image.open(paths["image"]) as image:
        embedding = encoder.encode([image])[0]
    paths["expected"] = tmp_path / "normal.pt"
    torch.save(torch.from_numpy(embedding), paths["expected"])
    return paths


def options(paths: dict[str, Path]) -> list[object]:
    return [part for name, path in paths.items() for part in (f"--{name}", path)]


def test_the_published_example_agrees(example: dict[str, Path]) -> None:
    result = giant("verify", *options(example), "--json")
    assert result.exit_code == 0, result.output
    (check,) = json.loads(result.stdout)["checks"]
    assert (check["file"], check["output"]) == ("pytorch_model.bin", "normal.png")
    assert check["tolerance"] == 0.01
    assert check["delta"] < 0.01


def test_another_embedding_does_not_agree(example: dict[str, Path], goldens: Path) -> None:
    torch.save(torch.load(example["expected"], weights_only=True) + 0.02, example["expected"])
    result = giant("verify", goldens, *options(example))
    assert result.exit_code == 1
    assert "7 of 8 outputs agree" in result.stdout
    torch.save({"embedding": torch.zeros(128)}, example["expected"])
    assert "holds no tensor" in giant("verify", *options(example)).stderr


def test_an_example_that_cannot_be_read_is_said(example: dict[str, Path]) -> None:
    example["image"].write_bytes(b"no image")
    assert "cannot be read as an image" in giant("verify", *options(example)).stderr
    example["weights"].write_bytes(b"no weights")
    result = giant("verify", *options(example))
    assert isinstance(result.exception, SystemExit)
    assert "cannot be read as weights" in result.stderr
    with pytest.raises(CheckpointError):
        load_gigapath(example["weights"])
