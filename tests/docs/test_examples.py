"""Every program in examples/ runs and does what it says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from pages import ROOT

GRADES = ["grade 1", "grade 2", "grade 3"]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def load(name: str) -> ModuleType:
    """The example of that name as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_example_is_named_in_the_docs() -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert EXAMPLES
    assert not [path.name for path in EXAMPLES if f"`{path.name}`" not in text]


def test_own_tool(painted: Path) -> None:
    observations = load("own_tool").main(str(painted))
    assert [observation.tool for observation in observations] == ["darkness"]
    assert observations[0].data["density"] > 0.05
    assert "tissue covers" in observations[0].text


@pytest.mark.slow
def test_ask_from_python(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = load("ask_from_python").main(str(demo), "What is the grade?", GRADES)
    shown = capsys.readouterr().out
    assert answer.choice == "grade 2"
    assert "step 1, overview" in shown
    assert f"grade 2 (confidence {answer.confidence:.2f})" in shown


@pytest.mark.slow
def test_own_navigator(demo: Path) -> None:
    answer = load("own_navigator").main(str(demo), "What is the diagnosis?", "run")
    assert "quamous cell carcinoma" in answer.answer
    assert (Path("run") / "report.html").is_file()
    assert [evidence.tool for evidence in answer.evidence] == ["ask_region"] * len(answer.evidence)


@pytest.mark.slow
def test_batch_to_table(demo: Path) -> None:
    Path("slides").mkdir()
    demo.rename("slides/slide.tiff")
    table = load("batch_to_table").main("slides", "reports")
    header, row = table.read_text(encoding="utf-8").splitlines()
    assert header.startswith("slide,tissue_mm2,")
    assert row.startswith("slide,")
    assert "squamous" in row.lower()
