"""What one observation says about the question, pooled with what was heard before.

Closed questions: the hypotheses are the options, and each place gives a probability to each. Open questions:
the hypotheses are what the model itself said of the slide or of a region; when it says something new, every
place asked so far is scored again, so that all hypotheses are compared at all places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.graph.context import Weighed
from agent.graph.state import steps_of
from agent.navigators.looks import Looks
from agent.navigators.posterior import Posterior, pool, ranked
from agent.text import first_sentences, same_words
from core_model.slides.box import Box

if TYPE_CHECKING:
    from agent.graph.context import AgentContext
    from agent.graph.state import AgentState
    from agent.run.records import Action
    from tools.records import Observation

MAX_HYPOTHESES = 6
"""Answers compared for an open question; what is said after these is heard and not added."""
Scores = dict[str, dict[str, float]]


def weigh(state: AgentState, context: AgentContext, action: Action, observation: Observation) -> Weighed:
    """The finding of a step, and the state fields it changes."""
    if not observation.ok:
        return Weighed(f"Nothing was seen: {observation.text}", {})
    if action.tool == "retrieve":
        return Weighed(_found(observation), {})
    if action.tool != "ask_region":
        return Weighed(first_sentences(observation.text), {})
    if state.get("options"):
        return _closed(state, context, observation)
    return _open(state, context, action, observation)


def _closed(state: AgentState, context: AgentContext, observation: Observation) -> Weighed:
    here = {str(name): float(p) for name, p in observation.data["options"].items()}
    scores = {**state.get("scores", {}), _index(state): here}
    updates = {"hypotheses": list(here), "scores": scores, "posterior": _pooled(scores, state, context)}
    return Weighed(f"Here: {in_words(here)}.", updates)


def _open(state: AgentState, context: AgentContext, action: Action, observation: Observation) -> Weighed:
    text, p = spoken(observation)
    hypotheses, said = list(state.get("hypotheses", [])), dict(state.get("said", {}))
    name = next((known for known in hypotheses if same_words(known, text)), text)
    if name and name not in hypotheses and len(hypotheses) < MAX_HYPOTHESES:
        hypotheses.append(name)
    if not hypotheses:
        return Weighed("The model gave no answer here.", {})
    if name in hypotheses:
        said[name] = max(said.get(name, 0.0), p)
    known_scores = state.get("scores", {}) if hypotheses == state.get("hypotheses") else {}
    scores = _score(known_scores, hypotheses, state, context, Box(*action.args["box"]))
    updates = {
        "hypotheses": hypotheses,
        "said": said,
        "scores": scores,
        "posterior": _pooled(scores, state, context),
    }
    heard = f"Here the model says “{text}” ({p:.2f} per token)" if text else "Here the model says nothing"
    # Of one hypothesis the share is 1 by construction: it would only look like certainty.
    shares = f"; {in_words(scores[_index(state)])}" if len(hypotheses) > 1 else ""
    return Weighed(f"{heard}{shares}.", updates)


def _score(
    known: Scores, hypotheses: list[str], state: AgentState, context: AgentContext, box: Box
) -> Scores:
    """Probability of each hypothesis at each place asked, the present one included."""
    asked = Looks(steps_of(state), context.slide.box).answered()
    places = {str(step.index): Box(*step.action.args["box"]) for step in asked} | {_index(state): box}
    if len(hypotheses) == 1:
        return {index: {hypotheses[0]: 1.0} for index in places}
    missing = [index for index in places if index not in known]
    rows = context.journal.once(
        "scores", f"{int(_index(state)):04d}", lambda: _rows(missing, places, hypotheses, state, context)
    )
    new = {index: dict(zip(hypotheses, row, strict=True)) for index, row in zip(missing, rows, strict=True)}
    return {index: known[index] if index in known else new[index] for index in places}


def _rows(
    missing: list[str],
    places: dict[str, Box],
    hypotheses: list[str],
    state: AgentState,
    context: AgentContext,
) -> list[list[float]]:
    """What the model gives each hypothesis at each of the `missing` places, as plain numbers."""
    features = context.toolbox.features
    parts = [
        features if places[index] == context.slide.box else features.inside(places[index])
        for index in missing
    ]
    rows = context.model.score_options_many(parts, state["question"], hypotheses)  # (missing, hypotheses)
    return [[float(p) for p in row] for row in rows]


def _pooled(scores: Scores, state: AgentState, context: AgentContext) -> Posterior | None:
    """Pool the whole slide's scores with the regions'. A score whose step is not recorded yet is this one."""
    whole = Looks(steps_of(state), context.slide.box).whole
    whole_index = str(whole.index) if whole is not None else _index(state)
    regions = [scores[index] for index in sorted(scores, key=int) if index != whole_index]
    weights = context.weights
    return pool(scores.get(whole_index), regions, weights.slide, weights.region)


def _found(observation: Observation) -> str:
    hits = observation.data["hits"]
    best, last = hits[0], hits[-1]
    place = ", ".join(str(int(v)) for v in best["box"])
    return f"{len(hits)} tiles, from {best['score']:.2f} at box ({place}) down to {last['score']:.2f}."


def _index(state: AgentState) -> str:
    return str(len(state.get("steps", [])) + 1)


def spoken(observation: Observation) -> tuple[str, float]:
    """The model's own words in an open observation, and their mean token probability."""
    data: dict[str, Any] = observation.data
    return " ".join(str(data.get("answer", "")).split()).rstrip(". "), float(data.get("probability", 0.0))


def in_words(posterior: Posterior, most: int = 3) -> str:
    """ "grade 3 0.81, grade 2 0.15"."""
    return ", ".join(f"{item.name} {item.p:.2f}" for item in ranked(posterior)[:most])
