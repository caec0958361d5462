"""Policies of the repository that are cheaper to test than to remember."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import imports
import names

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "core_model": set(),
    "tools": {"core_model"},
    "agent": {"tools", "core_model"},
    "eval": {"agent", "tools", "core_model"},
    "training": {"core_model"},
}
ROOMS: dict[str, imports.Layers] = {
    "core_model": (
        ("",),
        ("models", "verify"),
        ("checkpoints",),
        ("features", "encoders", "specimen"),
        ("privacy",),
        ("slides", "language"),
        ("weights", "files"),
        ("config", "devices", "machine", "words", "records"),
        ("errors",),
    ),
    "tools": (
        ("",),
        ("toolbox", "similar", "exchange"),
        ("ask_region", "indexing", "looks", "retrieve", "staging"),
        ("workbench",),
        ("chosen",),
        ("cohort",),
        ("index", "render"),
        ("guides", "records"),
    ),
    "agent": (
        ("", "__main__"),
        ("cli",),
        ("replay", "batch"),
        ("session",),
        ("navigators",),
        ("chat",),
        ("servers",),
        ("graph",),
        ("report",),
        ("answers",),
        ("llm", "evidence"),
        ("run",),
        ("text",),
    ),
    "eval": (
        ("", "cli"),
        ("benches", "evaluation", "vectors"),
        ("scores",),
        ("asking",),
        ("benchmarks", "metrics", "bench"),
        ("tables",),
    ),
    "training": (
        ("", "cli"),
        ("pipeline", "recipes", "bench", "wsi_bench"),
        ("final_model", "steps"),
        ("calibrate", "measure", "model_card", "start"),
        ("context", "language", "stages"),
        ("cohort", "engine"),
        ("settings",),
        ("tiles",),
        ("phantom",),
    ),
}
"""Rooms from top to bottom; "" is the package's own `__init__`. A room may import those of lower layers."""
MOST_LINES, LONGEST_FUNCTION, FULLEST_FOLDER = 400, 80, 20
MOST_RIDDLES = 0.03
"""Share of local names that are nothing but a participle or a pronoun."""


def python_files() -> list[Path]:
    """Every module of the five packages."""
    return [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.fixture(scope="module")
def graph() -> imports.Graph:
    return imports.graph_of(python_files(), ROOT)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_one_way(package: str) -> None:
    forbidden = set(MAY_IMPORT) - MAY_IMPORT[package] - {package}
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"{package} holds no modules"
    wrong = {
        str(file.relative_to(ROOT)): bad
        for file in files
        if (bad := imports.imported_packages(file.read_text(encoding="utf-8")) & forbidden)
    }
    assert not wrong


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_those_below_them_only(package: str, graph: imports.Graph) -> None:
    assert not imports.against_the_order(graph, package, ROOMS[package])


def test_no_two_files_import_each_other(graph: imports.Graph) -> None:
    assert len(graph) > 200, "the packages were not read"
    assert not imports.circles(graph)


def test_the_import_reader_sees_late_relative_and_typing_imports() -> None:
    source = """
from . import talk
from ..run.records import Step
if TYPE_CHECKING:
    from core_model.errors import GiantError
def f():
    import torch.nn
"""
    assert set(imports.imported_names(source, "agent.chat")) == {
        "agent.chat.talk",
        "agent.run.records.Step",
        "core_model.errors.GiantError",
        "torch.nn",
    }
    assert imports.imported_packages("def f():\n    from agent.graph.build import x") == {"agent"}


def test_the_graph_tells_modules_from_names_in_them(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("from shop.till import pay\nfrom shop import till")
    (package / "till.py").write_text("def pay():\n    from shop.goods import apples\n    import os")
    (package / "goods.py").write_text("import shop")
    assert imports.graph_of(package.glob("*.py"), tmp_path) == {
        "shop": {"shop.till"},
        "shop.till": {"shop.goods"},
        "shop.goods": {"shop"},
    }


def test_circles_of_any_length_are_seen() -> None:
    chain = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert imports.circles(chain) == []
    assert imports.circles({**chain, "c": {"a"}}) == [["a", "b", "c"]]
    assert imports.circles({"a": {"b"}, "b": {"a"}, "c": {"d"}, "d": {"c"}}) == [["a", "b"], ["c", "d"]]


def test_the_order_of_rooms_can_be_broken() -> None:
    layers = (("",), ("till", "door"), ("goods",))
    fine = {"shop": {"shop.till"}, "shop.till.coin": {"shop.goods", "shop.till.note"}, "shop.goods": set()}
    assert imports.against_the_order(fine, "shop", layers) == []
    assert imports.against_the_order({"shop.goods": {"shop.till.coin"}}, "shop", layers)
    assert imports.against_the_order({"shop.till.coin": {"shop.door"}}, "shop", layers), "of one layer"
    assert imports.against_the_order({"shop.cellar": set()}, "shop", layers), "a room that nobody placed"


def long_files(files: list[Path], most: int) -> list[str]:
    """Files of more lines than `most`."""
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    return [f"{path.name}: {size} lines" for path, size in sizes.items() if size > most]


def full_folders(files: list[Path], most: int) -> list[str]:
    """Folders that hold more of these files than `most`."""
    counts = {path.parent: 0 for path in files}
    for path in files:
        counts[path.parent] += 1
    return [f"{folder.name}: {count} files" for folder, count in counts.items() if count > most]


def test_every_package_is_installed() -> None:
    """A folder that pyproject.toml does not list is missing wherever giant is installed."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for path in python_files()}
    assert set(listed) == {".".join(folder.parts) for folder in folders}
    assert len(set(listed)) == len(listed)


def test_files_and_folders_stay_small() -> None:
    assert not long_files(python_files(), MOST_LINES)
    assert not full_folders(python_files(), FULLEST_FOLDER)


def test_long_files_and_full_folders_are_seen(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.py", "b.py", "c.py")]
    for lines, path in enumerate(files, 1):
        path.write_text("pass\n" * lines)
    assert long_files(files, 3) == []
    assert long_files(files, 2) == ["c.py: 3 lines"]
    assert full_folders(files, 3) == []
    assert full_folders(files, 2) == [f"{tmp_path.name}: 3 files"]


def test_functions_stay_short() -> None:
    sizes = names.lengths()
    assert len(sizes) > 1000, "the packages were not read"
    assert max(sizes) <= LONGEST_FUNCTION
    assert statistics.median(sizes) <= 10
    assert statistics.quantiles(sizes, n=10)[-1] <= 30


def test_names_say_the_thing() -> None:
    share, worst, _ = names.riddles()
    assert share <= MOST_RIDDLES, f"{share:.1%}, most often {worst.most_common(10)}"


def test_riddles_and_lengths_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "till.py").write_text("def pay(price, found):\n    kept = price\n    return kept\n")
    monkeypatch.setattr(names, "ROOT", tmp_path)
    monkeypatch.setattr(names, "PACKAGES", ("shop",))
    share, worst, files = names.riddles()
    assert (share, dict(worst), dict(files)) == (2 / 3, {"found": 1, "kept": 1}, {"shop/till.py": 2})
    assert names.lengths() == [3]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_every_folder_says_what_lives_there(package: str) -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in (ROOT / package).rglob("__init__.py")
        if not path.read_text(encoding="utf-8").startswith('"""')
    ]
    assert not silent


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
