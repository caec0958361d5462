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
