"""What README and docs show is true: commands exist, blocks run, links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pages
import pytest
from pages import PAGES, ROOT, Block, all_blocks

BLOCKS = all_blocks()


def ids(item: object) -> str:
    return str(item.relative_to(ROOT)) if isinstance(item, Path) else str(item)


def run_marks(block: Block) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if block.run == "run: slow" else []


RUNNABLE = [pytest.param(b, marks=run_marks(b), id=str(b)) for b in BLOCKS if b.shell and b.run]


def test_there_is_something_to_check() -> None:
    assert {"README.md", "CHANGELOG.md", "docs/python.md", "docs/trust.md"} <= {ids(page) for page in PAGES}
    assert len([b for b in BLOCKS if b.shell]) > 20
    assert len(RUNNABLE) >= 4
    assert not {b.language for b in BLOCKS} - pages.LANGUAGES


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.shell], ids=ids)
def test_commands_exist_with_their_options(block: Block) -> None:
    faults = {
        " ".join(w): fault for w in pages.command_lines(block.text) if (fault := pages.fault_of_command(w))
    }
    assert not faults


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_within_sentences_exist(page: Path) -> None:
    known = pages.known_options() | pages.FOREIGN_OPTIONS
    calls = [c.replace("…", "") for c in pages.inline_codes(pages.read(page)) if c.startswith("giant ")]
    faults = {c: f for c in calls if (f := pages.fault_of_call(pages.command_lines(c)[0], complete=False))}
    options = {word for c in pages.inline_codes(pages.read(page)) for word in re.findall(r"^--[a-z-]+", c)}
    assert not faults
    assert not options - known


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "json"], ids=ids)
def test_json_is_json(block: Block) -> None:
    assert json.loads(block.text)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    faults = [f for target in pages.links_of(pages.read(page)) if (f := pages.fault_of_link(page, target))]
    assert not faults


@pytest.mark.parametrize("block", RUNNABLE)
def test_shell_blocks_run(block: Block, painted: Path) -> None:
    """Each command ends well, as the page says: with a folder `slides` that holds one slide."""
    (painted.parent / "slides").mkdir()
    shutil.copy(painted, painted.parent / "slides")
    for words in pages.command_lines(block.text):
        assert words[0] == "giant", f"{block} runs {words[0]}"
        call = [sys.executable, "-m", "agent", *words[1:]]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(call, cwd=painted.parent, capture_output=True, text=True, env=env)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stderr}"


PYTHON_PAGES = sorted({b.page for b in BLOCKS if b.language == "python"})


@pytest.mark.slow
@pytest.mark.parametrize("page", PYTHON_PAGES)
def test_python_blocks_run(page: str, demo: Path) -> None:
    """In order, in one namespace, beside a slide that the model knows."""
    namespace: dict[str, object] = {}
    for block in BLOCKS:
        if block.page == page and block.language == "python":
            exec(compile(block.text, str(block), "exec"), namespace)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python"], ids=ids)
def test_python_blocks_use_what_exists(block: Block) -> None:
    """Quickly, for every run of the tests: the block compiles, and what it imports is there."""
    imports = re.findall(r"^(?:from .+ )?import .+$", block.text, re.M)
    exec(compile("\n".join(imports), str(block), "exec"), {})
    compile(block.text, str(block), "exec")


def test_the_readme_is_short() -> None:
    assert len(pages.read(ROOT / "README.md").splitlines()) <= 150


def test_the_pages_build_without_network(tmp_path: Path) -> None:
    """As `make docs` does; the pages load no script, style or font from elsewhere."""
    call = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--quiet",
        "--strict",
        "--site-dir",
        str(tmp_path / "site"),
    ]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    built = sorted((tmp_path / "site").rglob("*.html"))
    assert len(built) >= len(list((ROOT / "docs").glob("*.md")))
    loaded = [url for page in built for url in loaded_by(page.read_text(encoding="utf-8"))]
    styles = [sheet.read_text(encoding="utf-8") for sheet in (tmp_path / "site").rglob("*.css")]
    loaded += [url for style in styles for url in re.findall(r"(?:url\(|@import )[\"']?([^\"')]+)", style)]
    assert len(loaded) > 10, "nothing was read"
    assert not [url for url in loaded if re.match(r"(https?:)?//", url)]


def loaded_by(html: str) -> list[str]:
    """What a browser fetches to show a page: scripts, images, styles; not where its links lead."""
    tags = re.findall(r"<(?:script|img|link|iframe)\b[^>]*>", html)
    return [url for tag in tags for url in re.findall(r"\b(?:src|href)=\"([^\"]*)\"", tag)]


def test_faults_of_commands_are_seen() -> None:
    def call(line: str, complete: bool = True) -> str | None:
        return pages.fault_of_call(line.split(), complete)

    assert call("giant ask SLIDE QUESTION --model openai:gpt-5 --option A --option B") is None
    assert call("giant eval score OUT --judge provider:name") is None
    assert call("giant eval cohort --data COHORT --out OUT") is None
    assert call("giant COMMAND --help") is None
    assert "NoSuchOption" in str(call("giant ask SLIDE QUESTION --colour red"))
    assert "too many" in str(call("giant ask SLIDE QUESTION MORE"))
    assert "missing" in str(call("giant ask SLIDE"))
    assert call("giant ask", complete=False) is None
    assert call("giant ask --model", complete=False) is None
    assert call("giant dance") is not None
    assert call("giant train stage9 --data COHORT --out OUT") is not None


def test_faults_of_other_commands_and_links_are_seen(tmp_path: Path) -> None:
    for line in ("make coffee", "python examples/none.py", "pip install -e '.[none]'", "frobnicate now"):
        assert pages.fault_of_command(pages.command_lines(line)[0]), line
    for line in ("make test", "pip install -c constraints.txt -e '.[train]'", "export KEY=..."):
        assert pages.fault_of_command(pages.command_lines(line)[0]) is None, line
    page = tmp_path / "page.md"
    page.write_text("# A Word, please\n[here](#a-word-please) [there](other.md) [where](#none)\n")
    targets = pages.links_of(page.read_text())
    assert [pages.fault_of_link(page, target) is None for target in targets] == [True, False, False]


def test_blocks_are_read_with_their_marks() -> None:
    text = (
        "x\n<!-- run: slow -->\n```\ngiant ask \\\n  A B # why\n```\n\n```json\n{}\n```\nand `giant doctor`\n"
    )
    first, second = pages.blocks_of(text, "page.md")
    assert (first.run, first.shell, first.line, second.language) == ("run: slow", True, 4, "json")
    assert pages.command_lines(first.text) == [["giant", "ask", "A", "B"]]
    assert list(pages.inline_codes(text)) == ["giant doctor"]
