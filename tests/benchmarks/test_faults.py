"""Every fault alone and forty drawn pairs: each reading is held against the truth of its moment."""

from __future__ import annotations

import pytest

from benchmarks.faults.check import check
from benchmarks.faults.play import play
from benchmarks.faults.recording import Recording, load_recording
from benchmarks.faults.scenario import (
    Fault,
    Kind,
    Scenario,
    single_scenarios,
    some_pair_scenarios,
    triple_scenarios,
)
from edgeemo.bundle import Bundle
from edgeemo.shipped import DEFAULT_BUNDLE


@pytest.fixture(scope="module")
def recording() -> Recording:
    return load_recording()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(DEFAULT_BUNDLE)


@pytest.mark.parametrize("scenario", single_scenarios(), ids=str)
def test_one_fault(scenario: Scenario, recording: Recording, bundle: Bundle) -> None:
    assert [str(finding) for finding in check(play(scenario, recording, bundle)).findings] == []


@pytest.mark.parametrize("scenario", some_pair_scenarios(40, seed=1), ids=str)
def test_two_faults_at_once(scenario: Scenario, recording: Recording, bundle: Bundle) -> None:
    assert [str(finding) for finding in check(play(scenario, recording, bundle)).findings] == []


@pytest.mark.parametrize("scenario", triple_scenarios(), ids=str)
def test_everything_fails_at_once(scenario: Scenario, recording: Recording, bundle: Bundle) -> None:
    played = play(scenario, recording, bundle)
    assert [str(finding) for finding in check(played).findings] == []
    assert any(reading.subset is None for reading in played.readings)


FORGET = [
    ("audio", Kind.COMES_BACK),
    ("audio", Kind.HANGS),
    ("audio", Kind.NOISE),
    ("video", Kind.COMES_BACK),
    ("video", Kind.HANGS),
]


@pytest.mark.parametrize(("modality", "kind"), FORGET, ids=str)
def test_nothing_from_before_a_loss_counts_after_it(
    modality: str, kind: Kind, recording: Recording, bundle: Bundle
) -> None:
    fault = Fault(modality, kind, 4.2, 6.1)
    one = play(Scenario((fault,), seed=0), recording, bundle)
    other = play(Scenario((fault,), seed=0, elsewhere_until_s=4.1), recording, bundle)
    pairs = [
        (a, b)
        for a, b in zip(one.readings, other.readings, strict=True)
        if a.states[modality].state == b.states[modality].state == "live"
    ]
    before = [(a, b) for a, b in pairs if a.time_s < 4.2]
    after = [(a, b) for a, b in pairs if a.time_s > 6.1]
    assert any(a.probabilities != b.probabilities for a, b in before)
    assert len(after) > 10
    assert all(a.probabilities == b.probabilities for a, b in after)


def test_nothing_is_wrong_where_nothing_fails(recording: Recording, bundle: Bundle) -> None:
    played = play(Scenario((), seed=0), recording, bundle)
    assert [str(finding) for finding in check(played).findings] == []
    assert played.readings[-1].subset == "audio+video+text"
