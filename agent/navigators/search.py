"""The navigator that needs no large multimodal model: it looks where the trained model can be told apart.

The whole slide is asked first. Then, coarse to fine, it goes where the text tower's answers to the two
leading hypotheses differ most, asks the same question there, and pools what it hears. It stops when another
look would not change the answer, when no tissue is left, or when the budget is spent.

An open question goes the same way: what the model itself says of the slide and of its regions become the
hypotheses, and each is scored at every place.

Places are windows over tissue, ranked by what retrieval found there. Lengths are level-0 pixels. Windows are
chosen inside the slide; nothing here moves a box that somebody asked for.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from agent.evidence.familiarity import doubts
from agent.graph.state import Decided, Draft, Stop, Weighed, steps_of
from agent.navigators.compose import UNKNOWN_TO_MODEL, compose_answer
from agent.navigators.weigh import Looks, ranked, weigh_observation
from agent.run.records import Action, Answer
from core_model.slides.box import Box

if TYPE_CHECKING:
    from agent.graph.state import AgentContext, AgentState
    from core_model.slides.slide import Slide
    from core_model.slides.tissue import TissueMask
    from core_model.specimen.quality import Quality
    from tools.records import Observation

COARSE_UM, COARSE_MPP = 900.0, 2.0
"""First look at a place: architecture, at about 5x."""

FINE_UM, FINE_MPP = 450.0, 0.5
"""Second look inside it: cells, at about 20x."""

SEEN_SHARE = 0.5
"""A window of which this share has been shown at its scale counts as seen."""

LEAST_TISSUE = 0.1
"""A window with a smaller share of tissue is not worth a look."""

MAX_WINDOWS = 4096
"""Most windows of a grid that are compared; a larger grid is thinned evenly."""


class WindowScale(NamedTuple):
    """A size of window and the resolution it is shown at."""

    name: str
    side: int
    """Level-0 px."""
    mpp: float


class WindowChoice(NamedTuple):
    """A window to look at, and whether retrieval or only the amount of tissue speaks for it."""

    box: Box
    retrieved: bool


LEAST_LOOKS = 3
"""Regions asked before the posterior may be called settled."""
MAX_SEARCHES = 4
"""Phrases searched for in one run; the rest of the budget is for looking."""
HITS = 64
"""Tiles returned per search: enough to compare places, few enough to keep in the state."""
SHOWN_IN_DOUBT = 2
"""Places shown where the model does not know the slide or the question."""


class SearchNavigator:
    """Coarse-to-fine search driven by the model's posteriors."""

    name = "search"
    reads_features = True
    starts_wide = True

    def decide(self, state: AgentState, context: AgentContext) -> Decided:
        """The next look, or the reason to stop."""
        return Decided(self._next(state, context))

    def _next(self, state: AgentState, context: AgentContext) -> Action | Stop:
        looks = Looks(steps_of(state), context.slide.box)
        budget = state["max_steps"] - len(looks.steps)
        if budget <= 0:
            return Stop(f"the budget of {state['max_steps']} step{'s' * (state['max_steps'] != 1)} is spent")
        familiarity = state.get("familiarity")
        if familiarity is not None and doubts(familiarity, context.model.name):
            return self._show(looks, state, context)
        if looks.whole is None:
            return _ask(state, context.slide.box, "Ask about the whole slide before choosing where to look.")
        if not looks.whole.observation.ok:
            return Stop(f"the slide could not be asked: {looks.whole.observation.text}")
        box = looks.to_be_asked()
        if box is not None:
            return _ask(state, box, "Ask the same question of the place just shown.")
        return self._consider(looks, budget, state, context) or self._go_on(looks, budget, state, context)

    def weigh(
        self, state: AgentState, context: AgentContext, action: Action, observation: Observation
    ) -> Weighed:
        """Pool what the model says of this place with what it said before."""
        return weigh_observation(state, context, action, observation)

    def compose(self, state: AgentState, context: AgentContext, problems: list[str]) -> Draft:
        """The answer from what was seen."""
        return compose_answer(state, context, problems)

    def review(self, state: AgentState, context: AgentContext, answer: Answer) -> Answer:
        """The answer as it is: the same model has nothing to add to what it said of every place."""
        return answer

    def _consider(self, looks: Looks, budget: int, state: AgentState, context: AgentContext) -> Action | None:
        """For each hint of a person: search for its words once, then ask where they are answered best."""
        for text in hinted(state):
            hits = looks.hits(text)
            if hits is None and budget > 1:
                reason = f"Find the tissue that answers most to what a person said: '{text}'."
                return Action(tool="retrieve", args={"text": text, "k": HITS}, reason=reason)
            last = looks.last
            if hits and last is not None and last.action.args.get("text") == text:
                fine = scales(context.slide)[1]
                boxes, floor = looks.tried(fine.side), min(hit["score"] for hit in hits)
                worth = {Box(*hit["box"]): hit["score"] - floor for hit in hits}
                choice = _chosen(fine.side, context.slide.box, worth, boxes, state, context)
                if choice is not None and choice.retrieved:
                    return _ask(state, choice.box, f"Of the places not yet seen, the best for '{text}'.")
        return None

    def _go_on(self, looks: Looks, budget: int, state: AgentState, context: AgentContext) -> Action | Stop:
        reason = looks.settled(LEAST_LOOKS)
        if reason is not None:
            return Stop(reason)
        leaders = [item.name for item in ranked(state.get("posterior") or {})[:2]]
        return self._search(looks, leaders, budget, state) or self._look(
            looks, leaders, budget, state, context
        )

    def _search(self, looks: Looks, leaders: list[str], budget: int, state: AgentState) -> Action | None:
        """Search for a leading hypothesis not searched for yet, while there is room to look after."""
        if budget < 3 or looks.searches - len(hinted(state)) >= MAX_SEARCHES:
            return None
        for place, name in zip(("leading", "second"), leaders, strict=False):
            text = phrase(state["question"], name)
            if looks.hits(text) is None:
                reason = f"Find the tissue that answers most to the {place} hypothesis, '{name}'."
                return Action(tool="retrieve", args={"text": text, "k": HITS}, reason=reason)
        return None

    def _look(
        self, looks: Looks, leaders: list[str], budget: int, state: AgentState, context: AgentContext
    ) -> Action | Stop:
        """A fine look inside the coarse one just asked, else a new coarse one, else a fine one anywhere."""
        slide = context.slide
        coarse, fine = scales(slide)
        hits = [looks.hits(phrase(state["question"], name)) or [] for name in leaders]
        worth = discrimination(hits[0], hits[1] if len(hits) > 1 else []) if hits else {}
        scale_order = (
            (coarse, fine) if budget > 1 else (fine,)
        )  # a coarse look takes two steps: show it, ask it
        tries = [(scale, slide.box) for scale in scale_order if scale.side < max(slide.width, slide.height)]
        last = looks.regions[-1].action.args["box"] if looks.regions else None
        if last is not None and min(last[2:]) > fine.side:
            tries.insert(0, (fine, Box(*last)))
        for scale, inside in tries:
            boxes = looks.tried(scale.side)
            choice = _chosen(scale.side, inside, worth, boxes, state, context)
            if choice is not None and scale is coarse:
                args = {"box": list(choice.box), "mpp": scale.mpp}
                return Action(tool="zoom", args=args, reason=_why(choice, scale, leaders))
            if choice is not None:
                return _ask(state, choice.box, _why(choice, scale, leaders))
        return Stop("no tissue is left that was not looked at")

    def _show(self, looks: Looks, state: AgentState, context: AgentContext) -> Action | Stop:
        """Show a few places without asking: a model that does not know the slide has nothing to say."""
        coarse, _ = scales(context.slide)
        boxes, slide = looks.tried(coarse.side), context.slide.box
        if len(boxes) < SHOWN_IN_DOUBT and coarse.side < max(slide.w, slide.h):  # else the overview shows it
            choice = _chosen(coarse.side, context.slide.box, {}, boxes, state, context)
            if choice is not None:
                why = "Show where there is most tissue; the model cannot be asked about it."
                return Action(tool="zoom", args={"box": list(choice.box), "mpp": coarse.mpp}, reason=why)
        return Stop(UNKNOWN_TO_MODEL)


