"""One way to train a stage: transformers' Trainer over batches that are functions of the step.

Batch `i` is computed from the seed and `i` alone. An interrupted stage therefore continues with exactly the
batches it would have seen, and nothing about the data needs saving.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from core_model.errors import RunError
from core_model.tile_encoder import default_device, has_bf16
from training.recipes import Schedule

Batch = dict[str, Any]
LOG = "log.jsonl"
_KEPT = ("loss", "grad_norm", "learning_rate")


class Progress(Protocol):
    """Told how far a step of the recipe is."""

    def __call__(self, name: str, done: int, total: int) -> None:
        """`done` of `total` units of the step called `name` are finished."""


def quiet(name: str, done: int, total: int) -> None:
    """A Progress that shows nothing."""


def fit(
    module: Trainable,
    batch_of: Callable[[int], Batch],
    schedule: Schedule,
    folder: Path,
    *,
    seed: int,
    rates: Mapping[str, float] | None = None,
    resume: bool = False,
    progress: Progress = quiet,
) -> None:
    """Train the parameters of `module` that require gradients; `module(**batch)` returns {"loss": …}.

    `rates` gives parameters whose name begins with a key another learning rate. `folder` receives
    log.jsonl, one line per step, and the Trainer's checkpoints under `trainer/`, from the last whole one
    of which `resume` continues. Raises RunError where the loss is no longer a number.
    """
    from transformers import PrinterCallback, Trainer, set_seed

    set_seed(seed)
    checkpoints = folder / "trainer"
    start = last_whole_checkpoint(checkpoints) if resume else None
    if start is None:
        shutil.rmtree(checkpoints, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    log = _StepLog(folder / LOG, first=_step_of(start), progress=progress, name=folder.name)
    trainer = Trainer(
        model=module,
        args=_arguments(checkpoints, schedule, seed),
        train_dataset=_Batches(batch_of, schedule.steps),
        data_collator=_only_item,
        optimizers=(_optimizer(module, schedule, rates or {}), None),
        callbacks=[log.callback()],
    )
    trainer.remove_callback(PrinterCallback)  # it would print every step on stdout
    trainer.train(resume_from_checkpoint=str(start) if start else None)
    module.eval()
    shutil.rmtree(checkpoints, ignore_errors=True)


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of the Trainer that was written to its end; trainer_state.json comes last."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        try:
            json.loads((path / "trainer_state.json").read_text())
            whole.append(path)
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
    return max(whole, key=_step_of, default=None)


def _step_of(checkpoint: Path | None) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint else 0


class Trainable(nn.Module):
    """Base of what a stage trains: its checkpoints hold only parameters that require gradients.

    Frozen parts lie in the folders of earlier steps already, and would make each checkpoint larger than
    the model.
    """

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Parameters that require gradients, by name."""
        trained = {name for name, p in self.named_parameters() if p.requires_grad}
        state = super().state_dict(*args, **kwargs)
        return {key: value for key, value in state.items() if key in trained}

    @property
    def _keys_to_ignore_on_save(self) -> set[str]:
        """Read by the Trainer: keys that a checkpoint may lack."""
        return set(super().state_dict()) - set(self.state_dict())

    def tie_weights(self) -> None:
        """Called by the Trainer after loading. Loading copies in place, so ties are as they were."""


class _Batches:
    """A dataset whose item `i` is the whole batch of step `i`."""

    def __init__(self, batch_of: Callable[[int], Batch], steps: int) -> None:
        self.batch_of, self.steps = batch_of, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, i: int) -> Batch:
        return self.batch_of(i)


def _only_item(items: list[Batch]) -> Batch:
    """Collates the one batch that the Trainer takes for one sample."""
    (batch,) = items
    return batch


def _optimizer(module: nn.Module, schedule: Schedule, rates: Mapping[str, float]) -> torch.optim.Optimizer:
    """AdamW; biases, norms and other vectors do not decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            rate = next((r for key, r in rates.items() if name.startswith(key)), schedule.learning_rate)
            decay = schedule.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()],
        betas=(0.9, 0.98),
    )


def _arguments(folder: Path, schedule: Schedule, seed: int) -> Any:
    """The schedule in transformers' words; bf16 where the processor has it."""
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(folder),
        max_steps=schedule.steps,
        per_device_train_batch_size=1,
        train_sampling_strategy="sequential",
        learning_rate=schedule.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=int(schedule.warmup * schedule.steps),
        max_grad_norm=1.0,
        bf16=has_bf16(default_device()),
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=schedule.save_every,
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )


class _StepLog:
    """One JSON line per step, on disk at once, so that a killed run can be read too."""

    def __init__(self, path: Path, first: int, progress: Progress, name: str) -> None:
        self.path, self.progress, self.name = path, progress, name
        kept = path.read_text().splitlines()[:first] if path.is_file() else []
        path.write_text("".join(f"{line}\n" for line in kept))
        self.since = time.perf_counter()

    def callback(self) -> Any:
        """This log as a TrainerCallback; the class needs transformers, which is imported late."""
        from transformers import TrainerCallback

        log = self

        class Callback(TrainerCallback):
            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
                if logs and "loss" in logs:
                    log.write(state.global_step, state.max_steps, logs)

        return Callback()

    def write(self, step: int, steps: int, logs: Mapping[str, float]) -> None:
        """Append one line. Raises RunError where training has diverged."""
        if not math.isfinite(logs["loss"]):
            raise RunError(
                f"the loss of {self.name} is {logs['loss']} at step {step}",
                where=self.path,
                fix=f"lower --set {self.name}.schedule.learning_rate",
            )
        now = time.perf_counter()
        row = {"step": step, "seconds": round(now - self.since, 3)}
        row |= {key: round(float(logs[key]), 6) for key in _KEPT if key in logs}
        self.since = now
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.progress(self.name, step, steps)


def needed(part: Any) -> Any:
    """A part that an earlier step must have made."""
    if part is None:
        raise ValueError("a part that an earlier step makes is not loaded")
    return part


def read_log(folder: Path) -> list[dict[str, float]]:
    """The lines of a stage's log."""
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
