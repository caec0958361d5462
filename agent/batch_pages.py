"""What a batch of reports leaves behind: the record of each slide, and the pages that list them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agent.records import Record, SlideFacts
from agent.trace import write_text


class Finding(Record):
    """What one question of a report came to."""

    name: str
    said: str
    """The option chosen, or the model's own words."""
    answer: str
    """The answer with what it rests on."""
    choice: str | None
    confidence: float
    abstained: bool
    reason: str | None
    run: str
    """Run folder, relative to the slide's folder."""


class SlideReport(Record):
    """The report on one slide, as `report.json` and as a line of `reports.jsonl`."""

    version: Literal[1] = 1
    slide: str
    """Name of its folder: the file's stem where no other slide has it."""
    path: str
    report: str
    """The report in words: the description, then the findings."""
    findings: list[Finding]
    facts: SlideFacts
    model: str


@dataclass(frozen=True)
class Failure:
    """A slide that could not be reported on."""

    slide: str
    path: str
    error: str


def in_words(findings: Sequence[Finding]) -> str:
    """The report as text. A finding without an answer says that it has none."""
    lines = []
    for finding in findings:
        said = "no answer (abstained)" if finding.abstained else finding.said
        lines.append(f"{finding.name.capitalize()}: {said.rstrip('.')}.")
    return " ".join(lines)


def write_pages(out: Path, reports: Sequence[SlideReport], failures: Sequence[Failure]) -> None:
    """`reports.jsonl`, `failures.csv` and `index.html` for what is done so far."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["slide", "path", "error"])
    writer.writerows([f.slide, f.path, f.error] for f in failures)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "reports.jsonl", "".join(report.model_dump_json() + "\n" for report in reports))
    write_text(out / "failures.csv", table.getvalue())
    write_text(out / "index.html", render("index.html.j2", reports=reports, failures=failures))


def render(template: str, **values: Any) -> str:
    """One of our HTML templates, filled in."""
    from agent.report import NOTICE, environment

    return environment(html=True).get_template(template).render(notice=NOTICE, **values)
