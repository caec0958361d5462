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


class Known(NamedTuple):
    """What a checkpoint says of its training slides."""

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

    asked = list(dict.fromkeys(slides))
    texts, seen, patients = [], set[str](), set[str]()
    for one in (model, slide_model):
        if one is None:
            continue
        if names_chat_model(one):
            texts.append(f"What {getattr(one, 'name', one)} was trained on is not known.")
            continue
        known = training_slides(one)
        ours = {slide for slide in asked if _trained_on(slide, known)}
        persons = {patient_of(slide) for slide in known.slides or ()}
        theirs = {patient_of(slide) for slide in asked} & persons | {patient_of(slide) for slide in ours}
        texts.append(_told(known, ours, theirs, len(asked)))
        seen, patients = seen | ours, patients | theirs
    return {
        "text": " ".join(texts),
        "slides": [slide for slide in asked if slide in seen],
        "patients": sorted(patients),
        "of": len(asked),
    }


def training_slides(model: Any) -> Known:
    """What a local model, given by name, folder or loaded, says of its training slides."""
    from core_model.checkpoints.folder import read_config
    from core_model.models.tile_encoders import MINI

    folder = MINI if str(model) == "mini" else Path(getattr(model, "folder", None) or str(model))
    if not (folder / "config.json").is_file():
        return Known(str(getattr(model, "name", model)), None, frozenset())
    config, path = read_config(folder, verify=False), folder / TRAINING_SLIDES
    seeds = frozenset(int(seed) for seed in config.training.get("phantom_seeds", ()))
    if not path.exists():
        return Known(config.name, None, seeds)
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["slides"]
        return Known(config.name, frozenset(identity(str(name)) for name in names), seeds)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{TRAINING_SLIDES} cannot be read ({error})", where=folder) from error


def identity(slide: str) -> str:
    """What is the same for one slide under other suffixes, and with or without the UUID of a download."""
    stem = stem_of(slide)
    return barcode(stem) or stem.casefold()


def patient_of(slide: str) -> str:
    """A TCGA barcode's first three fields; any other slide stands for a patient of its own."""
    found = _PATIENT.match(identity(slide))
    return found.group() if found else identity(slide)


def _trained_on(slide: str, known: Known) -> bool:
    if known.slides is not None:
        return identity(slide) in known.slides
    found = _PHANTOM.fullmatch(identity(slide))
    return found is not None and int(found.group(1)) in known.seeds


def _told(known: Known, slides: set[str], patients: set[str], of: int) -> str:
    if known.slides is None:
        seeds = ", ".join(map(str, sorted(known.seeds)))
        text = f"The training slides of {known.name} are not recorded"
        text += f"; procedural slides of seed {seeds} were among them" if seeds else ""
        if not slides:
            return f"{text}." if not seeds else f"{text}, and none of the {of:,} evaluated has that seed."
        return f"{text}, and {len(slides):,} of the {of:,} slides evaluated have that seed: {_first(slides)}."
    if not slides and not patients:
        what = f"the {of:,} slides evaluated, nor of their patients,"
        return f"None of {what} is among the training slides of {known.name}."
    told = []
    if slides:
        told.append(f"{len(slides):,} of the {of:,} slides evaluated ({_first(slides)})")
    if patients:
        told.append(f"{len(patients):,} of their patients")
    both = " and ".join(told)
    return f"{both} are among the training slides of {known.name}: their figures say nothing of new slides."


def _first(slides: set[str]) -> str:
    more = f" and {len(slides) - SHOWN:,} more" if len(slides) > SHOWN else ""
    return f"{', '.join(sorted(slides)[:SHOWN])}{more}"
