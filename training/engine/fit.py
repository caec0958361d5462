"""One way to train a stage: transformers' Trainer over batches that are functions of the step.

Batch `i` is computed from the seed and `i` alone. An interrupted stage therefore continues with exactly the
batches it would have seen, and nothing about the data needs saving. The same code trains in one process, in
several that hold the whole model each (DDP), and in several that share it (DeepSpeed's ZeRO).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from training.engine import ranks, zero
from training.engine.resume import CheckpointLayout, checkpoint_for, last_whole_checkpoint, step_of
from training.engine.step_log import LOG, StageProgress, StepLog, quiet, read_log
from training.settings import Schedule

__all__ = [
    "LOG",
    "FitOptions",
    "StageBatch",
    "StageProgress",
    "Trainable",
    "fit",
    "last_whole_checkpoint",
    "quiet",
    "read_log",
    "require_part",
]

StageBatch = dict[str, Any]
CHECKPOINTS = "trainer"


class FitOptions(TypedDict, total=False):
    """The options of `fit` that a stage hands through."""

    resume: bool
    progress: StageProgress


class Trainable(nn.Module):
    """Base of what a stage trains: its checkpoints hold only parameters that require gradients.

    Frozen parts lie in the folders of earlier steps already, and would make each checkpoint larger than
    the model.
    """

    uses_all = True
    """Whether the loss depends on every trained parameter; DDP has to look for those that it does not."""

    def trained(self) -> dict[str, nn.Parameter]:
        """Parameters that require gradients, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Tensors of `trained`, by name."""
        names = self.trained()
        state = super().state_dict(*args, **kwargs)
        return {key: value for key, value in state.items() if key in names}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Take over the tensors of `trained`; the others stay. `strict`: they must all be there."""
        result = super().load_state_dict(state_dict, strict=False, assign=assign)
        if strict and (wrong := set(state_dict) ^ set(self.trained())):
            raise RuntimeError(f"tensors missing or unexpected: {', '.join(sorted(wrong))}")
        return result

    @property
    def _keys_to_ignore_on_save(self) -> set[str]:
        """Read by the Trainer: keys that a checkpoint may lack."""
        return set(super().state_dict()) - set(self.state_dict())

    def tie_weights(self) -> None:
        """Called by the Trainer after loading. Loading copies in place, so ties are as they were."""


def fit(
    module: Trainable,
    batch_of: Callable[[int], StageBatch],
    schedule: Schedule,
    folder: Path,
    *,
    seed: int,
    parts: int = 1,
    rates: Mapping[str, float] | None = None,
    resume: bool = False,
    progress: StageProgress = quiet,
) -> dict[str, Tensor]:
    """Train the parameters of `module` that require gradients; `module(**batch)` returns {"loss": …}.

    A step takes `parts` micro-batches: `batch_of(k)` is this process's share of the k-th. The mean of
    their losses over parts and processes must be the loss of the step. `rates` gives parameters whose name
    begins with a key another learning rate.

    `folder`, which all processes must see, receives log.jsonl, one line per step, and the Trainer's
    checkpoints under `trainer/`, from the last whole one of which `resume` continues. Every process is left
    with the whole trained module, and gets the trained tensors by name: float32, on the CPU. Raises
    RunError where the loss is no longer a number, and where a checkpoint was left by other processes.
    """
    zero.prepare_engine(schedule)
    from transformers import set_seed

    set_seed(seed)
    layout = CheckpointLayout(ranks.world(), schedule.zero)
    start = ranks.from_main(partial(_prepare, folder, layout, resume))
    device = next(module.parameters()).device
    for parameter in module.trained().values():
        parameter.data = parameter.data.float()
    with zero.deepspeed_of(schedule):
        trainee = zero.twin(module) if schedule.zero else module
        log = StepLog(folder, step_of(start), progress) if ranks.is_main() else None
        trainer = _trainer(trainee, batch_of, schedule, folder, seed, parts, rates or {}, log)
        if ranks.rank():
            set_seed(seed + ranks.rank())  # each process drops out other numbers
        trainer.train(resume_from_checkpoint=str(start) if start else None)
        tensors = zero.whole_tensors(trainee.trained(), module.trained())
        if log is not None:
            log.close()
        trainer.accelerator.free_memory()
        del trainer, trainee
    module.to(device).load_state_dict(tensors)
    module.eval()
    ranks.from_main(partial(shutil.rmtree, folder / CHECKPOINTS, ignore_errors=True))
    return tensors


def _trainer(
    module: Trainable,
    batch_of: Callable[[int], StageBatch],
    schedule: Schedule,
    folder: Path,
    seed: int,
    parts: int,
    rates: Mapping[str, float],
    log: StepLog | None,
) -> Any:
    from training.engine.trainer import StageTrainer

    return StageTrainer(
        folder=folder,
        layout=CheckpointLayout(ranks.world(), schedule.zero),
        step_log=log,
        make_optimizer=partial(_optimizer, module, schedule, rates),
        model=module,
        args=_arguments(folder / CHECKPOINTS, schedule, seed, parts, module.uses_all),
        train_dataset=_Batches(batch_of, schedule.steps * parts),
        data_collator=_only_item,
    )


def _prepare(folder: Path, layout: CheckpointLayout, resume: bool) -> Path | None:
    """The checkpoint to begin with, in a folder that is ready to be written to."""
    folder.mkdir(parents=True, exist_ok=True)
    start = checkpoint_for(folder / CHECKPOINTS, layout) if resume else None
    if start is None:
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return start


class _Batches:
    """A dataset of the micro-batches of all processes in turn, of which the Trainer takes each its own."""

    def __init__(self, batch_of: Callable[[int], StageBatch], count: int) -> None:
        self.batch_of, self.count, self.world = batch_of, count, ranks.world()

    def __len__(self) -> int:
        return self.count * self.world

    def __getitem__(self, i: int) -> StageBatch:
        return self.batch_of(i // self.world)


def _only_item(items: list[StageBatch]) -> StageBatch:
    """Collates the one batch that the Trainer takes for one sample."""
    (batch,) = items
    return batch


def _optimizer(module: Trainable, schedule: Schedule, rates: Mapping[str, float]) -> torch.optim.Optimizer:
    """AdamW; biases, norms and other vectors do not decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.trained().items():
        rate = next((r for key, r in rates.items() if name.startswith(key)), schedule.learning_rate)
        decay = schedule.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()],
        betas=(0.9, schedule.beta2),
    )


def _arguments(folder: Path, schedule: Schedule, seed: int, parts: int, uses_all: bool) -> Any:
    """The schedule in transformers' words."""
    from transformers import TrainingArguments

    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=schedule.steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=parts,
        train_sampling_strategy="sequential",
        learning_rate=schedule.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=int(schedule.warmup * schedule.steps),
        max_grad_norm=zero.CLIP,
        bf16=zero.is_bf16(schedule),
        ddp_find_unused_parameters=not uses_all,
        deepspeed=zero.zero_config(schedule, ranks.world(), parts) if schedule.zero else None,
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
        dataloader_num_workers=schedule.workers,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # more would make the Trainer cut up batches by itself
    return arguments


def require_part(part: Any) -> Any:
    """A part that an earlier step must have made."""
    if part is None:
        raise ValueError("a part that an earlier step makes is not loaded")
    return part
