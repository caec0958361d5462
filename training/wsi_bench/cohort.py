"""WSI-Bench's published files as a cohort folder that the three stages train on.

    split.json         train, val and test slides      tokens/<slide>.pt     links to released slide tokens
    reports.jsonl      a report of each slide          features/<slide>.h5   links to tile features
    instructions.json  its conversations               summary.json          what was read, what left out
    questions.csv      closed questions about val and test slides

The cohort's slides are those of the training files. What is malformed or missing is an error or, where the
user said so, left out, counted and named in the summary: nothing is dropped silently.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core_model.atomic import flush
from core_model.errors import CohortError, UsageError
from training.wsi_bench.choices import choices, table
from training.wsi_bench.features import find_features
from training.wsi_bench.overlap import Overlap, find_overlap, patient_of
from training.wsi_bench.rows import Rows, read_files
from training.wsi_bench.slides import Pool, divide, reports_of
from training.wsi_bench.summary import Summary, counted


@dataclass(frozen=True)
class Wanted:
    """What a cohort is made of, and what may be left out of it."""

    train: Sequence[Path]
    """Files of conversations to train on."""
    reports: Sequence[Path]
    """Files with reports: rows that ask for one, or ours of `slide` and `report`; others are passed over."""
    features: Path
    """Folder of `<slide>.pt` or `<slide>.h5`, or of folders of them."""
    out: Path
    """The cohort folder, which must not exist yet."""
    test: Sequence[Path] = ()
    """Files of test questions. Their slides are kept out of training."""
    val_share: float = 0.05
    """Share of the slides that is held back to measure on."""
    seed: int = 0
    """The same seed holds the same slides back."""
    by_patient: bool = True
    """Whether splits share no patient, rather than only no slide."""
    keep_overlap: bool = False
    """Whether to train on test slides too, as the published files have it."""
    allow_missing: bool = False
    """Whether slides without features or report are left out, rather than being an error."""
    skip_malformed: bool = False
    """Whether malformed rows are left out, rather than being an error."""


@dataclass(frozen=True)
class Chosen:
    """The slides of the cohort and what is known of them."""

    train: list[str]
    val: list[str]
    test: list[str]
    overlap: Overlap
    left_out: dict[str, tuple[str, ...]]
    reports: dict[str, str]
    double_reports: list[str]
    links: dict[str, dict[str, Path]]
    """Where the links of each kind of feature file lead."""


def make_cohort(wanted: Wanted) -> Summary:
    """Read, check and write everything; the folder appears whole or not at all.

    Raises CohortError, FeatureStoreError where a feature file is none, UsageError for a senseless share.
    """
    if not 0 < wanted.val_share < 1:
        raise UsageError(f"--val-share {wanted.val_share:g} is no share", fix="Give one between 0 and 1")
    if wanted.out.exists():
        raise CohortError("is there already", where=wanted.out, fix="give another --out, or remove it")
    rows = read_files(wanted.train, wanted.test, wanted.reports)
    if rows.malformed and not wanted.skip_malformed:
        raise CohortError(
            counted([str(row) for row in rows.malformed], "malformed row"),
            fix="correct them, or leave them out with --skip-malformed",
        )
    chosen = _choose(wanted, rows)
    summary, files = _contents(wanted, rows, chosen)
    try:
        _write(wanted.out, files, chosen.links)
    except OSError as error:
        raise CohortError(f"cannot be written ({error})", where=wanted.out) from error
    return summary


def _choose(wanted: Wanted, rows: Rows) -> Chosen:
    """Slides that have everything, divided."""
    pool, asked = Pool(rows.train), Pool(rows.test)
    overlap = find_overlap(pool.slides, asked.slides)
    if not wanted.keep_overlap:
        pool.leave_out("that are test slides", overlap.slides)
    if not wanted.keep_overlap and wanted.by_patient:
        shared = set(overlap.patients)
        pool.leave_out("of test patients", [name for name in pool.slides if patient_of(name) in shared])
    reports, double = reports_of(rows.reports)
    features = find_features(wanted.features, {*pool.slides, *asked.slides})
    silent = [name for name in pool.slides if name not in reports]
    gaps = (
        (pool, "without a report", silent),
        (pool, f"without {features.told} file", features.lacking(pool.slides)),
        (asked, f"of the test files without {features.told} file", features.lacking(asked.slides)),
    )
    told = [counted(names, "slide", why) for _, why, names in gaps if names]
    if told and not wanted.allow_missing:
        raise CohortError(
            ", ".join(told),
            where=wanted.features,
            fix="add what is missing, or leave these slides out with --allow-missing",
        )
    for slides, why, names in gaps:
        slides.leave_out(why, names)
    train, val = divide(pool.slides, wanted.val_share, wanted.seed, wanted.by_patient)
    links = features.links(list(dict.fromkeys([*train, *val, *asked.slides])))
    left_out = pool.left_out | asked.left_out
    return Chosen(train, val, asked.slides, overlap, left_out, reports, double, links)


def _contents(wanted: Wanted, rows: Rows, chosen: Chosen) -> tuple[Summary, dict[str, str]]:
    """The summary, and the text of each file with summary.json last."""
    kept, val, test = {*chosen.train, *chosen.val}, set(chosen.val), set(chosen.test)
    about = [row for row in rows.train if row.slide in kept]
    held, held_unusable, _ = choices(row for row in about if row.slide in val)
    asked, asked_unusable, opened = choices(row for row in rows.test if row.slide in test)
    summary = Summary(
        seed=wanted.seed,
        by_patient=wanted.by_patient,
        files=rows.files,
        malformed=tuple(map(str, rows.malformed)),
        double_pairs=len(rows.train) - len({(row.slide, row.turns) for row in rows.train}),
        slides=len(Pool(rows.train).slides),
        overlap=chosen.overlap,
        kept_overlap=wanted.keep_overlap,
        left_out=chosen.left_out,
        train=len(chosen.train),
        val=len(chosen.val),
        test=len(chosen.test),
        conversations=len(about),
        conversations_left=len(rows.train) - len(about),
        reports_left=len(chosen.reports.keys() - kept),
        double_reports=tuple(chosen.double_reports),
        val_questions=len(held),
        test_questions=len(asked),
        open_test_questions=opened,
        unusable_questions=(*held_unusable, *asked_unusable),
        links={kind: len(found) for kind, found in chosen.links.items()},
    )
    split = {"train": chosen.train, "val": chosen.val, "test": chosen.test}
    reports = [{"slide": name, "report": chosen.reports[name]} for name in sorted(kept)]
    talks = ",\n".join(json.dumps(row.conversation()) for row in about)
    return summary, {
        "split.json": json.dumps(split, indent=1) + "\n",
        "reports.jsonl": "".join(json.dumps(report) + "\n" for report in reports),
        "instructions.json": f"[\n{talks}\n]\n",
        "questions.csv": table([("_val", held), ("", asked)]),
        "summary.json": summary.model_dump_json(indent=1) + "\n",
    }


def _write(out: Path, files: dict[str, str], links: dict[str, dict[str, Path]]) -> None:
    """Write beside `out` and rename. Raises OSError."""
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        for kind, leads in links.items():
            (part / kind).mkdir()
            for name, target in leads.items():
                (part / kind / name).symlink_to(target)
        for name, text in files.items():
            (part / name).write_text(text, "utf-8")
            flush(part / name)
        part.rename(out)
        flush(out.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
