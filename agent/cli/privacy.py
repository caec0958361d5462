"""`giant doctor --privacy`: what in slides could identify a patient, counted and never shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, TypeAdapter

from agent.cli.streams import ascii_json
from core_model.errors import GiantError, UsageError
from core_model.privacy.traces import Trace
from core_model.records import Record


class Hints(Record):
    """What was found in one slide, which is known by its number and identity alone."""

    slide: int
    """Its number in the order given, from 1."""
    id: str | None
    """None where it cannot be opened."""
    traces: list[Trace] = Field(default_factory=list)
    error: str | None = None


def search_and_show(paths: Sequence[str], isolate: bool, as_json: bool) -> None:
    """`giant doctor --privacy`. Raises `UsageError` without slides, `GiantError` where one is not read."""
    if not paths:
        raise UsageError("--privacy looks at slides, and none is named", fix="Name slides or folders of them")
    found = search_slides(paths, isolate)
    show_hints(found, as_json)
    failures = sum(hints.error is not None for hints in found)
    if failures:
        raise GiantError(f"{failures} of {len(found)} slides cannot be searched", fix="They are named above")


def search_slides(paths: Sequence[str], isolate: bool) -> list[Hints]:
    """What is found in each slide under the paths."""
    from core_model.slides.discover import slides_under

    return [_search(number, path, isolate) for number, path in enumerate(slides_under(paths).paths, 1)]


def _search(number: int, path: Path, isolate: bool) -> Hints:
    from core_model.privacy.traces import Trace, traces_of
    from core_model.slides.isolation.inspect import in_child
    from core_model.slides.renamed import Alias
    from core_model.slides.slide import open_slide

    name = f"slide {number}"
    try:
        # Of any scale: it says nothing of a patient.
        with (
            open_slide(path, mpp_override=1.0, isolate=isolate, name=name) as slide,
            Alias(slide.path, name).renaming(),
        ):
            found = in_child(traces_of, slide.path, list[Trace]) if isolate else traces_of(slide.path)
            return Hints(slide=number, id=slide.id, traces=found)
    except GiantError as error:
        return Hints(slide=number, id=None, error=str(error))


def show_hints(found: Sequence[Hints], as_json: bool) -> None:
    """A table on stdout, or one JSON object."""
    if as_json:
        ok = all(hints.error is None for hints in found)
        rows = TypeAdapter(list[Hints]).dump_json(list(found)).decode()
        print(ascii_json(f'{{"ok":{"true" if ok else "false"},"slides":{rows}}}'))
        return
    from rich.table import Table

    from agent.cli.terminal import stdout

    table = Table(box=None, pad_edge=False)
    for title in ("slide", "could tell of a patient", "count", "where"):
        table.add_column(title)
    for hints in found:
        for row in _rows(hints):
            table.add_row(*row)
    stdout().print(table)
    stdout().print(
        "Values are not shown. Words within the pictures of tissue are not searched; giant never reads label"
        " and macro images, and sends no text of a file.",
        style="dim",
    )


def _rows(hints: Hints) -> list[tuple[str, str, str, str]]:
    """The lines of one slide: a line for each kind."""
    about = f"{hints.slide} ({hints.id[:16]})" if hints.id else str(hints.slide)
    if hints.error is not None:
        return [(about, "cannot be searched", "", hints.error)]
    if not hints.traces:
        return [(about, "nothing found", "0", "")]
    counts: Counter[str] = Counter()
    for trace in hints.traces:
        counts[trace.kind] += trace.count
    return [
        (
            about if number == 0 else "",
            kind,
            str(count),
            ", ".join(trace.where for trace in hints.traces if trace.kind == kind),
        )
        for number, (kind, count) in enumerate(counts.items())
    ]
