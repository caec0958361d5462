"""One evaluation from its benchmark to its page: what is known of it is noted, then asked, then scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from eval.asking.baselines import CONSTANT
from eval.asking.leakage import leakage
from eval.asking.modes import MODES, identity
from eval.asking.results import Result
from eval.asking.runner import Plan, run
from eval.asking.slides import Missing
from eval.benchmarks.questions import Benchmark
from eval.scores.scoring import read_about, score, write_about


def evaluated(
    plan: Plan,
    benchmark: Benchmark,
    about: dict[str, Any],
    resume: bool = False,
    tell: Callable[[Result], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[int, dict[str, Any]]:
    """Ask, score and write everything; returns how many questions the spending limit left, and the summary.

    Raises as `run` does; what was answered until then is kept and can be scored.
    """

    asked_any = any(mode != CONSTANT for mode in plan.modes)
    now, leaks = about | described(plan), _leakage(plan) if asked_any else None

    def note(wanted: int, missing: list[Missing]) -> None:
        known = read_about(plan.out) if resume else {}
        before = known.get("about", {})
        known["about"] = before | {name: value for name, value in now.items() if value is not None}
        known["about"]["modes"] = before.get("modes", {}) | now["modes"]
        known |= {"wanted": wanted, "unusable": [list(row) for row in benchmark.unusable]}
        if plan.looks:
            questions = Counter(question.slide for question in plan.questions)
            known["missing"] = [
                {"slide": one.slide, "questions": questions[one.slide], "looked_for": one.why}
                for one in missing
            ]
        if leaks is not None:
            known["leakage"] = leaks
        write_about(plan.out, known)

    outcome = run(plan, resume, tell, note)
    return outcome.left, score(plan.out, say)


def described(plan: Plan) -> dict[str, Any]:
    """What the figures must be read with: who was asked, how, on what machine, by which versions."""
    import platform
    from importlib.metadata import version

    from agent.run.folder import giant_version
    from eval.bench.measure import hardware

    budget, alone = plan.budget, set(plan.modes) <= {CONSTANT}
    model = None if alone else getattr(plan.model, "name", None) or str(plan.model)
    asked: dict[str, Any] = {"model": model, "modes": {mode: MODES[mode] for mode in plan.modes}}
    if not alone:
        asked["weights"] = identity(plan.model)
        asked |= {name: value for name, value in vars(budget).items() if name != "votes" or value > 1}
        asked |= {"workers": plan.workers, "max_cost": plan.max_cost}
        if "agent" in plan.modes and _chats(plan):
            asked["slide_model"] = None if budget.profile == "giant" else str(plan.slide_model)
    return asked | {
        "giant": giant_version(),
        "hardware": hardware(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def _leakage(plan: Plan) -> dict[str, Any]:
    consults = _chats(plan) and "agent" in plan.modes and plan.budget.profile != "giant"
    beside = plan.slide_model if consults else None
    return leakage(plan.model, beside, (question.slide for question in plan.questions))


def _chats(plan: Plan) -> bool:
    from agent.session.request import names_chat_model

    return names_chat_model(plan.model)
