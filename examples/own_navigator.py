"""Your own rule for where to look: ask about the whole slide, then about its three largest pieces of tissue.

A navigator decides the next look, weighs what was seen, and composes the answer. This one decides itself and
leaves the rest to the search navigator that it inherits from.

`agent.ask` takes no navigator of yours, so the run is put together here from the parts that `agent.ask` uses.
These are internal and may move. `giant replay` cannot follow such a run, since it does not know your rule.

    python examples/own_navigator.py slide.tiff "What is the diagnosis?" run
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from agent.graph.follow import follow
from agent.graph.state import AgentContext, AgentState, Decided, Meter, Stop
from agent.navigators.search import SearchNavigator
from agent.run.folder import open_run
from agent.run.journal import Journal
from agent.run.records import Action, Answer
from agent.session.ask import open_toolbox
from agent.session.models import described, frame_for, opened, run_record
from agent.session.options import AskOptions
from agent.session.request import checked

PIECES = 3


class LargestPieces(SearchNavigator):
    """Asks about the whole slide, then about the largest pieces of tissue, the largest first."""

    name = "largest-pieces"

    def decide(self, state: AgentState, context: AgentContext) -> Decided:
        """The next look, from the number of questions already asked: a killed run decides the same again."""
        pieces = sorted(context.tissue.boxes(), key=lambda box: box.area, reverse=True)[:PIECES]
        boxes = [context.slide.box, *pieces]
        asked = sum(step["action"]["tool"] == "ask_region" for step in state["steps"])
        if asked == len(boxes) or len(state["steps"]) >= state["max_steps"]:
            return Decided(Stop("the whole slide and its largest pieces were asked about"))
        arguments = {
            "box": list(boxes[asked]),
            "question": state["question"],
            "options": state.get("options"),
        }
        return Decided(Action(tool="ask_region", args=arguments, reason="Ask about the next largest piece."))


def main(path: str, question: str, out: str) -> Answer:
    """Run the navigator on a slide; return the answer."""
    start, folder = time.perf_counter(), Path(out)
    with ExitStack() as stack:
        request = opened(checked(path, question, AskOptions(out=folder)), stack)
        slide: Any = request.slide  # open by now
        model = request.model
        tools = open_toolbox(slide, model, folder, None, frame_for(request))
        record = run_record(request, described(slide, tools.tissue.area_mm2))
        settings = record.settings.model_copy(update={"navigator": LargestPieces.name})
        record = record.model_copy(update={"settings": settings})
        with open_run(folder, record, resume=False) as record:
            context = AgentContext(
                slide=slide,
                model=model,
                toolbox=tools,
                navigator=LargestPieces(),
                folder=folder,
                mode="agent",
                meter=Meter(model, start),
                journal=Journal(folder),
                name=record.model.name,
                run_id=record.id,
            )
            *_, answer = follow(record, context)
    assert isinstance(answer, Answer)
    print(answer.answer)
    return answer


if __name__ == "__main__":
    main(*sys.argv[1:4])
