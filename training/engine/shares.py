"""The division of a batch among processes and into micro-batches: every sample once, nobody idle.

The batch of a step is the same whatever the number of processes; all of them know all of it and compute
their share.

Letters: W processes, B regions of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from training.engine import ranks

Item = TypeVar("Item")
Calls = list[list[int]]
"""Positions in the batch that a process computes, call by call."""


@dataclass(frozen=True)
class BatchShare:
    """Which part of every batch this process computes."""

    rank: int = 0
    world: int = 1
    micro_batch: int | None = None
    """Samples at a time; None: all of the process's."""

    @classmethod
    def here(cls, micro_batch: int | None = None) -> BatchShare:
        """The share of the process that asks."""
        return cls(ranks.rank(), ranks.world(), micro_batch)

    def parts(self, batch: int) -> int:
        """Micro-batches per step: as many for every process."""
        per_process = -(-batch // self.world)
        return -(-per_process // min(self.micro_batch or per_process, per_process))

    def of(self, batch: Sequence[Item], part: int) -> list[Item]:
        """This process's samples of one micro-batch; none where a batch does not divide evenly.

        Neighbours go to different processes, so that samples sorted by length take all of them equally
        long.
        """
        at_once = -(-len(batch) // (self.parts(len(batch)) * self.world)) * self.world
        return list(batch[part * at_once : (part + 1) * at_once][self.rank :: self.world])

    def rows(self, count: int) -> list[int]:
        """This process's rows of `count`, as many for every process: some may be asked for twice."""
        most = -(-count // self.world)
        return [i if i < count else 0 for i in range(self.rank, most * self.world, self.world)]

    def places_of_rows(self, count: int) -> list[int]:
        """The place of each row once the `rows` of all processes have been gathered."""
        most = -(-count // self.world)
        return [i % self.world * most + i // self.world for i in range(count)]


ALONE = BatchShare()
"""All of every batch, at once."""


def deal(counts: Sequence[int], lengths: Sequence[int], share: BatchShare) -> list[Calls]:
    """Calls of every process for groups of regions of one length each, given by number and length.

    All processes make equally many calls, with equally many regions in each: ZeRO-3 fetches parameters
    from all of them at every call. A group is divided evenly; the rest of all groups goes one by one,
    neighbours in length side by side, and where processes would stay idle they repeat a region.
    """
    calls: list[Calls] = [[] for _ in range(share.world)]
    rest: list[tuple[int, int]] = []
    first = 0
    for count, length in zip(counts, lengths, strict=True):
        per_process, at_once = count // share.world, share.micro_batch or count
        for rank, process_calls in enumerate(calls):
            dealt = range(first + rank * per_process, first + (rank + 1) * per_process)
            process_calls += [list(dealt[i : i + at_once]) for i in range(0, per_process, at_once)]
        rest += [(length, i) for i in range(first + per_process * share.world, first + count)]
        first += count
    rest.sort()
    for start in range(0, len(rest), share.world):
        row = [i for _, i in rest[start : start + share.world]]
        for process_calls, i in zip(calls, row + row[-1:] * share.world, strict=False):
            process_calls.append([i])
    return calls


def places_of_regions(calls: Sequence[Calls]) -> list[int]:
    """The place of each region once what all processes computed has been gathered."""
    order = [i for process_calls in calls for call in process_calls for i in call]
    first = {i: place for place, i in reversed(list(enumerate(order)))}
    return [first[i] for i in range(len(first))]
