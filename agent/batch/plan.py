"""How every slide of a batch is reported on: which model is asked what, with which budget.

A plan is what the driver sends to each worker, so it names models rather than holding them.
"""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from agent.batch.questions import BUILT_IN, REPORT, Asked
from agent.session.request import LOCAL_MODEL, checked, names_chat_model
from core_model.errors import CheckpointError, GiantError, UsageError


@dataclass(frozen=True)
class Plan:
    """How every slide of a batch is reported on."""

    out: Path
    model: Any = LOCAL_MODEL
    """A name, a checkpoint folder or `provider:name`; in this process also a loaded model."""
    slide_model: Any = LOCAL_MODEL
    """Beside a chat model: the local one that it may consult."""
    questions: tuple[Asked, ...] | None = None
    """None: the built-in list, or of a chat model one report."""
    max_steps: int | None = None
    max_cost: float | None = None
    """USD for each slide; several questions have equal shares of it."""
    seed: int = 0
    mpp: float | None = None
    base_url: str | None = None
    profile: str | None = None
    prices: Path | None = None
    quiet: bool = True
    """Whether warnings of libraries are left out."""

    @property
    def chats(self) -> bool:
        """Whether a chat model answers."""
        return names_chat_model(self.model)

    @property
    def asked(self) -> tuple[Asked, ...]:
        """The questions of every report."""
        return self.questions or ((REPORT,) if self.chats else BUILT_IN)

    def options(self, asked: Asked) -> dict[str, Any]:
        """What `ask` is told beside slide and question, but for models and folder."""
        return {
            "options": asked.options,
            "mpp": self.mpp,
            "mode": "agent" if self.chats else asked.mode,
            "navigator": None,
            "profile": self.profile,
            "votes": 1,
            "max_steps": self.max_steps,
            "max_cost": self.max_cost and self.max_cost / len(self.asked),
            "prices": self.prices,
            "seed": self.seed,
            "resume": True,
            "base_url": self.base_url,
            "bits": None,
        }

    def settings(self) -> dict[str, Any]:
        """Everything that decides what a report says. Raises `UsageError` where it means nothing."""
        models = {"model": self.model, "slide_model": self.slide_model}
        requests = [checked("", a.question, out=None, **models, **self.options(a)) for a in self.asked]
        return {
            "models": [_identity(model) for model in self._models()],
            "seed": self.seed,
            "prices": self.prices and _digest(self.prices, UsageError, "--prices"),
            "questions": [
                {**asked.model_dump(mode="json"), "settings": request.settings.model_dump(mode="json")}
                for asked, request in zip(self.asked, requests, strict=True)
            ],
        }

    def _models(self) -> list[Any]:
        return [self.model, self.slide_model] if self._consults else [self.model]

    @property
    def _consults(self) -> bool:
        """Whether a chat model has a local one beside it; in the faithful profile it has none."""
        return self.chats and self.profile != "giant"

    def check(self, here: bool) -> None:
        """Raise `GiantError` where no slide could be asked about; `here`: by this machine."""
        self.settings()
        if self.chats and here:
            from agent.llm.client import open_chat

            open_chat(self.model, base_url=self.base_url, max_cost=self.max_cost, prices=self.prices)

    def opened(self) -> dict[str, Any]:
        """The models with the local ones loaded, once in each process. Raises `CheckpointError`."""
        if not self.chats:
            return {"model": _loaded(self.model), "slide_model": LOCAL_MODEL}
        beside = _loaded(self.slide_model) if self._consults else self.slide_model
        return {"model": self.model, "slide_model": beside}


def _identity(model: Any) -> dict[str, str]:
    """What tells a model from others, without loading it. Raises `CheckpointError`."""
    if names_chat_model(model):
        from agent.chat import prompts

        said = inspect.getsource(prompts).encode()
        return {"name": str(model), "prompts": hashlib.sha256(said).hexdigest()[:16]}
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
        raise kind(f"cannot be read ({error.strerror})", where=path, fix=f"Check {option}") from error


def _loaded(model: Any) -> Any:
    """A local model, loaded once in each process."""
    return _from_disk(str(model)) if isinstance(model, str | Path) else model


@cache
def _from_disk(model: str) -> Any:
    from core_model import load_model

    return load_model(model)
