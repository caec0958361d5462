"""Who imports whom, read from the source: every import counts, also in functions and under TYPE_CHECKING."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

Graph = dict[str, set[str]]
Layers = Sequence[Sequence[str]]
"""Rooms of a package from top to bottom. A room may import those of lower layers only."""


def module_name(path: Path, root: Path) -> str:
    """`agent/chat/talk.py` is `agent.chat.talk`; `agent/chat/__init__.py` is `agent.chat`."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(source: str, package: str = "") -> Iterator[str]:
    """Dotted name of everything that a module of `package` imports: modules, and names within them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imported_packages(source: str) -> set[str]:
    """Top-level names of every import."""
    return {name.split(".")[0] for name in imported_names(source)}


def graph_of(files: Iterable[Path], root: Path) -> Graph:
    """Module to the modules among `files` that it imports."""
    modules = {module_name(path, root): path for path in files}
    graph: Graph = {}
    for name, path in modules.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        targets = set()
        for target in imported_names(path.read_text(encoding="utf-8"), package):
            module = target if target in modules else target.rpartition(".")[0]
            targets |= {module} & modules.keys()
        graph[name] = targets - {name}
    return graph


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other: strongly connected components of two or more (Tarjan 1972)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        stack.append(module)
        for target in sorted(graph.get(module, ())):
            if target not in order:
                visit(target)
                lowest[module] = min(lowest[module], lowest[target])
            elif target in stack:
                lowest[module] = min(lowest[module], order[target])
        if lowest[module] == order[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                groups.append(sorted(group))

    for module in sorted(graph):
        if module not in order:
            visit(module)
    return groups


def room_of(module: str) -> str:
    """`agent.chat.talk` is in `agent.chat`; a file at the top of its package is a room of its own."""
    return ".".join(module.split(".")[:2])


def against_the_order(graph: Mapping[str, set[str]], package: str, layers: Layers) -> list[str]:
    """Imports within `package` that do not point down, and rooms that the order does not name."""
    level = {f"{package}.{room}" if room else package: i for i, rooms in enumerate(layers) for room in rooms}
    faults = []
    for module, targets in sorted(graph.items()):
        room = room_of(module)
        if module.split(".")[0] != package:
            continue
        if room not in level:
            faults.append(f"{module}: the order of {package} does not name {room}")
            continue
        for target in sorted(targets):
            other = room_of(target)
            if other != room and other in level and level[other] <= level[room]:
                faults.append(f"{module} imports {target}")
    return faults
