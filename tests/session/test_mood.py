"""A flash never changes the mood, a change that lasts does so in time, and a mood fades with its evidence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeemo.errors import InputError
from edgeemo.session import Settings
from edgeemo.session.over_time.mood import Mood

LABELS = 4
DEFAULTS = Settings()
Float64 = NDArray[np.float64]

taus = st.floats(1.0, 60.0)
margins = st.floats(0.05, 0.6)
hops = st.floats(0.1, 1.0)
makes = st.tuples(taus, margins, hops)
distributions = st.one_of(
    st.integers(0, LABELS - 1).map(lambda label: np.eye(LABELS)[label]),
    st.just(np.full(LABELS, 1 / LABELS)),
    st.lists(st.floats(0.0, 1.0), min_size=LABELS, max_size=LABELS).map(
        lambda weights: (np.array(weights) + 1e-9) / (sum(weights) + LABELS * 1e-9)
    ),
)


def one(label: int) -> Float64:
    shares = np.zeros(LABELS)
    shares[label] = 1.0
    return shares


def with_top(label: int, p: Float64) -> Float64:
    """The same shares, the largest of them at `label`, and that a little larger, so that there is no tie."""
    swapped = p.copy()
    best = int(p.argmax())
    swapped[[label, best]] = swapped[[best, label]]
    swapped[label] += 1e-6
    swapped /= swapped.sum()
    return swapped


class Run:
    """A mood that is fed hop after hop."""

    def __init__(self, tau_s: float, margin: float, hop_s: float) -> None:
        self.mood = Mood(labels=LABELS, tau_s=tau_s, margin=margin)
        self.hop_s, self.at_s = hop_s, 0.0

    @property
    def label(self) -> int | None:
        return self.mood.label

    def hop(self, p: Float64 | None, *, after_s: float | None = None) -> int | None:
        self.at_s += self.hop_s if after_s is None else after_s
        self.mood.update(None if p is None else p.tolist(), at_s=self.at_s, hop_s=self.hop_s)
        return self.mood.label


@given(
    makes,
    st.lists(distributions, min_size=1, max_size=40),
    st.lists(st.one_of(st.none(), distributions), min_size=1, max_size=200),
    st.lists(distributions, max_size=40),
)
@settings(max_examples=200, deadline=None)
def test_no_flash_shorter_than_stated_changes_the_mood(
    make: tuple[float, float, float],
    before: list[Float64],
    flash: list[Float64 | None],
    after: list[Float64],
) -> None:
    tau_s, margin, hop_s = make
    run = Run(tau_s, margin, hop_s)
    while run.label is None:
        run.hop(with_top(2, before[0]))
    for p in before:
        assert run.hop(with_top(2, p)) == 2
    longest = int(-tau_s * math.log(1 - margin) / hop_s - 1e-9)
    for flashed in flash[:longest]:
        label = run.hop(flashed)
        if label is None:  # nothing at all, right after the first evidence
            return
        assert label == 2
    for p in after:
        assert run.hop(with_top(2, p)) == 2


def test_the_worst_flash_of_the_stated_length_is_the_limit() -> None:
    """One hop more than the formula says does change a mood that was no more than tied: it is not slack."""
    limit_s = -DEFAULTS.mood_tau_s * math.log(1 - DEFAULTS.mood_margin)
    assert limit_s == pytest.approx(4.46, abs=0.01)
    run = Run(DEFAULTS.mood_tau_s, DEFAULTS.mood_margin, 0.1)
    for _ in range(600):
        run.hop(np.array([0.5, 0.5, 0.0, 0.0]))
    flashed = [run.hop(one(1)) for _ in range(int(limit_s / 0.1) + 1)]
    assert set(flashed[:-1]) == {0}
    assert flashed[-1] == 1


@given(
    makes,
    st.lists(st.one_of(st.none(), distributions), max_size=60),
    st.lists(distributions, min_size=1, max_size=20),
    st.floats(0.05, 1.0),
)
@settings(max_examples=200, deadline=None)
def test_a_change_that_lasts_is_the_mood_within_the_stated_time(
    make: tuple[float, float, float],
    before: list[Float64 | None],
    rest: list[Float64],
    beyond: float,
) -> None:
    tau_s, margin, hop_s = make
    lead = min(1.0, margin + beyond)
    run = Run(tau_s, margin, hop_s)
    for earlier in before:
        run.hop(earlier)
    within_s = tau_s * math.log((1 + lead) / (lead - margin))
    enough = math.ceil(max(within_s, tau_s * math.log(1 / 0.9)) / hop_s + 1e-6)
    for number in range(enough + 20):
        others = np.delete(rest[number % len(rest)], 3) + 1e-9
        p = np.append(others / others.sum() * (1 - lead) / 2, 0.0)
        p[3] = 1 - p.sum()  # ahead of every other label by at least the lead
        assert p[3] - p[:3].max() >= lead - 1e-9
        label = run.hop(p)
        if number >= enough:
            assert label == 3


def test_the_stated_times_with_the_defaults() -> None:
    def seconds_until_changed(p: Float64) -> float:
        run = Run(DEFAULTS.mood_tau_s, DEFAULTS.mood_margin, 0.25)
        for _ in range(4000):
            run.hop(one(0))
        start_s = run.at_s
        while run.hop(p) == 0:
            pass
        return run.at_s - start_s

    assert seconds_until_changed(one(1)) == pytest.approx(18.3, abs=0.26)
    assert seconds_until_changed(np.array([0.25, 0.75, 0.0, 0.0])) == pytest.approx(32.2, abs=0.26)


@given(taus, margins, hops, st.lists(distributions, min_size=1, max_size=30), st.integers(2, 9))
@settings(max_examples=100, deadline=None)
def test_asking_more_often_changes_nothing(
    tau_s: float, margin: float, hop_s: float, heard: list[Float64], times: int
) -> None:
    coarse, fine = Run(tau_s, margin, hop_s), Run(tau_s, margin, hop_s)
    for number, p in enumerate(heard):
        coarse.hop(p)
        for _ in range(times if number else 1):
            fine.hop(p, after_s=hop_s / times if number else hop_s)
    if coarse.mood.probabilities is not None and fine.mood.probabilities is not None:
        np.testing.assert_allclose(fine.mood.probabilities, coarse.mood.probabilities, atol=1e-9)
    np.testing.assert_allclose(fine.mood._evidence_s, coarse.mood._evidence_s, atol=1e-9)


def test_a_mood_outlasts_a_gap_and_fades_in_a_long_one() -> None:
    run = Run(20.0, 0.2, 0.5)
    assert run.hop(one(1)) is None
    for _ in range(200):
        run.hop(one(1))
    fading = [run.hop(None) for _ in range(200)]
    assert set(fading) == {1, None}
    assert 45.0 <= fading.index(None) * 0.5 <= 46.5
    assert run.mood.probabilities is None
    assert [run.hop(one(2)) for _ in range(4)] == [None] * 3 + [2], "0.1 s of the old evidence is left"


def test_the_time_between_late_hops_is_no_evidence() -> None:
    run = Run(20.0, 0.2, 0.5)
    for _ in range(6):
        run.hop(one(1), after_s=5.0)
    assert run.label is None, "six hops of half a second, spread over half a minute, are little"


@pytest.mark.parametrize("margin", [1.0, 2.0])
def test_a_margin_that_no_lead_reaches_is_refused(margin: float) -> None:
    with pytest.raises(InputError, match="mood_margin must be below 1"):
        Settings(mood_margin=margin)
