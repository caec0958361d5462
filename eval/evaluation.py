"""One evaluation from its benchmark to its page: what is known of it is noted, then asked, then scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from eval.asking.baselines import CONSTANT
from eval.asking.leakage import leakage
from eval.asking.modes import CONDITION_OPTIONS, MODES, model_identity
from eval.asking.results import Result
from eval.asking.runner import EvaluationPlan, ask_all
from eval.asking.slides import Missing
from eval.benchmarks.questions import Benchmark
from eval.scores.scoring import read_about, score_folder, write_about


def run_evaluation(
    plan: EvaluationPlan,
    benchmark: Benchmark,
    source: dict[str, Any],
    resume: bool = False,
    tell: Callable[[Result], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[int, dict[str, Any]]:
    """Ask, score and write everything; returns how many questions the spending limit left, and the summary.

    Raises as `run` does; what was answered until then is kept and can be scored.
    """

    asked_any = any(mode != CONSTANT for mode in plan.modes)
    facts, leaks = source | describe_conditions(plan), _leakage(plan) if asked_any else None

    def note(total: int, missing: list[Missing]) -> None:
        record = read_about(plan.out) if resume else {}
        before = record.get("about", {})
        record["about"] = before | {name: value for name, value in facts.items() if value is not None}
        record["about"]["modes"] = before.get("modes", {}) | facts["modes"]
        record |= {"wanted": total, "unusable": [list(row) for row in benchmark.unusable]}
        if plan.looks:
            questions = Counter(question.slide for question in plan.questions)
            record["missing"] = [
                {"slide": item.slide, "questions": questions[item.slide], "looked_for": item.why}
                for item in missing
            ]
        if leaks is not None:
            record["leakage"] = leaks
        write_about(plan.out, record)

    outcome = ask_all(plan, resume, tell, note)
    return outcome.left, score_folder(plan.out, say)


def describe_conditions(plan: EvaluationPlan) -> dict[str, Any]:
    """The conditions of the figures: which model was asked, how, on what machine, by which versions."""
    import platform
    from importlib.metadata import version

    from agent.run.folder import giant_version
    from eval.bench.measure import hardware

    base_options, alone = plan.base_options, set(plan.modes) <= {CONSTANT}
    model = None if alone else getattr(plan.model, "name", None) or str(plan.model)
    record: dict[str, Any] = {"model": model, "modes": {mode: MODES[mode] for mode in plan.modes}}
    if not alone:
        record["weights"] = model_identity(plan.model)
        facts = {name: getattr(base_options, name) for name in (*CONDITION_OPTIONS, "base_url")}
        record |= {name: value for name, value in facts.items() if name != "votes" or value > 1}
        record |= {"workers": plan.workers, "max_cost": plan.max_cost}
        if "agent" in plan.modes and _chats(plan):
            record["slide_model"] = None if base_options.profile == "giant" else str(plan.slide_model)
    return record | {
        "giant": giant_version(),
        "hardware": hardware(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def _leakage(plan: EvaluationPlan) -> dict[str, Any]:
    consults = _chats(plan) and "agent" in plan.modes and plan.base_options.profile != "giant"
    slide_model = plan.slide_model if consults else None
    return leakage(plan.model, slide_model, (question.slide for question in plan.questions))


def _chats(plan: EvaluationPlan) -> bool:
    from agent.session.request import names_chat_model

    return names_chat_model(plan.model)
