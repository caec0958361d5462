"""The plan of a batch: which model is asked which questions, with which budget.

A plan is what the driver sends to each worker, so it names models rather than holding them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from agent.batch.questions import BUILT_IN, REPORT, ReportQuestion
from agent.session.options import LOCAL_MODEL, AskOptions
from agent.session.request import checked, names_chat_model
from core_model.errors import CheckpointError, GiantError, UsageError


@dataclass(frozen=True)
class BatchPlan:
    """Model, questions and budget for every slide of a batch."""

    out: Path
    ask: AskOptions = field(default_factory=AskOptions)
    """How each question is put: model, server, seed, µm/px, most looks. `max_cost` is for each slide; several
    questions have equal shares of it."""
    questions: tuple[ReportQuestion, ...] | None = None
    """None: the built-in list, or of a chat model one report."""
    quiet: bool = True
    """Whether warnings of libraries are left out."""

    @property
    def isolates(self) -> bool:
        """Whether a child process reads each slide: yes, unless the user vouches for them."""
        return self.ask.isolate is not False

    @property
    def chats(self) -> bool:
        """Whether a chat model answers."""
        return names_chat_model(self.ask.model)

    @property
    def report_questions(self) -> tuple[ReportQuestion, ...]:
        """The questions of every report."""
        return self.questions or ((REPORT,) if self.chats else BUILT_IN)

    def options(self, question: ReportQuestion) -> AskOptions:
        """The options of one question, without its run folder."""
        return replace(
            self.ask,
            options=question.options,
            mode="agent" if self.chats else question.mode,
            max_cost=self.ask.max_cost and self.ask.max_cost / len(self.report_questions),
            resume=True,
        )

    def settings(self) -> dict[str, Any]:
        """Everything that decides what a report says. Raises `UsageError` where the options contradict."""
        prices = self.ask.prices
        return {
            "models": [_identity(model) for model in self._models()],
            "seed": self.ask.seed,
            "prices": prices and _digest(Path(prices), UsageError, "--prices"),
            "questions": [
                {
                    **question.model_dump(mode="json"),
                    "settings": checked("", question.question, self.options(question)).settings.model_dump(
                        mode="json"
                    ),
                }
                for question in self.report_questions
            ],
        }

    def _models(self) -> list[Any]:
        return [self.ask.model, self.ask.slide_model] if self._consults else [self.ask.model]

    @property
    def _consults(self) -> bool:
        """Whether a chat model has a local one beside it; in the faithful profile it has none."""
        return self.chats and self.ask.profile != "giant"

    def check(self, locally: bool) -> None:
        """Raise `GiantError` where no slide could be asked about; `locally`: by this machine."""
        self.settings()
        if self.chats and locally:
            from agent.llm.client import open_chat

            prices = self.ask.prices
            open_chat(
                self.ask.model,
                base_url=self.ask.base_url,
                max_cost=self.ask.max_cost,
                prices=Path(prices) if prices is not None else None,
            )

    def opened(self) -> BatchPlan:
        """The plan with its local models loaded, once in each process. Raises `CheckpointError`."""
        if not self.chats:
            return replace(self, ask=replace(self.ask, model=_loaded(self.ask.model)))
        if not self._consults:
            return self
        return replace(self, ask=replace(self.ask, slide_model=_loaded(self.ask.slide_model)))


def _identity(model: Any) -> dict[str, str]:
    """The identity of a model, found without loading it. Raises `CheckpointError`."""
    if names_chat_model(model):
        from agent.chat import prompts

        return {"name": str(model), "prompts": prompts.prompts_digest()[:16]}
    if isinstance(model, str | Path):
        from core_model.models.tile_encoders import MINI

        folder = MINI if str(model) == LOCAL_MODEL else Path(model)
        return {"weights": _digest(folder / "manifest.json", CheckpointError, "--model")}
    from agent.session.models import fingerprint

    return {"weights": fingerprint(model)}


def _digest(path: Path, kind: type[GiantError], option: str) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise kind(
            f"this file cannot be read ({error.strerror})", where=path, fix=f"Check {option}"
        ) from error


def _loaded(model: Any) -> Any:
    """A local model, loaded once in each process."""
    return _from_disk(str(model)) if isinstance(model, str | Path) else model


@cache
def _from_disk(model: str) -> Any:
    from core_model.models.wsi_llava import load_model

    return load_model(model)
