"""Modalities that contradict each other are told from those that agree, and from those that say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeemo.session.agreement import CLEAR_CONTRADICTION, contradiction_of, shares_from_evidence

evidence = arrays(np.float64, st.tuples(st.integers(2, 3), st.just(7)), elements=st.floats(-30, 30))


def says(*label_and_weight: tuple[int, float]) -> float:
    """The contradiction of modalities that each speak for one of seven labels, with a weight."""
    rows = [weight * np.eye(7)[label] for label, weight in label_and_weight]
    value = contradiction_of(shares_from_evidence(np.array(rows), temperature=1.0))
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
    assert contradiction_of(shares_from_evidence(np.ones((1, 7)), temperature=1.0)) is None


@given(evidence, st.floats(0.1, 5.0))
def test_it_is_a_probability_and_the_order_of_modalities_and_labels_does_not_matter(
    values: np.ndarray, temperature: float
) -> None:
    shares = shares_from_evidence(values, temperature=temperature)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    value = contradiction_of(shares)
    assert value is not None
    assert 0 <= value <= 1
    assert contradiction_of(shares[::-1]) == pytest.approx(value)
    assert contradiction_of(shares[:, ::-1]) == pytest.approx(value)