def phrase(question: str, hypothesis: str) -> str:
    """What the text tower is searched with: the hypothesis as an answer to the question."""
    return f"{question[:1000].rstrip('?:. ')}: {hypothesis[:500]}"


def hinted(state: AgentState) -> list[str]:
    """What the text tower is searched with for a person's hints, each once."""
    return list(dict.fromkeys(hint[:500] for hint in state.get("hints", [])))


def _ask(state: AgentState, box: Box, reason: str) -> Action:
    args = {"box": list(box), "question": state["question"], "options": state.get("options")}
    return Action(tool="ask_region", args=args, reason=reason)


def _why(choice: WindowChoice, scale: WindowScale, leaders: list[str]) -> str:
    if not choice.retrieved:
        return f"No retrieved place is left to see here; this {scale.name} window holds most tissue."
    if len(leaders) < 2:
        return f"Of the places not yet seen, this {scale.name} window answers most to '{leaders[0]}'."
    first, second = leaders
    return f"Of the places not yet seen, this {scale.name} window best tells '{first}' from '{second}'."


def _chosen(
    side: int,
    inside: Box,
    worth: Mapping[Box, float],
    earlier: Sequence[Box],
    state: AgentState,
    context: AgentContext,
) -> WindowChoice | None:
    """The best unseen window that is in focus."""
    return choose(side, inside, worth, earlier, context.tissue, _rng(state), context.quality)


def _rng(state: AgentState) -> random.Random:
    """Ties fall the same way whenever the same step is decided again."""
    return random.Random(f"{state['seed']}:{len(state.get('steps', []))}")


