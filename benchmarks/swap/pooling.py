"""Late fusion, correctly written: calibrated log-linear pooling; and the way with half-lives, beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

_NEWTON_STEPS = 50
_CLOSE = 1e-9


def pooled_shares(evidence: Sequence[NDArray[np.floating]], weights: Float64, prior: Float64) -> Float64:
    """Returns softmax(log prior + sum of weight times evidence), (N, C).

    With evidence that is free of any prior this is log p(y) + sum_m w_m (log p_m(y) - log p_m0(y)) where
    m's own prior p_m0 has been taken out: the logits of edgeemo's engines are just that, up to a constant
    of each row. A weight holds the inverse temperature of its member as well, so a single member with a
    weight is a calibrated engine.

    Args:
        evidence: (N, C) of each member.
        weights: (M,).
        prior: (C,) of the labels where the answer is used.

    Source:
        C. Genest, J. Zidek, "Combining Probability Distributions", Statistical Science 1(1), 1986.
    """
    scores = np.log(prior) + sum(
        weight * rows.astype(np.float64) for weight, rows in zip(weights, evidence, strict=True)
    )
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def fit_weights(
    evidence: Sequence[NDArray[np.floating]], labels: NDArray[np.int64], prior: Float64
) -> Float64:
    """Returns the weights (M,) of at least 0 with the least cross entropy.

    The loss is convex in the weights; Newton's method, and members that it would give less than nothing
    are left out and the rest fitted again.

    Args:
        evidence: (N, C) of each member, N the same for all.
        labels: (N,) the true ones.
        prior: (C,) that the labels were drawn from.
    """
    stacked = np.stack([rows.astype(np.float64) for rows in evidence])  # (M, N, C)
    kept = list(range(len(stacked)))
    while True:
        found = _newton(stacked[kept], labels, prior)
        if not (found < 0).any():
            break
        del kept[int(found.argmin())]
    weights = np.zeros(len(stacked))
    weights[kept] = found
    return weights


def _newton(evidence: Float64, labels: NDArray[np.int64], prior: Float64) -> Float64:
    """Returns the weights (M,) where the gradient of the mean cross entropy vanishes."""
    members, count = evidence.shape[:2]
    weights = np.ones(members)
    true = evidence[:, np.arange(count), labels]  # (M, N)
    for _ in range(_NEWTON_STEPS):
        shares = pooled_shares(list(evidence), weights, prior)  # (N, C)
        expected = (evidence * shares).sum(axis=2)  # (M, N)
        gradient = (expected - true).mean(axis=1)
        centred = evidence - expected[:, :, None]
        curvature = np.einsum("inc,jnc,nc->ij", centred, centred, shares) / count
        step = np.linalg.solve(curvature + _CLOSE * np.eye(members), gradient)
        step *= min(1.0, 1.0 / max(float(np.abs(step).max()), _CLOSE))  # far from the optimum, no leaps
        weights = weights - step
        if np.abs(step).max() < _CLOSE:
            break
    return weights


def half_life_shares(
    shares: Mapping[str, Float64], ages_s: Mapping[str, float], half_life_s: float
) -> Float64:
    """Returns the average of what the modalities last said, weighted with 2^(-age / half-life), (N, C).

    This is the common way without sensor states, written down as a rival application has it: the weights
    are divided by their sum, so whoever is left counts fully however old it is.

    Args:
        shares: modality -> (N, C) probabilities.
        ages_s: modality -> seconds since it was said.
        half_life_s: after which a modality counts half.
    """
    youngest_s = min(ages_s[name] for name in shares)  # or an hour would underflow
    weights = {name: 2.0 ** (-(ages_s[name] - youngest_s) / half_life_s) for name in shares}
    total = sum(weights.values())
    return np.asarray(sum(weights[name] / total * rows for name, rows in shares.items()))
