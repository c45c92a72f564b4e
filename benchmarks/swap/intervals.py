"""Paired intervals for triples whose items come again and again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def pigeonhole_weights(
    items: Mapping[str, NDArray[np.int64]], *, replicates: int, seed: int
) -> NDArray[np.float64]:
    """Returns how often each triple counts in each replicate, (replicates, N).

    Triples share their items: a bootstrap that draws triples takes a rare face that stands in a hundred of
    them for a hundred faces. This one draws the items of each modality and lets a triple count as often as
    the product of its items' draws.

    Args:
        items: modality -> (N,) number of the item in each triple.
        replicates: how many.
        seed: of the draws.

    Source:
        A. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007.
    """
    rng = np.random.default_rng(seed)
    count = len(next(iter(items.values())))
    weights = np.ones((replicates, count))
    for numbers in items.values():
        _, place = np.unique(numbers, return_inverse=True)
        kinds = int(place.max()) + 1
        draws = rng.multinomial(kinds, np.full(kinds, 1 / kinds), size=replicates)
        weights *= draws[:, place]
    return weights


def accuracies(hits: NDArray[np.bool_], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the accuracy in each replicate, (R,).

    Args:
        hits: (N,) whether each triple was right.
        weights: (R, N).
    """
    return np.asarray(weights @ hits / np.maximum(weights.sum(axis=1), 1e-12))


def mean_recalls(
    hits: NDArray[np.bool_], labels: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the mean recall of the labels present in each replicate, (R,).

    Args:
        hits: (N,) whether each triple was right.
        labels: (N,) the true ones.
        weights: (R, N).
    """
    recalls = []
    for label in np.unique(labels):
        mine = labels == label
        mass = weights[:, mine].sum(axis=1)
        recall = weights[:, mine] @ hits[mine] / np.maximum(mass, 1e-12)
        recalls.append(np.where(mass > 0, recall, np.nan))
    return np.asarray(np.nanmean(np.stack(recalls), axis=0))


def interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Returns the middle 95 % of the replicates."""
    low, high = np.percentile(differences, (2.5, 97.5))
    return float(low), float(high)
