"""Tables of figures for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def figures_table(names: Sequence[str], figures: Sequence[str], *, wrap: bool = True) -> Table:
    """An empty table: columns of names to the left, columns of figures aligned to the right.

    Without `wrap` a figure stays on one line, and long names give way to it.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in names:
        table.add_column(title, overflow="ellipsis" if wrap else "fold")
    for title in figures:
        table.add_column(title, justify="right", no_wrap=not wrap)
    return table