def scales(slide: Slide) -> tuple[WindowScale, WindowScale]:
    """The coarse and the fine scale on this slide."""
    return (
        WindowScale("coarse", max(1, round(COARSE_UM / slide.mpp)), slide.effective_mpp(COARSE_MPP)),
        WindowScale("fine", max(1, round(FINE_UM / slide.mpp)), slide.effective_mpp(FINE_MPP)),
    )


def window_around(center: tuple[float, float], side: int, inside: Box) -> Box:
    """A window of `side` around a point, as far as `inside` leaves room for it."""
    w, h = min(side, inside.w), min(side, inside.h)
    x = min(max(round(center[0] - w / 2), inside.x), inside.right - w)
    y = min(max(round(center[1] - h / 2), inside.y), inside.bottom - h)
    return Box(x, y, w, h)


def grid(side: int, inside: Box) -> list[Box]:
    """Windows of `side` side by side over `inside`, in reading order, thinned to `MAX_WINDOWS`."""
    columns, rows = _starts(inside.x, inside.w, side), _starts(inside.y, inside.h, side)
    w, h, count = min(side, inside.w), min(side, inside.h), len(rows) * len(columns)
    indices = range(0, count, -(-count // MAX_WINDOWS))
    return [Box(columns[i % len(columns)], rows[i // len(columns)], w, h) for i in indices]


def _starts(start: int, length: int, side: int) -> list[int]:
    last = max(0, length - side)
    count = 1 + -(-last // side)
    return [start + (last * i // (count - 1) if count > 1 else 0) for i in range(count)]


def discrimination(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]
) -> dict[Box, float]:
    """How far two retrievals disagree on each tile that either of them found.

    A tile that only one retrieval returned scores at most the other's last hit there; that bound is used.
    """
    a, b = _by_box(first), _by_box(second)
    floor_a, floor_b = min(a.values(), default=0.0), min(b.values(), default=0.0)
    return {box: abs(a.get(box, floor_a) - b.get(box, floor_b)) for box in {**a, **b}}


def _by_box(hits: Sequence[Mapping[str, Any]]) -> dict[Box, float]:
    return {Box(*hit["box"]): float(hit["score"]) for hit in hits}


def seen_shares(boxes: Sequence[Box], earlier: Sequence[Box]) -> np.ndarray:
    """(N,) share of each of N boxes that earlier looks covered; looks that overlap count each for itself."""
    b = np.array(boxes, dtype=np.int64).reshape(-1, 1, 4)  # (N, 1, 4): x, y, w, h
    s = np.array(earlier, dtype=np.int64).reshape(1, -1, 4)  # (1, S, 4)
    near = np.maximum(b[..., :2], s[..., :2])
    far = np.minimum(b[..., :2] + b[..., 2:], s[..., :2] + s[..., 2:])
    common = np.clip(far - near, 0, None).prod(axis=-1)  # (N, S)
    return common.sum(axis=1) / b[:, 0, 2:].prod(axis=-1)


def choose(
    side: int,
    inside: Box,
    worth: Mapping[Box, float],
    earlier: Sequence[Box],
    tissue: TissueMask,
    rng: random.Random,
    quality: Quality | None = None,
) -> WindowChoice | None:
    """The best unseen window of `side` within `inside`; None where nothing is left.

    Windows around the retrieved tiles come first, by the sum of their tiles' worth; where none is left, the
    window with most tissue. What is out of focus is never chosen. Ties are broken by `rng`.
    """

    def worthwhile(boxes: list[Box]) -> dict[Box, float]:
        return _worthwhile(boxes, earlier, tissue, quality)

    centers = [(box.x + box.w / 2, box.y + box.h / 2) for box in worth]
    around = {window_around(center, side, inside) for center in centers if inside.contains(*center)}
    values = {box: _worth_inside(box, worth) for box in worthwhile(sorted(around))}
    is_retrieved = bool(values)
    if not is_retrieved:
        values = worthwhile(grid(side, inside))
    if not values:
        return None
    best = max(values.values())
    return WindowChoice(rng.choice([box for box, value in values.items() if value == best]), is_retrieved)


def _worthwhile(
    boxes: list[Box], earlier: Sequence[Box], tissue: TissueMask, quality: Quality | None
) -> dict[Box, float]:
    """The windows (all of one size) that are unseen, hold tissue and are in focus, with their share of it."""
    if not boxes:
        return {}
    corners, (w, h) = np.array([box[:2] for box in boxes]), boxes[0][2:]
    shares = tissue.shares(corners, w, h)  # (N,)
    worthwhile = (shares >= LEAST_TISSUE) & (seen_shares(boxes, earlier) < SEEN_SHARE)
    if quality is not None:
        worthwhile &= ~quality.are_blurred(corners, w, h)
    return {boxes[i]: float(shares[i]) for i in np.flatnonzero(worthwhile)}


def _worth_inside(box: Box, worth: Mapping[Box, float]) -> float:
    return sum(value * tile.overlap(box) for tile, value in worth.items())
