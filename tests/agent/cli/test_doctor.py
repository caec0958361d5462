"""The doctor finds what is wrong, says how to mend it, and fails only for what is required."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_fakes import giant
from slide_files import stained, write_svs

from agent.cli import doctor


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor, "_weights", lambda: ("ok", "mini", None))


def found(name: str) -> doctor.Check:
    return next(check for check in doctor.examine() if check.name == name)


def test_a_sound_installation_passes_and_every_fault_has_a_fix() -> None:
    result = giant("doctor", "--json")
    assert result.exit_code == 0, result.output
    assert '"ok":true' in result.stdout
    assert "OpenSlide" not in result.stderr
    names = {check.name for check in doctor.examine()}
    assert {"python", "torch", "transformers", "openslide", "cpu", "gpu", "weights", "cache"} <= names
    assert all(check.fix for check in doctor.examine() if check.status != "ok")


def test_a_missing_requirement_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "REQUIRED", ("torch", "no-such-package"))
    result = giant("doctor")
    assert result.exit_code == 1
    assert "pip install no-such-package" in result.stdout


def test_a_missing_extra_does_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", {"ray": ("no_such_module",)})
    check = found("extra ray")
    assert check.status == "optional"
    assert check.fix == "pip install 'giant-pathology[ray]'"


def test_a_cache_that_cannot_be_written_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "file" / "cache"))
    check = found("cache")
    assert check.status == "failed"
    assert "GIANT_CACHE" in (check.fix or "")


def test_damaged_weights_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    from core_model.models import tile_encoders

    monkeypatch.setattr(tile_encoders, "MINI", tmp_path)
    status, message, fix = doctor._weights()
    assert status == "failed"
    assert str(tmp_path) in message
    assert fix


def test_slides_are_looked_at_with_what_contradicts_and_what_is_skipped(tmp_path: Path) -> None:
    write_svs(tmp_path / "good.svs", stained(256, 256), levels=1)
    write_svs(tmp_path / "odd.svs", stained(256, 256), mpp=0.5, levels=1, power=40)
    (tmp_path / "bad.svs").write_text("no slide")
    (tmp_path / "notes.txt").write_text("x")
    result = giant("doctor", tmp_path, "--json")
    assert result.exit_code == 1
    checks = {Path(check["name"]).name: check for check in json.loads(result.stdout)["checks"]}
    assert {name: check["status"] for name, check in checks.items()} == {
        "good.svs": "ok", "odd.svs": "warning", "bad.svs": "failed", "no slides": "optional",
    }  # fmt: skip
    assert "40x" in checks["odd.svs"]["fix"]
    assert "--mpp-override" in checks["odd.svs"]["fix"]
    assert "notes.txt" in checks["no slides"]["message"]


def test_one_slide_is_told_in_full_and_names_no_patient(tmp_path: Path) -> None:
    folder = tmp_path / "Mueller"
    folder.mkdir()
    path = write_svs(folder / "Mueller.svs", stained(2048, 2048), mpp=0.25, levels=2, power=40)
    table = giant("doctor", path)
    assert table.exit_code == 0, table.output
    words = " ".join(table.stdout.split())
    for said in (
        "aperio, 1 file", "simplejpeg", "2048 x 2048 px, 512 µm x 512 µm", "1: 512 x 512, 1/4, 1 µm/px",
        "0.25 µm/px, from the slide's metadata", "40x", "no ICC profile", "thumbnail",
        "25 tiles of 224 px at 0.5 µm/px", "looks at 0.25 µm/px and coarser",
    ):  # fmt: skip
        assert said in words, (said, words)
    (check,) = json.loads(giant("doctor", path, "--json").stdout)["checks"]
    facts = check["slide"]
    assert (check["status"], facts["format"], facts["files"]) == ("ok", "aperio", 1)
    assert facts["reader"]
    assert [level["width"] for level in facts["levels"]] == [2048, 512]
    assert (facts["mpp"], facts["mpp_source"], facts["objective"]) == (0.25, "property", 40)
    assert facts["bounds"] == [0, 0, 2048, 2048]
    assert facts["tissue_mm2"] > 0.2
    assert facts["images"] == ["thumbnail"]
    assert "Mueller" not in table.output + json.dumps(facts) + check["name"]


def test_what_is_done_with_colour_profiles_is_said(tmp_path: Path) -> None:
    from PIL import Image, ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name in ("a.png", "a.tiff"):
        Image.fromarray(stained(256, 256)).save(tmp_path / name, icc_profile=profile)
        found = giant("doctor", tmp_path / name, "--mpp", 0.5, "--json")
        facts = json.loads(found.stdout)["checks"][0]["slide"]
        assert facts["icc_bytes"] == len(profile)
    assert "which is not applied" in giant("doctor", tmp_path / "a.png", "--mpp", 0.5).stdout


def test_oblong_pixels_are_told(tmp_path: Path) -> None:
    import tifffile

    path = tmp_path / "a.tiff"
    tifffile.imwrite(path, stained(512, 512), tile=(256, 256), photometric="rgb", compression="jpeg",
                     resolution=(20000, 12500), resolutionunit="CENTIMETER", metadata=None)  # fmt: skip
    check = json.loads(giant("doctor", path, "--json").stdout)["checks"][0]
    assert check["status"] == "warning"
    assert (check["slide"]["mpp_x"], check["slide"]["mpp_y"]) == pytest.approx((0.5, 0.8))
    assert "0.5 x 0.8 µm/px" in giant("doctor", path).stdout


def test_a_slide_that_cannot_be_opened_is_told_without_its_name(tmp_path: Path) -> None:
    (tmp_path / "Mueller.svs").write_text("no slide")
    failed = giant("doctor", tmp_path / "Mueller.svs")
    assert failed.exit_code == 1
    assert "Mueller" not in failed.output


def test_privacy_counts_and_shows_nothing(tmp_path: Path) -> None:
    import multi_files as many

    many.write_vms(tmp_path / "Mueller", stained(512, 512), name=many.PLANTED)
    (tmp_path / "Mueller" / "Erika.svs").write_text("no slide")
    result = giant("doctor", "--privacy", tmp_path, "--json")
    assert result.exit_code == 1
    first, second = json.loads(result.stdout)["slides"]
    readable = first if first["id"] else second
    assert (first["id"] is None) != (second["id"] is None)
    kinds = {trace["kind"]: trace["where"] for trace in readable["traces"]}
    assert {"label or macro image", "name of a file", "case"} <= set(kinds)
    table = giant("doctor", "--privacy", tmp_path)
    assert "image 'macro'" in " ".join(table.stdout.split())
    for needle in ("mueller", "erika", "1951"):
        assert needle not in (result.output + table.output).lower()


def test_privacy_without_slides_is_a_mistake() -> None:
    result = giant("doctor", "--privacy")
    assert result.exit_code == 2
    assert "none is named" in result.stderr
