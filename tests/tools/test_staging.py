"""Slides are copied to a local disk one ahead, and nothing is left there whatever happens."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from core_model.errors import RunError, SlideError
from tools import staging
from tools.staging import PREFIX, Staging, copy_slide


@pytest.fixture
def slides(tmp_path: Path) -> list[Path]:
    """Five plain files, and a MIRAX slide with its folder."""
    (tmp_path / "slow" / "m").mkdir(parents=True)
    (tmp_path / "slow" / "m" / "Slidedat.ini").write_bytes(b"index")
    (tmp_path / "slow" / "m" / "Data0000.dat").write_bytes(b"pixels" * 1000)
    paths = [tmp_path / "slow" / f"{name}.tiff" for name in "abcde"]
    for path in (*paths, tmp_path / "slow" / "m.mrxs"):
        path.write_bytes(path.name.encode() * 1000)
    return [*paths, tmp_path / "slow" / "m.mrxs"]


def copies(folder: Path) -> list[str]:
    """Files in the staging folders, without locks."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        str(Path(*file.parts[1:])) for file in files if ".lock" not in file.name and len(file.parts) > 1
    )


def wait_for_copies(stage: Staging) -> None:
    for future in list(stage._copies.values()):
        future.exception()


def test_one_is_copied_ahead_and_each_goes_when_it_is_done(tmp_path: Path, slides: list[Path]) -> None:
    disk = tmp_path / "disk"
    with Staging(disk, slides) as stage:
        assert copies(disk) == []
        for number, slide in enumerate(slides):
            copy = stage.local(number)
            assert copy.name == slide.name
            assert copy.read_bytes() == slide.read_bytes()
            wait_for_copies(stage)
            held = {Path(name).parts[0] for name in copies(disk)}
            assert held == {str(n) for n in (number, number + 1) if n < len(slides)}
            stage.release(number)
        assert copies(disk) == []
    assert [path.name for path in disk.iterdir() if not path.name.startswith(".")] == []
    assert all(slide.exists() for slide in slides), "the slides themselves stay"


def test_every_file_of_a_slide_is_copied(tmp_path: Path, slides: list[Path]) -> None:
    copy = (
        copy_slide(slides[-1], tmp_path / "disk" / "own" / "0")
        if (tmp_path / "disk" / "own").mkdir(parents=True) is None
        else None
    )
    assert copy is not None
    assert (copy.with_suffix("") / "Data0000.dat").read_bytes() == b"pixels" * 1000
    assert (copy.with_suffix("") / "Slidedat.ini").read_bytes() == b"index"


def test_a_store_is_copied_whole_and_a_slide_on_a_server_stays_there(tmp_path: Path) -> None:
    store, address = tmp_path / "slow" / "s.zarr", Path("https://pacs.example/studies/1/series/2")
    (store / "0" / "0").mkdir(parents=True)
    for name, content in ((".zattrs", b"{}"), ("0/.zarray", b"{}"), ("0/0/0", b"tile")):
        (store / name).write_bytes(content)
    with Staging(tmp_path / "disk", [store, address]) as stage:
        copy = stage.local(0)
        assert copy.name == "s.zarr"
        assert (copy / "0" / "0" / "0").read_bytes() == b"tile"
        assert (copy / ".zattrs").exists()
        assert stage.local(1) == address
        stage.release(1)


def test_errors_leave_no_copy_behind(tmp_path: Path, slides: list[Path]) -> None:
    disk = tmp_path / "disk"
    with pytest.raises(ZeroDivisionError), Staging(disk, slides) as stage:
        stage.local(stage.local(0).stat().st_size // 0)
    assert copies(disk) == []
    slides[1].unlink()
    with Staging(disk, slides) as stage:
        stage.local(0)
        with pytest.raises(SlideError, match=r"b\.tiff.*--stage"):
            stage.local(1)
        wait_for_copies(stage)
        assert {Path(name).parts[0] for name in copies(disk)} == {"0"}
        assert stage.local(2).read_bytes() == slides[2].read_bytes()
    assert copies(disk) == []


Usage = namedtuple("Usage", "total used free")


def test_a_disk_that_is_too_small_is_one_line_that_says_what_to_do(
    tmp_path: Path, slides: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, staging.SPARE + 100))
    with Staging(tmp_path / "disk", slides) as stage, pytest.raises(SlideError) as caught:
        stage.local(0)
    line = str(caught.value)
    assert line.startswith(f"{slides[0]}: its copy takes 0.0 GB")
    assert "--stage" in line
    assert "\n" not in line
    assert copies(tmp_path / "disk") == []


def test_a_slide_that_found_no_room_ahead_is_copied_once_there_is_some(
    tmp_path: Path, slides: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def free(path: Path) -> Usage:
        """Room for one copy."""
        held = sum(p.stat().st_size for p in (tmp_path / "disk").rglob("*.tiff"))
        return Usage(0, 0, staging.SPARE + 9000 - held)

    monkeypatch.setattr(shutil, "disk_usage", free)
    with Staging(tmp_path / "disk", slides[:3]) as stage:
        for number in range(3):
            assert stage.local(number).read_bytes() == slides[number].read_bytes()
            wait_for_copies(stage)
            assert len(copies(tmp_path / "disk")) == 1
            stage.release(number)


def test_a_disk_that_fills_up_while_it_is_copied_leaves_no_half_copy(
    tmp_path: Path, slides: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> Any:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(shutil, "copyfile", full)
    with Staging(tmp_path / "disk", slides) as stage:
        with pytest.raises(SlideError, match="the disk is full") as caught:
            stage.local(5)
        assert "\n" not in str(caught.value)
        assert copies(tmp_path / "disk") == []


def test_what_a_killed_process_left_is_removed_and_a_live_ones_kept(
    tmp_path: Path, slides: list[Path]
) -> None:
    dead = tmp_path / "disk" / f"{PREFIX}1"
    (dead / "0").mkdir(parents=True)
    (dead / "0" / "a.tiff").write_bytes(b"half")
    with Staging(tmp_path / "disk", slides) as live:
        assert not dead.exists()
        copy = live.local(0)
        with Staging(tmp_path / "disk", slides) as other:
            assert copy.exists()
            assert other.local(0) != copy
        assert copy.exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, slides: list[Path]) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunError, match="--stage"), Staging(tmp_path / "file" / "disk", slides):
        pass
