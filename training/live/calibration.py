"""Temperatures of the subsets, and how well they calibrate what they were not fitted on.

A temperature is fitted on the labels that a figure counts, so that confidence means "the part of such
windows that are right" (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017). The error
that is reported is cross-fitted: each half of the items is judged under the temperature of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeemo.evaluation.metrics import metrics_from_probabilities
from edgeemo.training.checkpoints.save import answers
from edgeemo.training.live.measure import GLIMPSE, Array, Check, Priors, item_probabilities, probabilities
from edgeemo.training.lowrank import AdaptedTrunk

# Half of ISEAR's texts are of emotions that others would not call by that name; a glimpse is a test of
# the trunk and no state of a session.
_LEFT_OUT = ("isear_text",)


@dataclass(frozen=True)
class Calibration:
    """What the temperatures of a model are and are worth.

    Attributes:
        temperatures: subset -> temperature, fitted on all validation items.
        errors: subset -> expected calibration error over the items of all its corpora, cross-fitted.
    """

    temperatures: Mapping[str, float]
    errors: Mapping[str, float]


def calibrate(model: AdaptedTrunk, checks: Sequence[Check], priors: Priors) -> Calibration:
    """Returns the temperature of each subset and its cross-fitted calibration error."""
    temperatures: dict[str, float] = {}
    errors: dict[str, float] = {}
    for subset in model.subsets:
        own = [c for c in checks if c.subset == subset and _counts(c.name)]
        logits = [answers(model, check.windows, subset)[0] for check in own]
        temperatures[subset] = fit_temperature(logits, [_targets(check) for check in own], priors[subset])
        errors[subset] = cross_fitted_error(own, logits, priors[subset])
    return Calibration(temperatures, errors)


def cross_fitted_error(checks: Sequence[Check], logits: Sequence[Array], prior: NDArray[np.float64]) -> float:
    """Returns the expected calibration error of items under the temperature of the other half of them.

    The halves are the first and the second half of each corpus in its own order, which for speech are
    (nearly) different speakers.

    Args:
        checks: those of one subset.
        logits: of the windows of each.
        prior: of the subset.
    """
    shares: list[NDArray[np.float64]] = []
    labels: list[NDArray[np.int64]] = []
    for judged in (0, 1):
        fitted_on = [_half(check) != judged for check in checks]
        temperature = fit_temperature(
            [values[rows[check.item]] for values, rows, check in zip(logits, fitted_on, checks, strict=True)],
            [_targets(check)[rows[check.item]] for rows, check in zip(fitted_on, checks, strict=True)],
            prior,
        )
        for check, values, rows in zip(checks, logits, fitted_on, strict=True):
            each = item_probabilities(check, probabilities(values, prior, temperature))
            counted = ~rows & (check.labels >= 0)
            shares.append(each[counted])
            labels.append(check.labels[counted])
    return metrics_from_probabilities(np.concatenate(shares), np.concatenate(labels)).ece


def fit_temperature(logits: Sequence[Array], targets: Sequence[Array], prior: NDArray[np.float64]) -> float:
    """Returns the temperature with the least cross entropy, every group of windows counting the same.

    Args:
        logits: (N, 7) of each group, such as a corpus.
        targets: (N, 7) label shares of each group; rows of zeros do not count.
        prior: (7,) of the subset.
    """
    log_prior = np.log(prior)

    def loss(temperature: float) -> float:
        total = 0.0
        for values, shares in zip(logits, targets, strict=True):
            adjusted = values.astype(np.float64) / temperature + log_prior
            top = adjusted.max(axis=1, keepdims=True)
            normaliser = top[:, 0] + np.log(np.exp(adjusted - top).sum(axis=1))
            each = shares.sum(axis=1) * normaliser - (shares * adjusted).sum(axis=1)
            total += float(each.sum() / max(float(shares.sum()), 1e-9))
        return total

    low, high = np.log(0.25), np.log(4.0)
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(40):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if loss(float(np.exp(left))) < loss(float(np.exp(right))):
            high = right
        else:
            low = left
    return round(float(np.exp((low + high) / 2)), 4)


def _counts(name: str) -> bool:
    return name not in _LEFT_OUT and not name.endswith(GLIMPSE)


def _targets(check: Check) -> Array:
    """Returns (windows, 7): one for the label of the window's item, zeros where it does not count."""
    one_hot = np.eye(check.targets.shape[1], dtype=np.float32)[np.maximum(check.labels, 0)]
    counted: Array = (one_hot * (check.labels >= 0)[:, None])[check.item]
    return counted


def _half(check: Check) -> NDArray[np.int64]:
    """Returns (items,) 0 for the first half of them and 1 for the second."""
    count = len(check.labels)
    return (np.arange(count) >= (count + 1) // 2).astype(np.int64)
