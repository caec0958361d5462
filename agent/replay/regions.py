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

    about = record.slide
    if not isinstance(about, SlideRecord):
        raise RunError("the run read stored slide tokens and showed no region", fix="Leave out --slide")
    shown = [step for step in steps if step.observation.image is not None]
    with open_slide(path, about.mpp if about.mpp_source == "user" else None) as slide:
        _check(slide, about, path)
        changed = [why for step in shown if (why := _difference(slide, step)) is not None]
    return {"regions": len(shown), "equal": len(shown) - len(changed), "changed": changed}


def _check(slide: Slide, about: SlideRecord, path: Path) -> None:
    now = {"identity": slide.id, "size": (slide.width, slide.height), "µm/px": slide.mpp}
    then = {"identity": about.id, "size": (about.width, about.height), "µm/px": about.mpp}
    for name, value in now.items():
        if value != then[name]:
            raise RunError(
                f"is another slide: its {name} is {value}, and the run's was {then[name]}",
                where=path,
                fix="Give the slide that the run was about",
            )


def _difference(slide: Slide, step: Step) -> str | None:
    """What keeps a region from being the one that was shown; None where its pixels are the same."""
    from tools.render import pixels_sha256, read_again

    seen = step.observation
    where = f"step {step.index}, box {tuple(seen.box or ())}"
    if seen.pixels_sha256 is None:
        return f"{where}: the trace has no hash of its pixels"
    try:
        now = pixels_sha256(read_again(slide, seen))
    except GiantError as error:
        return f"{where}: it cannot be read again ({error.what})"
    return None if now == seen.pixels_sha256 else f"{where}: its pixels are not those that were shown"
