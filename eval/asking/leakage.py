"""Whether a model was trained on what it is measured on, as far as its checkpoint says so.

`training_slides.json` of a checkpoint folder names the slides that it was trained and tuned on. Of a model
that came without one nothing is known, which is said and not taken for clean; the slides of `giant phantom`
tell their seed by their names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from core_model.checkpoints.folder import TRAINING_SLIDES
from core_model.errors import CheckpointError
from eval.asking.slides import barcode, stem_of

SHOWN = 3
"""Names that are told in words; the summary has them all."""
_PATIENT = re.compile(r"TCGA-[0-9A-Z]{2}-[0-9A-Z]{4}")
_PHANTOM = re.compile(r"phantom_(\d+)_\d+")


class TrainingRecord(NamedTuple):
    """The training slides that a checkpoint names."""

    name: str
    slides: frozenset[str] | None
    """By `identity`; None where they are not recorded."""
    seeds: frozenset[int]
    """Seeds of procedural slides among them."""


def leakage(model: Any, slide_model: Any, slides: Iterable[str]) -> dict[str, Any]:
    """`{"text", "slides", "patients", "of"}`: the slides evaluated that were trained on, and their patients.

    `slide_model` is the local model that a chat model may consult, or None. What a chat model has seen nobody
    says. Raises `CheckpointError` where a list of training slides is damaged.
    """
    from agent.session.request import names_chat_model

    names = list(dict.fromkeys(slides))
    texts, overlap, patients = [], set[str](), set[str]()
    for candidate in (model, slide_model):
        if candidate is None:
            continue
        if names_chat_model(candidate):
            texts.append(f"What {getattr(candidate, 'name', candidate)} was trained on is not known.")
            continue
        record = training_slides(candidate)
        ours = {slide for slide in names if _trained_on(slide, record)}
        persons = {patient_of(slide) for slide in record.slides or ()}
        shared_patients = {patient_of(slide) for slide in names} & persons | {
            patient_of(slide) for slide in ours
        }
        texts.append(_told(record, ours, shared_patients, len(names)))
        overlap, patients = overlap | ours, patients | shared_patients
    return {
        "text": " ".join(texts),
        "slides": [slide for slide in names if slide in overlap],
        "patients": sorted(patients),
        "of": len(names),
    }


def training_slides(model: Any) -> TrainingRecord:
    """The training slides of a local model, which is given by name, by folder or loaded."""
    from core_model.checkpoints.folder import read_config
    from core_model.models.tile_encoders import MINI

    folder = MINI if str(model) == "mini" else Path(getattr(model, "folder", None) or str(model))
    if not (folder / "config.json").is_file():
        return TrainingRecord(str(getattr(model, "name", model)), None, frozenset())
    config, path = read_config(folder, verify=False), folder / TRAINING_SLIDES
    seeds = frozenset(int(seed) for seed in config.training.get("phantom_seeds", ()))
    if not path.exists():
        return TrainingRecord(config.name, None, seeds)
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["slides"]
        return TrainingRecord(config.name, frozenset(slide_identity(str(name)) for name in names), seeds)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"the list of training slides ({TRAINING_SLIDES}) cannot be read ({error})", where=folder
        ) from error


def slide_identity(slide: str) -> str:
    """A name for a slide that no suffix and no UUID of a download changes."""
    stem = stem_of(slide)
    return barcode(stem) or stem.casefold()


def patient_of(slide: str) -> str:
    """A TCGA barcode's first three fields; any other slide stands for a patient of its own."""
    match = _PATIENT.match(slide_identity(slide))
    return match.group() if match else slide_identity(slide)


def _trained_on(slide: str, record: TrainingRecord) -> bool:
    if record.slides is not None:
        return slide_identity(slide) in record.slides
    match = _PHANTOM.fullmatch(slide_identity(slide))
    return match is not None and int(match.group(1)) in record.seeds


def _told(record: TrainingRecord, slides: set[str], patients: set[str], of: int) -> str:
    if record.slides is None:
        seeds = ", ".join(map(str, sorted(record.seeds)))
        text = f"The training slides of {record.name} are not recorded"
        text += f"; procedural slides of seed {seeds} were among them" if seeds else ""
        if not slides:
            return f"{text}." if not seeds else f"{text}, and none of the {of:,} evaluated has that seed."
        return f"{text}, and {len(slides):,} of the {of:,} slides evaluated have that seed: {_first(slides)}."
    if not slides and not patients:
        scope = f"the {of:,} slides evaluated, nor of their patients,"
        return f"None of {scope} is among the training slides of {record.name}."
    parts = []
    if slides:
        parts.append(f"{len(slides):,} of the {of:,} slides evaluated ({_first(slides)})")
    if patients:
        parts.append(f"{len(patients):,} of their patients")
    subjects = " and ".join(parts)
    return (
        f"{subjects} are among the training slides of {record.name}: their figures say nothing of new slides."
    )


def _first(slides: set[str]) -> str:
    more = f" and {len(slides) - SHOWN:,} more" if len(slides) > SHOWN else ""
    return f"{', '.join(sorted(slides)[:SHOWN])}{more}"
