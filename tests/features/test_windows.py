"""Blocks are aligned to the stream, windows to its slots, however the stream was cut."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeemo.windows import BlockBuffer, FeatureWindow


def test_a_block_brings_its_left_context_and_zeros_before_the_start() -> None:
    buffer = BlockBuffer(block=2, left_context=3, item_shape=())
    buffer.push(np.arange(1, 6, dtype=np.float32))
    blocks = [block.tolist() for block in buffer.take(up_to_item=5)]
    assert blocks == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]]
    assert buffer.taken == 2


def test_nothing_beyond_the_allowed_item_is_looked_at() -> None:
    buffer = BlockBuffer(block=2, left_context=0, item_shape=())
    buffer.push(np.arange(6, dtype=np.float32))
    assert [block.tolist() for block in buffer.take(up_to_item=3)] == [[0, 1]]
    assert [block.tolist() for block in buffer.take(up_to_item=6)] == [[2, 3], [4, 5]]


@given(st.lists(st.integers(0, 7), max_size=12), st.integers(1, 4), st.integers(0, 5))
def test_blocks_do_not_depend_on_the_cuts(cuts: list[int], block: int, left_context: int) -> None:
    items = np.arange(1, sum(cuts) + 1, dtype=np.float32)
    whole = BlockBuffer(block=block, left_context=left_context, item_shape=())
    whole.push(items)
    pieces = BlockBuffer(block=block, left_context=left_context, item_shape=())
    taken, start = [], 0
    for cut in cuts:
        pieces.push(items[start : start + cut])
        start += cut
        taken += [got.tolist() for got in pieces.take(up_to_item=start)]
    assert taken == [got.tolist() for got in whole.take(up_to_item=len(items))]


def test_a_window_is_right_aligned_and_has_holes_where_nothing_came() -> None:
    window = FeatureWindow(length=4, width=1)
    for slot in (3, 5):
        window.put(slot, np.array([slot], np.float32))
    features, mask = window.view(6)
    assert features[0, :, 0].tolist() == [3, 0, 5, 0]
    assert mask[0].tolist() == [1, 0, 1, 0]
    assert window.count(6) == 2
    assert window.count(8) == 1


def test_a_window_before_its_stream_has_begun_is_empty() -> None:
    window = FeatureWindow(length=4, width=2)
    _, mask = window.view(-1)
    assert mask.sum() == 0
    window.put(0, np.ones(2, np.float32))
    assert window.view(0)[1].tolist() == [[0, 0, 0, 1]]
    window.clear()
    assert window.count(0) == 0


def test_a_late_feature_never_overwrites_a_newer_one() -> None:
    window = FeatureWindow(length=4, width=1)
    window.put(5, np.array([5], np.float32))
    window.put(1, np.array([1], np.float32))  # same place, four slots older
    assert window.view(5)[0][0, -1, 0] == 5


@given(st.integers(1, 6), st.lists(st.tuples(st.integers(0, 8), st.integers(1, 4), st.booleans())))
def test_features_put_together_are_those_put_one_by_one(
    length: int, steps: list[tuple[int, int, bool]]
) -> None:
    together, single = FeatureWindow(length=length, width=1), FeatureWindow(length=length, width=1)
    slot = 0
    for gap, count, cleared in steps:
        slot += gap // 6  # mostly one after the other
        features = np.arange(slot, slot + count, dtype=np.float32)[:, None]
        together.put_all(slot, features)
        for offset, feature in enumerate(features):
            single.put(slot + offset, feature)
        slot += count
        for newest in (slot - 2, slot - 1, slot):
            for one, other in zip(together.view(newest), single.view(newest), strict=True):
                np.testing.assert_array_equal(one, other)
            assert together.count(newest) == single.count(newest)
        if cleared:
            together.clear()
            single.clear()


def test_views_are_copies() -> None:
    window = FeatureWindow(length=2, width=1)
    for slot in (0, 1):  # with a hole, then full
        window.put(slot, np.array([1], np.float32))
        features, mask = window.view(slot)
        features[:], mask[:] = 9, 9
        assert window.view(slot)[0].max() == window.view(slot)[1].max() == 1


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.sampled_from([1, 1, 1, 1, 1, 2, 0, -1, -4, 7, None]), st.integers(-2, 2))),
)
def test_a_window_shows_exactly_what_was_put_however_the_slots_came(
    length: int, steps: list[tuple[int | None, int]]
) -> None:
    window = FeatureWindow(length=length, width=1)
    held: dict[int, tuple[int, int]] = {}  # place -> newest slot there and its number
    slot = -1
    for number, (step, ahead) in enumerate(steps, start=1):
        if step is None:
            window.clear()
            held.clear()
        else:
            slot = max(0, slot + step)
            window.put(slot, np.array([number], np.float32))
            if slot >= held.get(slot % length, (-1, 0))[0]:
                held[slot % length] = slot, number
        newest = slot + ahead
        expected = dict(held.values())
        wanted = [expected.get(at, 0) for at in range(newest - length + 1, newest + 1)]
        features, mask = window.view(newest)
        assert features[0, :, 0].tolist() == wanted
        assert mask[0].tolist() == [float(value > 0) for value in wanted]
        assert window.count(newest) == sum(value > 0 for value in wanted)
