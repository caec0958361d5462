"""How batches are divided: every sample once, and every process equally often at work."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from training.engine.shares import ALONE, BatchShare, deal, places_of_regions

worlds = st.integers(1, 5)
micro_batches = st.none() | st.integers(1, 7)


def shares(world: int, micro_batch: int | None) -> list[BatchShare]:
    return [BatchShare(rank, world, micro_batch) for rank in range(world)]


@given(st.integers(1, 40), worlds, micro_batches)
def test_every_sample_is_computed_once(count: int, world: int, micro_batch: int | None) -> None:
    batch = list(range(count))
    everybody = shares(world, micro_batch)
    (parts,) = {share.parts(count) for share in everybody}
    computed = [share.of(batch, part) for share in everybody for part in range(parts)]
    assert sorted(i for samples in computed for i in samples) == batch
    assert max(map(len, computed)) <= (micro_batch or count)
    for part in range(parts):
        sizes = [len(share.of(batch, part)) for share in everybody]
        assert max(sizes) - min(sizes) <= 1
        assert sizes[0] >= 1


def test_alone_and_at_once_it_is_the_batch_itself() -> None:
    assert ALONE.parts(7) == 1
    assert ALONE.of("abcdefg", 0) == list("abcdefg")
    assert deal([3, 2], [9, 4], ALONE) == [[[0, 1, 2], [3, 4]]]


@given(st.integers(0, 30), worlds)
def test_gathered_rows_are_found_again(count: int, world: int) -> None:
    everybody = shares(world, None)
    rows = [share.rows(count) for share in everybody]
    assert len({len(own) for own in rows}) == 1
    gathered = [i for own in rows for i in own]
    assert [gathered[place] for place in everybody[0].places_of_rows(count)] == list(range(count))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), worlds, micro_batches)
def test_regions_are_dealt_evenly_and_found_again(
    counts: list[int], world: int, micro_batch: int | None
) -> None:
    lengths = [5 * (k + 1) for k in range(len(counts))]
    length_of = [length for count, length in zip(counts, lengths, strict=True) for _ in range(count)]
    calls = deal(counts, lengths, BatchShare(0, world, micro_batch))
    assert len({tuple(map(len, own)) for own in calls}) == 1  # the same calls in every process
    for own in calls:
        for call in own:
            assert len({length_of[i] for i in call}) == 1
            assert len(call) <= (micro_batch or max(counts))
    dealt = Counter(i for own in calls for call in own for i in call)
    assert set(dealt) == set(range(sum(counts)))
    assert sum(dealt.values()) - len(dealt) < world  # regions computed twice
    gathered = [i for own in calls for call in own for i in call]
    assert [gathered[place] for place in places_of_regions(calls)] == list(range(sum(counts)))
