"""The pages that people read: their code blocks, the commands in them, and their links.

A block in ```python is run, all blocks of a page in one namespace. A block in ```json is parsed. A block in
```text shows output or a picture and is left alone. Any other block is for the shell: its commands are
checked against the real command line, and run where `<!-- run -->` stands above it; with `<!-- run: slow -->`
they are run by the slow tests.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer

from agent.cli.app import build_app

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LANGUAGES = {"", "sh", "python", "json", "text"}
BLOCK = re.compile(r"^(?:<!-- (run(?:: slow)?) -->\n)?```(\w*)\n(.*?)^```$", re.M | re.S)
PLACEHOLDER = re.compile(r"[A-Z][A-Z_|]*(\.\.\.)?")
HELP = {"--help", "-h", "--version"}
OTHER_PROGRAMS = {"export", "pip", "pre-commit", "python3", "source"}
FOREIGN_OPTIONS = {"--strict", "--follow", "--jinja"}
"""Options of other programs that a sentence may name."""


@dataclass(frozen=True)
class Block:
    """One code block of a page."""

    page: str
    line: int
    language: str
    text: str
    run: str | None
    """"run", "run: slow", or None where it is only checked."""

    @property
    def shell(self) -> bool:
        """Whether it is for the shell."""
        return self.language in ("", "sh")

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(text: str, page: str) -> list[Block]:
    """The code blocks of a page, in order."""
    return [
        Block(page, text[: match.start(3)].count("\n") + 1, match[2], match[3], match[1])
        for match in BLOCK.finditer(text)
    ]


def read(page: Path) -> str:
    """The text of a page."""
    return page.read_text(encoding="utf-8")


def all_blocks() -> list[Block]:
    """The code blocks of all pages."""
    return [block for page in PAGES for block in blocks_of(read(page), str(page.relative_to(ROOT)))]


def command_lines(text: str) -> list[list[str]]:
    """The commands of a shell block as words, without comments; a line that ends in a backslash goes on."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def inline_codes(text: str) -> Iterator[str]:
    """What stands in single backticks outside of blocks."""
    yield from re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))


@cache
def giant() -> Any:
    """The real command line."""
    return typer.main.get_command(build_app())


def fault_of_call(words: list[str], complete: bool = True) -> str | None:
    """What is wrong with the words of a call of giant, or None. A sentence may leave out what is required."""
    command, context = giant(), None
    args = words[1:]
    try:
        while hasattr(command, "list_commands"):
            context = command.context_class(command, parent=context, info_name=command.name)
            if not args or args[0] in HELP or (PLACEHOLDER.fullmatch(args[0]) and context.parent is None):
                return None
            if args[0] not in command.list_commands(context) and "NAME" in command.list_commands(context):
                args = ["NAME", *args]  # giant eval BENCHMARK
            _, command, args = command.resolve_command(context, args)
        context = command.context_class(command, parent=context, info_name=command.name)
        values, rest, _ = command.make_parser(context).parse_args(list(args))
    except Exception as error:  # typer's usage errors, whatever click it brings
        name = type(error).__name__
        if name == "BadOptionUsage" and not complete:  # an option that is only named
            return None
        return f"{name}: {getattr(error, 'message', error)}"
    if rest:
        return f"too many arguments: {rest}"
    needed = [param for param in command.params if complete and param.required and "--help" not in args]
    missing = [param.name for param in needed if values.get(param.name) in (None, (), [])]
    return f"{' and '.join(missing)} missing" if missing else None


def known_options() -> set[str]:
    """Every option of every command."""
    options: set[str] = set(HELP)
    stack = [giant()]
    while stack:
        command = stack.pop()
        options |= {name for param in command.params for name in [*param.opts, *param.secondary_opts]}
        if hasattr(command, "list_commands"):
            context = command.context_class(command)
            stack += [command.get_command(context, name) for name in command.list_commands(context)]
    return options


def fault_of_command(words: list[str]) -> str | None:
    """What is wrong with a command of a shell block, or None."""
    if words[0] == "giant":
        return fault_of_call(words)
    if words[0] == "torchrun":
        return fault_of_call(["giant", *words[words.index("agent") + 1 :]])
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
        return None if set(words[1:]) <= set(targets) else f"the Makefile has no {words[1:]}"
    if words[0] == "python":
        return None if (ROOT / words[1]).is_file() else f"there is no {words[1]}"
    if words[0] not in OTHER_PROGRAMS and not words[0].startswith(".venv/bin/"):
        return f"what is {words[0]}?"
    extras = re.findall(r"\.\[([\w,]+)\]", " ".join(words))
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    unknown = {extra for names in extras for extra in names.split(",")} - known.keys()
    return f"there is no extra {unknown}" if unknown else None


def links_of(text: str) -> list[str]:
    """Targets of the links of a page."""
    return re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", text))


def anchors_of(text: str) -> set[str]:
    """The anchors that headings get, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def fault_of_link(page: Path, target: str) -> str | None:
    """Why a link within the repository leads nowhere, or None."""
    if target.startswith(("https://", "mailto:")):
        return None
    name, _, anchor = target.partition("#")
    path = (page.parent / name).resolve() if name else page
    if not path.exists():
        return f"{target} does not exist"
    if anchor and anchor not in anchors_of(read(path)):
        return f"{target}: no heading of that name"
    return None
