"""Weighs what one observation says about the question and pools it with the observations before.

Closed questions: the hypotheses are the options, and each place gives a probability to each. Open questions:
the hypotheses are what the model itself said of the slide or of a region; when it says something new, every
place asked so far is scored again, so that all hypotheses are compared at all places.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.graph.state import Weighed, steps_of
from agent.run.records import Step
from agent.text import first_sentences, same_words
from core_model.slides.box import Box

if TYPE_CHECKING:
    from agent.graph.state import AgentContext, AgentState
    from agent.run.records import Action
    from tools.records import Observation


UNANIMOUS = "the model gave the same answer everywhere"


@dataclass(frozen=True)
class Looks:
    """The steps of a run, sorted by what they were for. It holds nothing that the steps do not."""

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
        boxes = [_box(step) for step in self._asked()]
        zooms = [step for step in self.steps if step.action.tool == "zoom" and step.observation.ok]
        waiting = [step for step in zooms if step is self.last or step.action.by == "person"]
        return next((_box(step) for step in reversed(waiting) if _box(step) not in boxes), None)

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
            return UNANIMOUS
        return (
            f"the lead over the next answer ({lead:.2f}) is larger than any change that a look has made"
            f" so far ({largest:.2f})"
        )

    def _posteriors(self) -> list[Posterior]:
        return [step.posterior for step in self.answered() if step.posterior is not None]

    def _asked(self) -> list[Step]:
        return [step for step in self.steps if step.action.tool == "ask_region"]


FLOOR = 1e-4
"""Smallest probability a single look may assign: no look alone can rule a hypothesis out for good."""


Posterior = dict[str, float]


class Ranked(NamedTuple):
    """A hypothesis and its probability."""

    name: str
    p: float


MAX_HYPOTHESES = 6
"""Answers compared for an open question; what is said after these is heard and not added."""
Scores = dict[str, dict[str, float]]


def weigh_observation(
    state: AgentState, context: AgentContext, action: Action, observation: Observation
) -> Weighed:
    """The finding of a step in words, and the fields of the state that it changes."""
    if not observation.ok:
        return Weighed(f"Nothing was seen: {observation.text}", {})
    if action.tool == "retrieve":
        return Weighed(_hits_in_words(observation), {})
    if action.tool != "ask_region":
        return Weighed(first_sentences(observation.text), {})
    if state.get("options"):
        return _closed(state, context, action, observation)
    return _open(state, context, action, observation)


def _closed(state: AgentState, context: AgentContext, action: Action, observation: Observation) -> Weighed:
    shares = {str(name): float(p) for name, p in observation.data["options"].items()}
    scores = {**state.get("scores", {}), _index(state): shares}
    updates = {"hypotheses": list(shares), "scores": scores, "posterior": _pooled(scores, state, context)}
    place = _place(action, context, observation)
    finding = f"The model's probabilities for {place}: {probabilities_in_words(shares)}."
    return Weighed(finding, updates)


def _open(state: AgentState, context: AgentContext, action: Action, observation: Observation) -> Weighed:
    text, p = spoken_answer(observation)
    hypotheses, certainties = list(state.get("hypotheses", [])), dict(state.get("said", {}))
    name = next((hypothesis for hypothesis in hypotheses if same_words(hypothesis, text)), text)
    if name and name not in hypotheses and len(hypotheses) < MAX_HYPOTHESES:
        hypotheses.append(name)
    place = _place(action, context, observation)
    if not hypotheses:
        return Weighed(f"The model gave no answer for {place}.", {})
    if name in hypotheses:
        certainties[name] = max(certainties.get(name, 0.0), p)
    earlier_scores = state.get("scores", {}) if hypotheses == state.get("hypotheses") else {}
    scores = _score(earlier_scores, hypotheses, state, context, Box(*action.args["box"]))
    updates = {
        "hypotheses": hypotheses,
        "said": certainties,
        "scores": scores,
        "posterior": _pooled(scores, state, context),
    }
    finding = f"The model gave no answer for {place}."
    if text:
        finding = f"The model's answer for {place}: {text} (probability {p:.2f} per word piece)."
    # Of one hypothesis the share is 1 by construction: it would only look like certainty.
    if len(hypotheses) > 1:
        finding += f" Probabilities of the answers compared: {probabilities_in_words(scores[_index(state)])}."
    return Weighed(finding, updates)


def _place(action: Action, context: AgentContext, observation: Observation) -> str:
    if Box(*action.args["box"]) == context.slide.box:
        return "the whole slide"
    part = observation.data.get("part")
    return f"this region ({part})" if part else "this region"


def _score(
    earlier: Scores, hypotheses: list[str], state: AgentState, context: AgentContext, box: Box
) -> Scores:
    """Probability of each hypothesis at each place asked, the present one included."""
    steps = Looks(steps_of(state), context.slide.box).answered()
    places = {str(step.index): Box(*step.action.args["box"]) for step in steps} | {_index(state): box}
    if len(hypotheses) == 1:
        return {index: {hypotheses[0]: 1.0} for index in places}
    missing = [index for index in places if index not in earlier]
    rows = context.journal.once(
        "scores", f"{int(_index(state)):04d}", lambda: _rows(missing, places, hypotheses, state, context)
    )
    new = {index: dict(zip(hypotheses, row, strict=True)) for index, row in zip(missing, rows, strict=True)}
    return {index: earlier[index] if index in earlier else new[index] for index in places}


def _rows(
    missing: list[str],
    places: dict[str, Box],
    hypotheses: list[str],
    state: AgentState,
    context: AgentContext,
) -> list[list[float]]:
    """What the model gives each hypothesis at each of the `missing` places, as plain numbers."""
    parts = [context.toolbox.tiles_in(places[index]) for index in missing]
    rows = context.model.score_options_many(parts, state["question"], hypotheses)  # (missing, hypotheses)
    return [[float(p) for p in row] for row in rows]


def _pooled(scores: Scores, state: AgentState, context: AgentContext) -> Posterior | None:
    """Pool the whole slide's scores with the regions'. A score whose step is not recorded yet is this one."""
    whole = Looks(steps_of(state), context.slide.box).whole
    whole_index = str(whole.index) if whole is not None else _index(state)
    regions = [scores[index] for index in sorted(scores, key=int) if index != whole_index]
    weights = context.weights
    return pool(scores.get(whole_index), regions, weights.slide, weights.region)


def _hits_in_words(observation: Observation) -> str:
    hits = observation.data["hits"]
    best, last = hits[0], hits[-1]
    place = ", ".join(str(int(v)) for v in best["box"])
    return f"{len(hits)} tiles, from {best['score']:.2f} at box ({place}) down to {last['score']:.2f}."


def _index(state: AgentState) -> str:
    return str(len(state.get("steps", [])) + 1)


def spoken_answer(observation: Observation) -> tuple[str, float]:
    """The model's own words in the observation of an open question, and their mean token probability."""
    data: dict[str, Any] = observation.data
    return " ".join(str(data.get("answer", "")).split()).rstrip(". "), float(data.get("probability", 0.0))


