"""Numbers on a grid: what a slot holds, the same for every chunking, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeemo.errors import InputError
from edgeemo.features.series import SeriesGrid, SeriesSpec, samples_from, series_items, slot_from_time

HEART = SeriesSpec(rate_hz=2.0, mean=(70.0,), std=(10.0,))


def test_a_slot_is_the_mean_of_what_was_captured_in_it() -> None:
    items = series_items([60, 80, 90, 70], [0.0, 0.3, 0.6, 1.2], HEART)
    np.testing.assert_array_equal(items, np.array([[0.0], [2.0]], np.float32))


def test_a_slot_without_a_sample_holds_the_one_before_it() -> None:
    items = series_items([60, 80, 90], [0.1, 2.1, 4.0], HEART)
    np.testing.assert_array_equal(items[:, 0], np.array([-1, -1, -1, -1, 1, 1, 1, 1], np.float32))


def test_the_slot_of_the_newest_sample_waits_for_the_next() -> None:
    grid = SeriesGrid(HEART)
    grid.push(samples_from([60.0], HEART), np.array([5.0]))
    assert len(grid.take(math.inf)) == 0
    assert grid.next_slot == 10
    grid.push(samples_from([90.0], HEART), np.array([5.5]))
    np.testing.assert_array_equal(grid.take(math.inf), np.array([[-1.0]], np.float32))
    assert grid.next_slot == 11


def test_what_was_captured_later_is_not_looked_at() -> None:
    grid = SeriesGrid(HEART)
    grid.push(samples_from([60.0, 65.0, 90.0], HEART), np.array([0.0, 0.5, 1.0]))
    assert len(grid.take(0.5)) == 0
    assert len(grid.take(0.51)) == 1
    assert len(grid.take(2.0)) == 1


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_items_do_not_depend_on_chunks_or_on_when_they_were_taken(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 1000))
    rng = np.random.default_rng(seed)
    spec = SeriesSpec(channels=3, rate_hz=data.draw(st.sampled_from([1.0, 2.5, 25.0, 100.0])))
    times_s = 3.0 + np.cumsum(rng.choice([0.0, 0.01, 0.01, 0.02, 0.3], size=200))
    samples = rng.normal(0, 1e3, (200, 3))
    expected = series_items(samples, times_s, spec)
    grid = SeriesGrid(spec)
    got = []
    start = 0
    while start < 200:
        size = data.draw(st.integers(1, 60))
        grid.push(samples[start : start + size], times_s[start : start + size])
        start += size
        got.append(grid.take(float(times_s[min(start, 199)]) - data.draw(st.sampled_from([0.0, 0.1, 5.0]))))
    got.append(grid.take(math.inf))
    np.testing.assert_array_equal(np.concatenate(got), expected)


def test_times_that_are_sums_of_floats_fall_into_their_slots() -> None:
    spec = SeriesSpec(rate_hz=10.0)
    times_s = np.add.accumulate(np.full(1000, 0.1))
    assert [slot_from_time(time_s, spec) for time_s in times_s.tolist()] == list(range(1, 1001))


def test_a_time_before_the_newest_counts_as_the_newest() -> None:
    grid = SeriesGrid(HEART)
    grid.push(samples_from([60.0, 70.0], HEART), np.array([0.0, 1.0]))
    grid.push(samples_from([90.0], HEART), np.array([0.9]))
    grid.push(samples_from([60.0], HEART), np.array([1.6]))
    np.testing.assert_array_equal(grid.take(math.inf)[:, 0], np.array([-1, -1, 1], np.float32))


def test_the_spec_is_the_same_after_a_round_through_json() -> None:
    spec = SeriesSpec(
        channels=2, rate_hz=25, mean=(1.0, 2.0), std=(1.0, 3.0), low=(-5.0, 0.0), high=(5.0, 9.0)
    )
    assert SeriesSpec.from_json(spec.to_json()) == spec
    assert spec.to_json()["kind"] == "series"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"channels": 0}, "1 to 4096 channels, got 0"),
        ({"channels": True}, "channels, got True"),
        ({"rate_hz": 0}, "a positive rate_hz, got 0"),
        ({"rate_hz": 1e6}, "at most 10000, got 1e"),
        ({"rate_hz": math.nan}, "a positive rate_hz, got nan"),
        ({"deadline_s": 0.0}, r"a positive deadline_s, got 0\.0"),
        ({"stuck_s": -1.0}, r"a finite stuck_s, got -1\.0"),
        ({"mean": (1.0, 2.0)}, "1 finite numbers in mean, one a channel"),
        ({"std": (0.0,)}, "positive numbers in std"),
        ({"low": (2.0,), "high": (1.0,)}, "every low below its high"),
    ],
)
def test_numbers_that_make_no_front_end_are_refused(changes: dict[str, object], why: str) -> None:
    with pytest.raises(InputError, match=why):
        SeriesSpec.from_json({**SeriesSpec().to_json(), **changes})


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        ("72", "expected numbers, got str"),
        ([[1.0, 2.0]], r"shape \(N,\) or \(N, 1\), got \(1, 2\)"),
        ([[1.0], [2.0, 3.0]], "expected numbers, got list"),
        ([72.0, math.nan], "sample 1 of 2 is nan in channel 0"),
        ([True], "expected numbers"),
        (None, "expected numbers"),
    ],
)
def test_samples_that_are_no_numbers_are_refused(samples: object, why: str) -> None:
    with pytest.raises(InputError, match=why):
        samples_from(samples, HEART)  # type: ignore[arg-type]  # what applications get wrong


def test_one_number_is_a_sample_of_one_channel() -> None:
    assert samples_from(72, HEART).shape == (1, 1)
    assert samples_from([72, 73], HEART).shape == (2, 1)
    with pytest.raises(InputError, match=r"shape \(N, 2\), got \(2,\)"):
        samples_from([72, 73], SeriesSpec(channels=2))


@pytest.mark.parametrize("times_s", [[0.0], [1.0, 0.0], [0.0, math.inf]])
def test_times_that_cannot_be_are_refused(times_s: list[float]) -> None:
    with pytest.raises(InputError, match="expected 2 finite times that do not go back"):
        series_items([60, 70], times_s, HEART)
