"""Read every region of a finished run from its slide again, and compare the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.run.records import RunRecord, SlideRecord, Step
from core_model.errors import GiantError, RunError

if TYPE_CHECKING:
    from core_model.slides.slide import Slide


def read_regions_again(record: RunRecord, steps: Sequence[Step], path: Path) -> dict[str, Any]:
    """Fields of `Replayed`: how many regions were shown, how many have the same pixels, and the others.

    Raises `RunError` where the slide is another one, and what opening it raises.
    """
    from core_model.slides.slide import open_slide

    original = record.slide
    if not isinstance(original, SlideRecord):
        raise RunError("the run read stored slide tokens and showed no region", fix="Leave out --slide")
    regions = [step for step in steps if step.observation.image is not None]
    with open_slide(path, mpp_override=original.mpp if original.mpp_source == "user" else None) as slide:
        _check(slide, original, path)
        differences = [why for step in regions if (why := _difference(slide, step)) is not None]
    return {"regions": len(regions), "equal": len(regions) - len(differences), "changed": differences}


def _check(slide: Slide, original: SlideRecord, path: Path) -> None:
    identity = original.id if original.id == slide.quickhash else slide.id  # of a run of version 0.2.0
    actual = {"identity": identity, "size": (slide.width, slide.height), "µm/px": slide.mpp}
    facts = {
        "identity": original.id,
        "size": (original.width, original.height),
        "µm/px": original.mpp,
    }
    for name, value in actual.items():
        if value != facts[name]:
            raise RunError(
                f"this is another slide: its {name} is {value}, and the run's was {facts[name]}",
                where=path,
                fix="Give the slide that the run was about",
            )


def _difference(slide: Slide, step: Step) -> str | None:
    """The reason why a region is not the one that was shown; None where its pixels are the same."""
    from tools.render import pixels_sha256, read_again

    look = step.observation
    where = f"step {step.index}, box {tuple(look.box or ())}"
    if look.pixels_sha256 is None:
        return f"{where}: the trace has no hash of its pixels"
    try:
        pixels = pixels_sha256(read_again(slide, look))
    except GiantError as error:
        return f"{where}: it cannot be read again ({error.what})"
    return None if pixels == look.pixels_sha256 else f"{where}: its pixels are not those that were shown"
