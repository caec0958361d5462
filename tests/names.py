"""How the code names things, measured: `python tests/names.py` prints the figures and the worst offenders.

A local name is a parameter or whatever a function binds: by assignment, a loop, `with`, a comprehension, `:=`
or `except`. One that is nothing but a participle or a pronoun (`found`, `kept`, `one`, `about`) says what was
done to a thing and leaves the reader to guess which thing.
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("core_model", "tools", "agent", "training", "eval")
Function = ast.FunctionDef | ast.AsyncFunctionDef

PARTICIPLES = frozenset(
    """
    asked been begun bound bought broken brought built caught chosen come cut done drawn driven
    fallen felt found forgotten given gone got grown heard held hidden kept known laid led left lent
    lost made meant met paid put read risen said sent seen shown sold spent spoken stood struck
    taken taught thought thrown told understood won worn woken written
    """.split()  # noqa: SIM905 - a list of words reads better as words
)
PRONOUNS = frozenset(
    """
    all another any anything both each everything he her him his it its itself mine neither none
    nothing one ones other others own same she some something such that theirs them these they this
    those us we what whatever which who whom whose you yours
    """.split()  # noqa: SIM905 - a list of words reads better as words
)
ADVERBS = frozenset(
    """
    about again alike anew beside here now so then there together twice yet
    """.split()  # noqa: SIM905 - a list of words reads better as words
)
"""Words that stand for a thing as pronouns do: "there" for what exists, "about" for what describes it."""
NOUNS = frozenset(
    """
    bed embed feed field need red seed shed speed thread weed
    """.split()  # noqa: SIM905 - a list of words reads better as words
)
"""Words in -ed that are no participles."""


def functions(tree: ast.AST) -> Iterator[Function]:
    """Every function and method of a module, also nested ones."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def local_names(function: Function) -> set[str]:
    """The names a function binds itself, without those of functions nested in it, `self` and `cls`."""
    args = function.args
    given = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    names = {arg.arg for arg in given if arg is not None}
    stack: list[ast.AST] = list(function.body)
    while stack:
        node = stack.pop()
        if isinstance(node, Function | ast.ClassDef):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.Lambda):
            names |= {arg.arg for arg in node.args.args}
        stack.extend(ast.iter_child_nodes(node))
    return names - {"self", "cls", "_"}


def is_riddle(name: str) -> bool:
    """Whether a name is nothing but a participle, a pronoun or an adverb that stands for one."""
    word = name.strip("_").lower()
    if word in PARTICIPLES | PRONOUNS | ADVERBS:
        return True
    return bool(re.fullmatch(r"[a-z]{2,}ed", word)) and word not in NOUNS


def modules() -> Iterator[tuple[Path, ast.Module]]:
    """Every module of the packages with its syntax tree."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def riddles() -> tuple[float, Counter[str], Counter[str]]:
    """Share of riddles among local names; how often each occurs; how many each file has."""
    total, names, files = 0, Counter[str](), Counter[str]()
    for path, tree in modules():
        for function in functions(tree):
            bound = local_names(function)
            bad = [name for name in bound if is_riddle(name)]
            total += len(bound)
            names.update(bad)
            files[str(path.relative_to(ROOT))] += len(bad)
    return names.total() / total, names, +files


def lengths() -> list[int]:
    """Lines of every function, from its `def` to its end."""
    return [(f.end_lineno or f.lineno) - f.lineno + 1 for _, tree in modules() for f in functions(tree)]


def main() -> None:
    """Print the figures."""
    share, names, files = riddles()
    sizes = lengths()
    print(f"local names that are riddles: {share:.1%}")
    print("most often:", ", ".join(f"{name} {count}" for name, count in names.most_common(40)))
    for name, count in files.most_common(int(sys.argv[1]) if len(sys.argv) > 1 else 20):
        print(f"{count:4} {name}")
    p90 = statistics.quantiles(sizes, n=10)[-1]
    median = statistics.median(sizes)
    print(f"functions: {len(sizes)}, median {median:.0f} lines, p90 {p90:.0f}, max {max(sizes)}")


if __name__ == "__main__":
    main()
