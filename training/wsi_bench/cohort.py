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

from core_model.errors import CohortError, UsageError
from core_model.files import flush
from training.wsi_bench.choices import choice_questions, table
from training.wsi_bench.features import find_features
from training.wsi_bench.overlap import Overlap, find_overlap, tcga_patient
from training.wsi_bench.rows import Rows, read_files
from training.wsi_bench.slides import Pool, divide, reports_of
from training.wsi_bench.summary import Summary, counted


@dataclass(frozen=True)
class WsiBenchRequest:
    """The request for a cohort: the files it is made of, and what may be left out of it."""

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


def make_cohort(request: WsiBenchRequest) -> Summary:
    """Read, check and write everything; the folder appears whole or not at all.

    Raises CohortError, FeatureStoreError where a feature file is none, UsageError for a senseless share.
    """
    if not 0 < request.val_share < 1:
        raise UsageError(
            f"--val-share {request.val_share:g} is not a share", fix="give a number between 0 and 1"
        )
    if request.out.exists():
        raise CohortError(
            "the output folder is there already", where=request.out, fix="give another --out, or remove it"
        )
    rows = read_files(request.train, request.test, request.reports)
    if rows.malformed and not request.skip_malformed:
        raise CohortError(
            counted([str(row) for row in rows.malformed], "malformed row"),
            fix="correct them, or leave them out with --skip-malformed",
        )
    slides = _choose(request, rows)
    summary, files = _contents(request, rows, slides)
    try:
        _write(request.out, files, slides.links)
    except OSError as error:
        raise CohortError(f"the cohort cannot be written ({error})", where=request.out) from error
    return summary


def _choose(request: WsiBenchRequest, rows: Rows) -> Chosen:
    """Slides that have everything, divided."""
    pool, test_pool = Pool(rows.train), Pool(rows.test)
    overlap = find_overlap(pool.slides, test_pool.slides)
    if not request.keep_overlap:
        pool.leave_out("that are test slides", overlap.slides)
    if not request.keep_overlap and request.by_patient:
        test_patients = set(overlap.patients)
        pool.leave_out(
            "of test patients", [name for name in pool.slides if tcga_patient(name) in test_patients]
        )
    reports, double = reports_of(rows.reports)
    features = find_features(request.features, {*pool.slides, *test_pool.slides})
    silent = [name for name in pool.slides if name not in reports]
    gaps = (
        (pool, "without a report", silent),
        (pool, f"without {features.told} file", features.lacking(pool.slides)),
        (test_pool, f"of the test files without {features.told} file", features.lacking(test_pool.slides)),
    )
    sentences = [counted(names, "slide", why) for _, why, names in gaps if names]
    if sentences and not request.allow_missing:
        raise CohortError(
            ", ".join(sentences),
            where=request.features,
            fix="add what is missing, or leave these slides out with --allow-missing",
        )
    for slides, why, names in gaps:
        slides.leave_out(why, names)
    train, val = divide(pool.slides, request.val_share, request.seed, request.by_patient)
    links = features.links(list(dict.fromkeys([*train, *val, *test_pool.slides])))
    left_out = pool.left_out | test_pool.left_out
    return Chosen(train, val, test_pool.slides, overlap, left_out, reports, double, links)


def _contents(request: WsiBenchRequest, rows: Rows, slides: Chosen) -> tuple[Summary, dict[str, str]]:
    """The summary, and the text of each file with summary.json last."""
    names, val, test = {*slides.train, *slides.val}, set(slides.val), set(slides.test)
    rows_kept = [row for row in rows.train if row.slide in names]
    val_questions, held_unusable, _ = choice_questions(row for row in rows_kept if row.slide in val)
    test_questions, asked_unusable, open_count = choice_questions(
        row for row in rows.test if row.slide in test
    )
    summary = Summary(
        seed=request.seed,
        by_patient=request.by_patient,
        files=rows.files,
        malformed=tuple(map(str, rows.malformed)),
        double_pairs=len(rows.train) - len({(row.slide, row.turns) for row in rows.train}),
        slides=len(Pool(rows.train).slides),
        overlap=slides.overlap,
        kept_overlap=request.keep_overlap,
        left_out=slides.left_out,
        train=len(slides.train),
        val=len(slides.val),
        test=len(slides.test),
        conversations=len(rows_kept),
        conversations_left=len(rows.train) - len(rows_kept),
        reports_left=len(slides.reports.keys() - names),
        double_reports=tuple(slides.double_reports),
        val_questions=len(val_questions),
        test_questions=len(test_questions),
        open_test_questions=open_count,
        unusable_questions=(*held_unusable, *asked_unusable),
        links={kind: len(links) for kind, links in slides.links.items()},
    )
    split = {"train": slides.train, "val": slides.val, "test": slides.test}
    reports = [{"slide": name, "report": slides.reports[name]} for name in sorted(names)]
    talks = ",\n".join(json.dumps(row.conversation()) for row in rows_kept)
    return summary, {
        "split.json": json.dumps(split, indent=1) + "\n",
        "reports.jsonl": "".join(json.dumps(report) + "\n" for report in reports),
        "instructions.json": f"[\n{talks}\n]\n",
        "questions.csv": table([("_val", val_questions), ("", test_questions)]),
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
