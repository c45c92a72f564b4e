"""Modalities that contradict each other are told from those that agree, and from those that say nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeemo.session.over_time.agreement import CLEAR_CONTRADICTION, contradiction_of, shares_from_evidence

LABELS = "abcdefg"
opinions = st.lists(st.floats(-30, 30), min_size=7, max_size=7)


def evidence_of(rows: list[list[float]]) -> dict[str, dict[str, float]]:
    return {str(number): dict(zip(LABELS, row, strict=True)) for number, row in enumerate(rows)}


def says(*label_and_weight: tuple[int, float]) -> float:
    """The contradiction of modalities that each speak for one of seven labels, with a weight."""
    rows = [[weight * (place == label) for place in range(7)] for label, weight in label_and_weight]
    value = contradiction_of(shares_from_evidence(evidence_of(rows), temperature=1.0))
    assert value is not None
    return value


def test_a_smile_with_an_angry_voice() -> None:
    assert says((1, 5.0), (3, 5.0)) > CLEAR_CONTRADICTION
    assert says((1, 5.0), (1, 5.0)) < 0.2
    assert says((1, 5.0), (1, 5.0), (3, 5.0)) > CLEAR_CONTRADICTION
    assert says((1, 8.0), (3, 8.0)) > says((1, 5.0), (3, 5.0))


def test_a_modality_without_an_opinion_contradicts_nobody() -> None:
    assert says((1, 20.0), (3, 0.0)) == pytest.approx(0.5)
    assert says((1, 5.0), (1, 5.0), (3, 0.0)) == pytest.approx(says((1, 5.0), (1, 5.0)))


def test_one_modality_alone_cannot_contradict() -> None:
    assert contradiction_of(shares_from_evidence(evidence_of([[1.0] * 7]), temperature=1.0)) is None


@given(st.lists(opinions, min_size=2, max_size=3), st.floats(0.1, 5.0))
def test_it_is_a_probability_and_the_order_of_modalities_and_labels_does_not_matter(
    rows: list[list[float]], temperature: float
) -> None:
    shares = shares_from_evidence(evidence_of(rows), temperature=temperature)
    assert all(sum(own.values()) == pytest.approx(1.0) for own in shares.values())
    value = contradiction_of(shares)
    assert value is not None
    assert 0 <= value <= 1
    others = [rows[::-1], [row[::-1] for row in rows]]
    for other in others:
        again = shares_from_evidence(evidence_of(other), temperature=temperature)
        assert contradiction_of(again) == pytest.approx(value)
