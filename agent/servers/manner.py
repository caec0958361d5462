"""How one server is spoken to: the usual way, and what is given up of it once the server has refused it.

A manner only ever takes away, so that a chain of refusals ends. `after` says what to give up next.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

from agent.llm.profiles import ModelProfile
from agent.llm.refusals import Refusal

Order = Literal["usual", "bridged", "alternating", "merged"]
"""Who speaks after whom. usual: a user's images right behind the results of tools. bridged: a word of the
assistant between them. alternating: results in the user's words, so that user and assistant take turns.
merged: so too, with what the system says at the head of the user's first message."""
ORDERS: tuple[Order, ...] = ("usual", "bridged", "alternating", "merged")

PANELS = 9
"""Images that one contact sheet holds at most."""


class Level(NamedTuple):
    """How small a request is made."""

    images: int | None
    """Images in view; None for as many as the profile says."""
    turns: int | None
    """Last turns that stay word for word; of older ones only the findings do. None for all."""
    scale: float
    """Sides of the images, as a share of what was drawn."""


LEVELS = (
    Level(None, None, 1.0),
    Level(5, None, 1.0),
    Level(4, 3, 0.75),
    Level(2, 2, 0.6),
    Level(1, 1, 0.5),
    Level(1, 0, 0.35),
)


@dataclass(frozen=True)
class Manner:
    """What is said to a server, and in which form."""

    calls: Literal["tools", "words"] = "tools"
    """Whether the model calls tools, or writes its calls as JSON."""
    choice: bool = True
    """Whether the server can be told which tool must be called."""
    order: Order = "usual"
    images: int | None = None
    """Most images in one request; None for as many as the profile says. What is more goes on one sheet."""
    level: int = 0
    """How small requests are made: an index of `LEVELS`."""

    @property
    def size(self) -> Level:
        """How small requests are made."""
        return LEVELS[self.level]

    def most_images(self, profile: ModelProfile) -> int:
        """Images that may be in view, those on a sheet included."""
        most = profile.max_images if self.size.images is None else min(self.size.images, profile.max_images)
        return most if self.images is None else min(most, self.images - 1 + PANELS)

    def smaller(self) -> Manner | None:
        """The next smaller size; None where there is none."""
        return replace(self, level=self.level + 1) if self.level + 1 < len(LEVELS) else None

    def after(self, refusal: Refusal, sent: int) -> Manner | None:
        """The manner for a server that refused a request with `sent` images; None where nothing is left.

        Sizes are not decided here, because they depend on what the request would become.
        """
        if refusal.kind == "no_tool_choice" and self.choice and self.calls == "tools":
            return replace(self, choice=False)
        if refusal.kind in ("no_tools", "no_tool_choice"):
            return replace(self, calls="words") if self.calls == "tools" else None
        if refusal.kind == "role_order":
            later = ORDERS[ORDERS.index(self.order) + 1 :]
            return replace(self, order=later[0]) if later else None
        if refusal.kind == "image_limit":
            most = min(sent, self.images or sent)
            limit = refusal.limit if refusal.limit is not None else most // 2
            return replace(self, images=limit) if 0 < limit < most else None
        return None

    def record(self) -> dict[str, Any]:
        """The manner as a journal keeps it."""
        return asdict(self)


def first_manner(profile: ModelProfile) -> Manner:
    """The manner in which a model is spoken to before its server has refused anything."""
    return Manner(order="bridged" if profile.images == "bridged" else "usual")


def difference(before: Manner, after: Manner) -> str:
    """What is given up between two manners, as one clause."""
    if after.calls != before.calls:
        return "its server calls no tools; calls are asked for as JSON in words from here on"
    if after.choice != before.choice:
        return "its server cannot be told which tool to call; only that one is offered from here on"
    if after.order != before.order:
        return f"its server refuses the order of speakers; it is {after.order} from here on"
    if after.images != before.images:
        number = f"{after.images} image{'s' * (after.images != 1)}"
        return f"its server takes {number} in a request; the others go on one contact sheet from here on"
    return (
        "its server takes no request of that size; fewer and smaller images are sent, "
        "and older turns as findings, from here on"
    )
