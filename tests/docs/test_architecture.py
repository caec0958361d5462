"""ARCHITECTURE.md is true: one `giant ask` is traced, and every file on its path took part."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, read

PAGE = ROOT / "ARCHITECTURE.md"
MOST_FILES = 80


def section(title: str) -> str:
    """The text under a heading."""
    return read(PAGE).partition(f"## {title}\n")[2].partition("\n## ")[0]


def files_named(text: str) -> list[str]:
    """Files of the packages that a text names in backticks."""
    return re.findall(r"`((?:agent|core_model|eval|tools|training)/[\w/.]+\.py)`", text)


def path_files() -> list[str]:
    """Files named in the numbered path of one `giant ask`."""
    numbered = re.search(
        r"^1\. .*?(?=^\S(?<!\d)(?!\d*\.))", section("The life of one `giant ask`"), re.M | re.S
    )
    assert numbered is not None
    return files_named(numbered[0])


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One `giant ask` about the demo slide, with no features cached: Python files, and what ran of each."""
    from training.phantom.cohort import write_demo_slide

    folder = tmp_path_factory.mktemp("traced")
    write_demo_slide(folder / "slide.tiff", seed=1)
    script = Path(__file__).with_name("traced.py")
    question = ["ask", "slide.tiff", "What is the diagnosis?", "--out", "run"]
    done = subprocess.run(
        [sys.executable, str(script), "files.json", str(ROOT), *question],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"GIANT_CACHE": str(folder / "cache")},
    )
    assert (folder / "run" / "answer.json").is_file(), done.stderr
    files = json.loads((folder / "files.json").read_text())
    return {name: kind for name, kind in files.items() if name.endswith(".py")}


def test_every_file_that_the_page_names_exists() -> None:
    names = files_named(read(PAGE))
    assert len(names) > 50
    assert not [name for name in names if not (ROOT / name).is_file()]
    rooms = re.findall(r"`((?:agent|core_model|eval|tools|training)/\w+)`", read(PAGE))
    assert not [room for room in rooms if not (ROOT / room).is_dir()]


def test_the_path_is_read() -> None:
    files = path_files()
    assert len(files) > 40
    assert {"agent/cli/app.py", "agent/report/pages.py"} <= set(files)
    assert "agent/navigators/chat.py" not in files, "what follows the path is none of it"


def test_one_question_takes_the_path_and_runs_through_few_files(traced: dict[str, str]) -> None:
    assert not {name: traced.get(name) for name in path_files() if traced.get(name) != "function"}
    part = sorted(name for name, kind in traced.items() if kind != "module")
    assert len(part) > 40, "nothing was traced"
    assert len(part) <= MOST_FILES, part
