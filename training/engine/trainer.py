"""transformers' Trainer as a stage needs it. Imported late: transformers is slow to import.

The Trainer is made for batches of samples that it divides itself, and for checkpoints of whole models. Here
a process is given its share of every batch, and a checkpoint holds what is trained.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PrinterCallback, Trainer

from training.engine import ranks
from training.engine.resume import CheckpointLayout
from training.engine.step_log import COUNTS, StepLog, refuse_divergence


class StageTrainer(Trainer):
    """transformers' Trainer for one stage: batches as they are given, checkpoints of what is trained."""

    def __init__(
        self,
        *,
        folder: Path,
        layout: CheckpointLayout,
        step_log: StepLog | None,
        make_optimizer: Callable[[], torch.optim.Optimizer],
        **kwargs: Any,
    ) -> None:
        """`folder` is the stage's; `step_log` is the main process's alone."""
        super().__init__(**kwargs)
        self.folder, self.layout, self.step_log = folder, layout, step_log
        self.make_optimizer = make_optimizer
        self.counts: dict[str, int] = {}
        self.remove_callback(PrinterCallback)  # it would print every step on stdout

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The stage's own optimizer, made before DeepSpeed divides the parameters, whose shapes it reads."""
        if self.optimizer is None:
            self.optimizer = self.make_optimizer()
        return self.optimizer

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """One micro-batch, after taking out of it what is only for the log."""
        self.counts = inputs.pop(COUNTS, {})
        return super().training_step(model, inputs, *args, **kwargs)

    def _prepare_input(self, data: Any) -> Any:
        """Move to the device, nothing else: bfloat16 would move tiles to another place on the slide."""
        if isinstance(data, torch.Tensor):
            return data.to(self.args.device)
        return super()._prepare_input(data)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The figures of a step, the same in every process; all of them end where training has diverged."""
        super().log(logs, start_time)
        if "loss" not in logs:  # the summary at the end
            return
        refuse_divergence(logs["loss"], self.state.global_step, self.folder)
        if self.step_log is not None:
            self.step_log.write(self.state.global_step, self.state.max_steps, logs, self.counts)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """DeepSpeed's checkpoint holds the weights already."""
        if not self.is_deepspeed_enabled:
            super().save_model(output_dir, _internal_call)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Save what the Trainer saves; DeepSpeed's checkpoint leaves out frozen weights too."""
        if not self.is_deepspeed_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        engine, scheduler = self.model_wrapped, self.lr_scheduler  # type: Any, Any
        engine.save_checkpoint(output_dir, exclude_frozen_parameters=True)
        if self.args.should_save:
            torch.save(scheduler.state_dict(), Path(output_dir) / "scheduler.pt")

    def _save_rng_state(self, output_dir: str) -> None:
        """The last file of each process; when all have written theirs, trainer_state.json says so."""
        super()._save_rng_state(output_dir)
        if ranks.is_main():
            self.layout.write(Path(output_dir))
        ranks.wait()