def probabilities_in_words(posterior: Posterior, most: int = 3) -> str:
    """The most probable hypotheses: "grade 3 0.81, grade 2 0.15"."""
    return ", ".join(f"{item.name} {item.p:.2f}" for item in ranked(posterior)[:most])


def pool(
    whole: Mapping[str, float] | None,
    regions: Sequence[Mapping[str, float]],
    slide_weight: float,
    region_weight: float,
) -> Posterior | None:
    """Pooled probability of each hypothesis, summing to 1; None where nothing has been scored."""
    if whole is None and not regions:
        return None
    if not regions:
        slide_weight = 1.0
    elif whole is None:
        region_weight = 1.0
    names = list(whole if whole is not None else regions[0])
    logs = []
    for name in names:
        log = slide_weight * _log(whole[name]) if whole is not None else 0.0
        if regions:
            log += region_weight * sum(_log(region[name]) for region in regions) / len(regions)
        logs.append(log)
    top = max(logs)
    weights = [math.exp(log - top) for log in logs]
    total = sum(weights)
    return {name: weight / total for name, weight in zip(names, weights, strict=True)}


def _log(p: float) -> float:
    return math.log(max(p, FLOOR))


def ranked(posterior: Mapping[str, float]) -> list[Ranked]:
    """Most probable first; equal ones in their own order."""
    return sorted((Ranked(*item) for item in posterior.items()), key=lambda item: -item.p)


def margin(posterior: Mapping[str, float]) -> float:
    """Distance between the two leading hypotheses; 1 where there is only one."""
    order = ranked(posterior)
    return order[0].p - order[1].p if len(order) > 1 else 1.0


def shift(before: Mapping[str, float], after: Mapping[str, float]) -> float:
    """Largest change of any hypothesis's probability; a hypothesis that is new comes from 0."""
    return max(abs(p - before.get(name, 0.0)) for name, p in after.items())


def _box(step: Step) -> Box:
    return Box(*step.action.args["box"])
