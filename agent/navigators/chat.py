"""The navigator that any large multimodal model drives: it asks the model where to look and what it sees.

In the profile "survey" a first round of looks is chosen without the model and shown to it in one call; from
then on it navigates with all five tools to decide between the answers that remain, and a second look with
fresh eyes ends the run. The profile "giant" is the loop as published: overview, crops by level-0 box, answer.

Whatever the model says, the run stays within its steps and its money and ends in an answer of the agreed
form: faults are told back, a model that turns in circles is told to answer, and what no repair makes usable
becomes an abstention that says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.chat import prompts
from agent.chat.conclude import MOST_DECLINED, conclude, limit_reached
from agent.chat.plans import refusal
from agent.chat.regions import frame_px, profile_of, tool_words
from agent.chat.review import reviewed
from agent.chat.schemas import tool_definitions
from agent.chat.sight import with_sight
from agent.chat.talk import Talk
from agent.chat.turns import PATIENCE, ChatTurn
from agent.graph.state import Decided, Draft, Stop, Weighed, steps_of
from agent.llm.client import OverBudget
from agent.navigators.survey import MOST, survey
from agent.run.records import Action, Answer

if TYPE_CHECKING:
    from agent.graph.state import AgentContext, AgentState
    from tools.records import Observation


class ChatNavigator:
    """Driven by the run's chat model."""

    name = "chat"
    starts_wide = True

    def __init__(self, profile: str | None = "survey") -> None:
        self.survey = profile != "giant"
        self.reads_features = self.survey
        """The survey and the slide model's tools need the features of the tiles; crops alone do not."""

    def decide(self, state: AgentState, context: AgentContext) -> Decided:
        """The next look: of those already decided on, of the survey, or the model's own."""
        steps = steps_of(state)
        if not steps:  # with a budget of one step it was not taken yet
            return Decided(Action(tool="overview", reason="The only look that the budget allows."))
        if len(steps) >= state["max_steps"]:
            return Decided(Stop(f"the budget of {len(steps)} step{'s' * (len(steps) != 1)} is spent"))
        queue = [Action.model_validate(action) for action in state.get("queue", [])]
        if queue:
            return self._first(queue, {}, state, context)
        if self.survey and not state.get("turns"):
            return self._survey(state, context)
        return self._ask(state, context)

    def weigh(
        self, state: AgentState, context: AgentContext, action: Action, observation: Observation
    ) -> Weighed:
        """What the tool said, until the model has seen the image and says it in its own words."""
        return Weighed(tool_words(observation), {})

    def compose(self, state: AgentState, context: AgentContext, problems: list[str]) -> Draft:
        """The model's answer, asked for where it has given none; put right once where it cannot stand."""
        return conclude(Talk(state, context, self.survey), problems, state.get("stop") or "")

    def review(self, state: AgentState, context: AgentContext, answer: Answer) -> Answer:
        """The answer after a second look with fresh eyes; abstentions, and the published loop, have none."""
        if self.survey and not answer.abstained:
            answer = reviewed(state, context, answer)
        return with_sight(answer, context.journal)

    def _survey(self, state: AgentState, context: AgentContext) -> Decided:
        """Look at different places at low power, without asking the model. The plan is kept as a turn."""
        profile, count = profile_of(context), len(state["steps"])
        most = min(MOST, (state["max_steps"] - count) // 2, profile.max_images - 1)
        looks = survey(context, max(0, most), frame_px(profile, survey=True))
        turn = ChatTurn(name=f"{0:03d}-survey", before=count, planned=True).model_dump(mode="json")
        if not looks:
            decision = self._ask({**state, "turns": [turn]}, context)
            turns = [turn, *decision.updates.get("turns", [])]
            return Decided(decision.next, {**decision.updates, "turns": turns})
        return self._first(looks, {"turns": [turn]}, state, context)

    def _ask(self, state: AgentState, context: AgentContext) -> Decided:
        """Ask the model until it makes a call or answers; not longer than its patience with it lasts."""
        talk = Talk(state, context, self.survey)
        profile = talk.profile
        boxes = profile.boxes if self.survey else "level0"
        tools = tool_definitions(self.survey, boxes, talk.options, frame_px(profile, self.survey))
        while True:
            if talk.barren >= PATIENCE:
                return Decided(Stop(f"{PATIENCE} turns in a row brought nothing new"), talk.updates)
            if len(talk.declined) >= MOST_DECLINED:
                return Decided(Stop("the model declined"), talk.updates)
            try:
                turn = talk.say("decide", self._ending(talk), tools)
            except OverBudget:
                return Decided(Stop(limit_reached(talk)), talk.updates)
            if turn.final is not None:
                return Decided(Stop("the model answered"), talk.updates)
            looks = [call.action for call in turn.calls if call.action is not None]
            if looks:
                return self._first(looks, talk.updates, state, context)

    def _ending(self, talk: Talk) -> str:
        """What to do now: after the survey to take it in as a whole, later to go on."""
        words = [] if talk.profile.parallel_calls else [prompts.ONE_CALL]
        is_first_call = all(turn.planned for turn in talk.turns)
        count = len(talk.steps) - 1
        if self.survey and is_first_call and count:
            return " ".join([prompts.SURVEY.format(count=count), *words])
        return " ".join([prompts.GO_ON, *words])

    def _first(
        self, looks: list[Action], updates: dict[str, Any], state: AgentState, context: AgentContext
    ) -> Decided:
        """Make the first of the looks now, or refuse it, and keep the others for the steps to come."""
        first, rest = looks[0], [action.model_dump(mode="json") for action in looks[1:]]
        changes = {**updates, "queue": rest}
        observation = refusal(first, state, context, steps_of(state), self.survey)
        if observation is not None:
            changes["observed"] = {"observation": observation.model_dump(mode="json"), "seconds": 0.0}
        return Decided(first, changes)
