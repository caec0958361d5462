"""What the steps so far amount to, in the terms a navigator decides in: places shown, asked, searched for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from agent.navigators.posterior import Posterior, margin, shift
from agent.run.records import Step
from core_model.slides.box import Box


@dataclass(frozen=True)
class Looks:
    """A reading of the steps. It holds nothing that the steps do not."""

    steps: Sequence[Step]
    slide: Box

    @property
    def last(self) -> Step | None:
        """The step taken last."""
        return self.steps[-1] if self.steps else None

    @property
    def whole(self) -> Step | None:
        """The step that asked about the whole slide, whether or not it succeeded."""
        return next((step for step in self._asked() if _box(step) == self.slide), None)

    @property
    def regions(self) -> list[Step]:
        """The steps that asked about a part of the slide and got an answer."""
        return [step for step in self._asked() if step.observation.ok and _box(step) != self.slide]

    def to_be_asked(self) -> Box | None:
        """A place shown and not asked about: the one shown last, else one that a person chose."""
        asked = [_box(step) for step in self._asked()]
        shown = [step for step in self.steps if step.action.tool == "zoom" and step.observation.ok]
        waiting = [step for step in shown if step is self.last or step.action.by == "person"]
        return next((_box(step) for step in reversed(waiting) if _box(step) not in asked), None)

    def answered(self) -> list[Step]:
        """Every step that asked the model and got an answer, the whole slide's among them."""
        return [step for step in self._asked() if step.observation.ok]

    def tried(self, side: int) -> list[Box]:
        """Parts of the slide no wider than `side` that were looked at, with or without success."""
        boxes = [_box(step) for step in self.steps if step.action.tool in ("zoom", "ask_region")]
        return [box for box in boxes if box != self.slide and max(box.w, box.h) <= side]

    def hits(self, text: str) -> list[Mapping[str, Any]] | None:
        """What a search for `text` found; None where it was not searched for, empty where it failed."""
        for step in self.steps:
            if step.action.tool == "retrieve" and step.action.args.get("text") == text:
                return list(step.observation.data.get("hits", [])) if step.observation.ok else []
        return None

    @property
    def searches(self) -> int:
        """How many phrases were searched for."""
        return sum(step.action.tool == "retrieve" for step in self.steps)

    def settled(self, least: int) -> str | None:
        """Why another look would not change the answer, or None where it might.

        Settled means: at least `least` regions were asked, and the distance between the two leading
        hypotheses is more than any single look has moved a probability so far.
        """
        posteriors = self._posteriors()
        if len(self.regions) < least or len(posteriors) < 2:
            return None
        pairs = pairwise(posteriors)
        largest = max(shift(before, after) for before, after in pairs)
        lead = margin(posteriors[-1])
        if lead <= largest:
            return None
        if len(posteriors[-1]) == 1:
            return f"the model gave the same answer at all {len(self.regions)} regions"
        return f"the lead of {lead:.2f} is more than any look has changed so far ({largest:.2f})"

    def _posteriors(self) -> list[Posterior]:
        return [step.posterior for step in self.answered() if step.posterior is not None]

    def _asked(self) -> list[Step]:
        return [step for step in self.steps if step.action.tool == "ask_region"]


def _box(step: Step) -> Box:
    return Box(*step.action.args["box"])
