"""Scores of contradiction from what modalities say, and how well a score tells two groups apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgeemo.session.over_time.agreement import contradiction_of, shares_from_evidence

Float64 = NDArray[np.float64]

SHIPPED, DIVERGENCE, DIFFER = "odds of one common label", "Jensen-Shannon divergence", "top labels differ"


def scores_from_logits(
    logits: Mapping[str, NDArray[np.floating]], temperatures: Mapping[str, float]
) -> dict[str, Float64]:
    """Returns score -> (N,), higher where modalities contradict each other more.

    Args:
        logits: modality -> (N, C), free of any prior.
        temperatures: modality -> what its logits are divided by.
    """
    names = list(logits)
    rows = len(logits[names[0]])
    said = []
    for row in range(rows):
        own: dict[str, dict[str, float]] = {}
        for name in names:
            values = dict(
                zip(map(str, range(logits[name].shape[1])), map(float, logits[name][row]), strict=True)
            )
            own |= shares_from_evidence({name: values}, temperature=temperatures[name])
        said.append(own)
    shares = np.array([[list(own[name].values()) for name in names] for own in said])  # (N, M, C)
    tops = shares.argmax(axis=-1)
    return {
        SHIPPED: np.array([contradiction_of(own) for own in said], np.float64),
        DIVERGENCE: (_entropy(shares.mean(axis=1)) - _entropy(shares).mean(axis=1)) / np.log(len(names)),
        DIFFER: (tops != tops[:, :1]).any(axis=1).astype(np.float64),
    }


def _entropy(shares: Float64) -> Float64:
    return np.asarray(-(shares * np.log(np.maximum(shares, 1e-300))).sum(axis=-1))


def area_under_roc(scores: Float64, positive: NDArray[np.bool_]) -> float:
    """Returns the probability that a positive item scores higher than a negative one; ties count half.

    Args:
        scores: (N,).
        positive: (N,) which of them are positive.

    Source:
        Hanley and McNeil, "The meaning and use of the area under a ROC curve", Radiology 143 (1982).
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    hits, misses = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))
