"""A script for several processes: runs stages of the tiny recipe as its jobs say.

    python -m torch.distributed.run --standalone --nproc-per-node 2 several.py OUT JOBS

JOBS is a JSON list. Every job leaves OUT/<name>/<stage>/log.jsonl and, of each process, the model's tensors
after each stage in OUT/<name>/<stage>_<rank>.pt.
"""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
from pathlib import Path
from typing import Any

import torch

STAGES = ("stage1", "stage2", "stage3")
POOLS: dict[int, Any] = {}


def recipe_of(job: dict[str, Any], tiny: Any) -> Any:
    """The tiny recipe in float32, without dropout unless the job wants it."""
    kept = ("zero", "micro_batch", "recompute", "precision", "offload")
    changes = {"steps": 6, "save_every": 2, "precision": "float32"} | {k: job[k] for k in kept if k in job}
    update: dict[str, Any] = {}
    for stage in STAGES:
        settings = getattr(tiny, stage)
        update[stage] = settings.model_copy(update={"schedule": settings.schedule.model_copy(update=changes)})
    if not job.get("dropout"):
        update["alignment"] = tiny.alignment.model_copy(update={"dropout": 0.0})
        update["stage3"] = update["stage3"].model_copy(update={"dropout": 0.0})
    return tiny.model_copy(update=update)


def run(job: dict[str, Any], world: Any, out: Path) -> None:
    """Do one job. With `stuck_at` it never gets beyond that micro-batch."""
    from core_model.checkpoints.parts import new_model
    from training.engine import ranks
    from training.stages.align import align
    from training.stages.alignments import AlignmentData
    from training.stages.conversations import SampleBatches
    from training.stages.instruct import instruct
    from training.stages.pool import make_pool
    from training.stages.project import project

    recipe = recipe_of(job, world.recipe)

    def fresh() -> Any:
        return new_model(recipe.model.for_tokenizer(world.tokenizer), world.tokenizer, seed=1)

    if "stuck_at" in job:
        get_stuck(AlignmentData, job["stuck_at"])
        get_stuck(SampleBatches, job["stuck_at"])
    parts, folder, resume = fresh(), out / job["name"], bool(job.get("resume"))
    if id(world) not in POOLS:
        POOLS[id(world)] = make_pool(fresh(), world.cohort, world.features, recipe)
    pool = POOLS[id(world)]
    for stage in job.get("stages", STAGES):
        if stage == "stage1":
            align(parts, world.cohort, world.features, recipe, folder / stage, resume=resume)
        else:
            work = project if stage == "stage2" else instruct
            work(parts, world.cohort, pool, recipe, folder / stage, resume=resume)
        state = {f"{part}.{key}": v for part, tensors in parts.states().items() for key, v in tensors.items()}
        torch.save(state, folder / f"{stage}_{ranks.rank()}.pt")


def get_stuck(batches: Any, at: int) -> None:
    """Asked for batch `at`, these batches wait for the end."""
    whole = batches.batch

    def batch(self: Any, number: int) -> Any:
        if number >= at:
            signal.pause()
        return whole(self, number)

    batches.batch = batch


def small_world() -> Any:
    """The world of conftest.py."""
    spec = importlib.util.spec_from_file_location("world", Path(__file__).parents[1] / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["world"] = module
    spec.loader.exec_module(module)
    return module.make_world()


def main(out: Path, jobs: list[dict[str, Any]]) -> None:
    from training.engine import ranks, zero

    zero.SMALL = 500  # else ZeRO-3 would leave a tiny model whole
    torch.set_num_threads(1)
    ranks.join()
    world = small_world()
    for job in jobs:
        run(job, world, out)
    ranks.wait()
    ranks.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
