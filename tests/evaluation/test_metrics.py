"""Figures against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgeemo.errors import InputError
from edgeemo.evaluation.metrics import calibration_error, metrics_from_probabilities

# Four classes, the last of which never occurs. Truth 0 0 0 0 1 1 2, guesses 0 0 0 1 1 3 0.
TRUTH = np.array([0, 0, 0, 0, 1, 1, 2])
GUESS = np.array([0, 0, 0, 1, 1, 3, 0])
P = np.where(np.arange(4) == GUESS[:, None], 0.7, 0.1)


def test_figures_of_a_small_case() -> None:
    figures = metrics_from_probabilities(P, TRUTH)
    assert figures.n == 7
    assert figures.confusion == ((3, 1, 0, 0), (0, 1, 0, 1), (1, 0, 0, 0), (0, 0, 0, 0))
    assert figures.accuracy == pytest.approx(4 / 7)
    assert figures.recall == (3 / 4, 1 / 2, 0.0, None)
    assert figures.uar == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
    # class 0: TP 3 FP 1 FN 1; class 1: TP 1 FP 1 FN 1; class 2: TP 0
    assert figures.macro_f1 == pytest.approx((6 / 8 + 2 / 4 + 0) / 3)
    assert figures.weighted_f1 == pytest.approx((4 * 6 / 8 + 2 * 2 / 4) / 7)
    assert figures.ece == pytest.approx(abs(0.7 - 4 / 7))  # all confidences fall into one bin


def test_a_perfect_and_a_wrong_classifier() -> None:
    perfect = metrics_from_probabilities(np.eye(3), np.arange(3))
    assert (perfect.accuracy, perfect.uar, perfect.macro_f1, perfect.weighted_f1, perfect.ece) == (
        1,
        1,
        1,
        1,
        0,
    )
    wrong = metrics_from_probabilities(np.eye(3), np.array([1, 2, 0]))
    assert (wrong.accuracy, wrong.uar, wrong.macro_f1, wrong.weighted_f1, wrong.ece) == (0, 0, 0, 0, 1)


def test_calibration_error_by_hand() -> None:
    # Bins of width 0.25: (0.25, 0.5] holds 0.4 and 0.5 with one hit, (0.75, 1] holds 0.9 and 1.0 with two.
    confidence = np.array([0.4, 0.5, 0.9, 1.0])
    correct = np.array([True, False, True, True])
    expected = 2 / 4 * abs(0.5 - 0.45) + 2 / 4 * abs(1.0 - 0.95)
    assert calibration_error(confidence, correct, bins=4) == pytest.approx(expected)


def test_a_border_belongs_to_the_lower_bin() -> None:
    # 0.5 and 0.6 in one bin of two would give |1.1 - 1| / 2; apart they give (0.5 + 0.4) / 2.
    assert calibration_error(np.array([0.5, 0.6]), np.array([False, True]), bins=2) == pytest.approx(0.45)
    assert calibration_error(np.array([0.0]), np.array([True]), bins=2) == 1.0


@pytest.mark.parametrize(
    ("p", "labels", "words"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "at least 1"),
        (np.eye(3), np.arange(2), r"\(3, 3\) and labels int64 \(2,\)"),
        (np.eye(3), np.array([0.0, 1.0, 2.0]), "whole numbers"),
        (np.eye(3), np.array([0, 1, 3]), r"0\.\.3, expected 0\.\.2"),
        (np.eye(3), np.array([0, -1, 1]), r"-1\.\.1"),
        (np.full((1, 2), np.nan), np.array([0]), "2 of the probabilities are not finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(p: np.ndarray, labels: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        metrics_from_probabilities(p, labels)
