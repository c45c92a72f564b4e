"""Figures of a classifier from its probabilities, with numpy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import InputError

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Metrics:
    """How well probabilities fit labels.

    "Present" are the classes that the data has: a corpus without disgust says nothing about disgust. All
    shares lie in 0..1.

    Attributes:
        n: labelled items.
        accuracy: share of items whose most probable label is the true one.
        uar: unweighted average recall: the mean of the recalls of the classes present.
        macro_f1: mean F1 of the classes present; F1 = 2 TP / (2 TP + FP + FN).
        weighted_f1: F1 of each class weighted by its items.
        ece: expected calibration error over 15 equal bins of confidence, Guo et al., "On Calibration of
            Modern Neural Networks", ICML 2017, equation 3.
        recall: recall of each class; None for a class without items.
        confusion: items by (true label, most probable label), (C, C).
    """

    n: int
    accuracy: float
    uar: float
    macro_f1: float
    weighted_f1: float
    ece: float
    recall: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...]


def metrics_from_probabilities(probabilities: NDArray[Any], labels: NDArray[Any]) -> Metrics:
    """Returns the figures for items with known labels.

    Args:
        probabilities: (N, C), rows summing to 1.
        labels: (N,) integers in 0..C-1.

    Raises:
        InputError: there are no items, the shapes do not fit, a label lies outside, or a number is not
            finite.
    """
    p = np.asarray(probabilities, np.float64)
    truth = np.asarray(labels)
    if p.ndim != 2 or truth.shape != p.shape[:1] or truth.dtype.kind not in "iu" or not len(p):
        raise InputError(
            f"probabilities {p.shape} and labels {truth.dtype} {truth.shape}: expected (N, C) and N whole "
            "numbers, N at least 1"
        )
    if truth.min() < 0 or truth.max() >= p.shape[1]:
        raise InputError(f"labels lie in {truth.min()}..{truth.max()}, expected 0..{p.shape[1] - 1}")
    if not np.isfinite(p).all():
        raise InputError(f"{np.count_nonzero(~np.isfinite(p))} of the probabilities are not finite")
    guess = p.argmax(axis=1)
    confusion = confusion_matrix(truth, guess, classes=p.shape[1])
    hits = np.diag(confusion).astype(np.float64)
    items, guesses = confusion.sum(axis=1), confusion.sum(axis=0)
    present = items > 0
    f1 = 2 * hits / np.maximum(items + guesses, 1)
    recall = hits / np.maximum(items, 1)
    return Metrics(
        n=len(p),
        accuracy=float(hits.sum() / len(p)),
        uar=float(recall[present].mean()),
        macro_f1=float(f1[present].mean()),
        weighted_f1=float((f1 * items).sum() / len(p)),
        ece=calibration_error(p.max(axis=1), guess == truth),
        recall=tuple(float(r) if there else None for r, there in zip(recall, present, strict=True)),
        confusion=tuple(tuple(map(int, row)) for row in confusion),
    )


def confusion_matrix(truth: NDArray[Any], guess: NDArray[Any], *, classes: int) -> NDArray[np.int64]:
    """Returns how many items have each (true, guessed) pair of labels, (classes, classes)."""
    flat = np.bincount(truth.astype(np.int64) * classes + guess, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def calibration_error(
    confidence: NDArray[Any], correct: NDArray[np.bool_], *, bins: int = CALIBRATION_BINS
) -> float:
    """Returns the expected calibration error: the gap of confidence and accuracy, averaged over items.

    Args:
        confidence: (N,) in 0..1, the probability of the label that was guessed.
        correct: (N,) whether the guess was right.
        bins: equal intervals (low, high] of confidence.

    Source:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.
    """
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.bincount(place, weights=confidence - correct.astype(np.float64), minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))
