"""Policies of the repository that are cheaper to test than to remember."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "core_model": set(),
    "tools": {"core_model"},
    "agent": {"tools", "core_model"},
    "eval": {"agent", "tools", "core_model"},
    "training": {"core_model"},
}


def imported_packages(source: str) -> set[str]:
    """Top-level names of every import in a module, also of those inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_one_way(package: str) -> None:
    forbidden = set(MAY_IMPORT) - MAY_IMPORT[package] - {package}
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"{package} holds no modules"
    wrong = {
        str(file.relative_to(ROOT)): bad
        for file in files
        if (bad := imported_packages(file.read_text()) & forbidden)
    }
    assert not wrong


def test_the_import_reader_sees_late_imports() -> None:
    assert imported_packages("def f():\n    from agent.graph.build import x\n    import torch.nn") == {
        "agent",
        "torch",
    }


@pytest.mark.parametrize(
    ("package", "names"),
    [
        ("core_model", {"open_slide", "load_tile_encoder", "load_model", "FeatureStore"}),
        ("tools", {"Toolbox"}),
        ("agent", {"ask", "stream", "aask", "astream", "Control", "Said", "Answer", "Step", "Vote"}),
        ("eval", {"load_benchmark"}),
    ],
)
def test_public_names(package: str, names: set[str]) -> None:
    """The Python contract: these names are exported, load lazily, and importing them loads no torch."""
    code = (
        f"import sys, {package} as p; assert 'torch' not in sys.modules, 'torch at import'; "
        f"assert set(p.__all__) >= {names!r}, p.__all__; [getattr(p, n) for n in p.__all__]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from agent.cli.app import build_app; "
        "r = CliRunner().invoke(build_app(), ['--help']); assert r.exit_code == 0, r.output; "
        "heavy = {'torch', 'transformers', 'numpy', 'faiss'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_no_tracked_file_names_this_machine() -> None:
    """Nothing outside the data fixture speaks of paths that exist on one machine only."""
    tracked = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.toml", "Makefile"], capture_output=True, text=True, cwd=ROOT
    )
    files = [ROOT / name for name in tracked.stdout.split() if not name.startswith("tests/")]
    if not files:
        pytest.skip("not a git checkout")
    needles = (f"{ROOT}/", f"{Path.home()}/", "../" + "shared")
    assert not [f.name for f in files if f.exists() and any(n in f.read_text() for n in needles)]
