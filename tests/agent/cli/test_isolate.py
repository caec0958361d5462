"""Which commands read slides in a child process, and which do so only when they are told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_fakes import PaintModel, giant
from PIL import Image
from slide_files import stained, write_svs

from agent.batch import batch
from agent.batch import plan as batch_plan
from agent.batch.workers import in_this_process
from core_model.errors import SlideError

MORE: dict[str, list[object]] = {"ask": ["Which?"], "report": ["--out", "out"], "index": [], "doctor": []}
DEFAULT = {"ask": False, "report": True, "index": True, "doctor": False}


@pytest.mark.parametrize("command", MORE)
def test_report_and_index_isolate_unless_told_otherwise_ask_and_doctor_only_when_told(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def noted(path: Path, *args: Any, isolate: bool = False, **named: Any) -> None:
        seen.append(isolate)
        raise SlideError("seen", where=path)

    monkeypatch.setenv("GIANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("core_model.slides.slide.open_slide", noted)
    monkeypatch.setattr(batch_plan, "_from_disk", lambda model: PaintModel())
    monkeypatch.setattr(batch, "in_processes", lambda work, jobs, count: in_this_process(work, jobs))
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save("a.tiff")
    for option in ([], ["--isolate"], ["--no-isolate"]):
        assert giant(command, "a.tiff", *MORE[command], *option).exit_code == 1
    assert seen == [DEFAULT[command], True, False]


def test_doctor_parses_nothing_itself_where_it_isolates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every opening of the slide's file by a library that parses it is refused here; the child is free."""
    import openslide
    import tifffile

    path = write_svs(tmp_path / "a.svs", stained(512, 512))
    plain = [giant("doctor", path, *more, "--json").stdout for more in ([], ["--privacy"])]

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("the parent parses the slide")

    for module, name in ((openslide, "OpenSlide"), (tifffile, "TiffFile")):
        monkeypatch.setattr(module, name, refused)
    isolated = [giant("doctor", path, *more, "--isolate", "--json").stdout for more in ([], ["--privacy"])]
    assert isolated == plain
