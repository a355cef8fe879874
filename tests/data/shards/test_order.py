"""Which samples stand at which places of a run."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from jointnet_cli.data.shards.order import SampleOrder, ShuffleBlock, slice_shards

SETS = st.lists(st.integers(0, 23), min_size=1, max_size=6).filter(any)


def taken(sample_order: SampleOrder, slot: int, step: int, count: int) -> list[tuple[int, int]]:
    """Shard and number of a slot's next samples."""
    samples = ((block.shard, block.start + index) for block in sample_order.walk(slot, step) for index in rest(block))
    return list(islice(samples, count))


def rest(block: ShuffleBlock) -> list[int]:
    return block.order[block.done :]


@given(counts=SETS, slots=st.integers(1, 9))
def test_slices_hold_every_sample_once(counts: list[int], slots: int) -> None:
    slices = slice_shards(counts, slots)
    held = [(piece.shard, piece.start + number) for piece in slices for number in range(piece.count)]
    assert held == [(shard, number) for shard, count in enumerate(counts) for number in range(count)]
    assert all(piece.count for piece in slices)
    if min(counts) >= slots:
        assert len(slices) >= slots
    if len(counts) >= slots:
        assert len(slices) == sum(map(bool, counts))


@settings(max_examples=60)
@given(
    counts=SETS, slots=st.integers(1, 9), seed=st.integers(0, 99), shuffle=st.integers(1, 8), epochs=st.integers(1, 3)
)
def test_an_epoch_has_every_slice_once(counts: list[int], slots: int, seed: int, shuffle: int, epochs: int) -> None:
    """What the slots take of their first slices, together, is every sample once an epoch."""
    dealt = SampleOrder(slice_shards(counts, slots), slots, seed, shuffle)
    total = epochs * len(dealt.slices)
    seen: Counter[tuple[int, int]] = Counter()
    for slot in range(slots):
        turns = len(range(slot, total, slots))
        for block in dealt.walk(slot, 0):
            begins = any(block.start == piece.start and block.shard == piece.shard for piece in dealt.slices)
            turns -= begins
            if turns < 0:
                break
            assert sorted(block.order) == list(range(len(block.order))) and len(block.order) <= shuffle
            seen.update((block.shard, block.start + index) for index in rest(block))
    assert seen == Counter({(n, index): epochs for n, count in enumerate(counts) for index in range(count)})


@settings(max_examples=60)
@given(counts=SETS, slots=st.integers(1, 5), shuffle=st.integers(1, 8), step=st.integers(0, 90), data=st.data())
def test_a_walk_from_any_step_is_the_tail_of_the_whole(
    counts: list[int], slots: int, shuffle: int, step: int, data: st.DataObject
) -> None:
    dealt = SampleOrder(slice_shards(counts, slots), slots, 7, shuffle)
    slot = data.draw(st.integers(0, slots - 1))
    assert taken(dealt, slot, step, 25) == taken(dealt, slot, 0, step + 25)[step:]


def test_seeds_epochs_and_slices_shuffle_anew() -> None:
    """Two equal shards of one block each."""
    epochs = {seed: taken(SampleOrder(slice_shards([40, 40], 1), 1, seed, 40), 0, 0, 320) for seed in (0, 1)}
    orders = [
        [index for _, index in epochs[seed][start : start + 40]] for seed in (0, 1) for start in range(0, 320, 40)
    ]
    assert len({tuple(order) for order in orders}) == len(orders)


def test_neighbours_are_shuffled_within_their_block() -> None:
    order = [index for _, index in taken(SampleOrder(slice_shards([32], 1), 1, 0, 8), 0, 0, 32)]
    assert order != sorted(order)
    assert [index // 8 for index in order] == [number // 8 for number in range(32)]


def test_blocks_are_even() -> None:
    blocks = islice(SampleOrder(slice_shards([65], 1), 1, 0, 64).walk(0, 0), 2)
    assert sorted(len(block.order) for block in blocks) == [32, 33]
