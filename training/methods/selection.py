"""Cross-fitting: one half of the dev videos selects the epoch, the other half reports, then swapped.

Every dev utterance is reported exactly once for a seed, from an epoch that its own video had no part in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def split_halves(counts: Sequence[int], seed: int) -> NDArray[np.int64]:
    """Returns the half (0 or 1) of each video, drawn so that both halves have about as many utterances.

    Args:
        counts: utterances of each video; neighbours in size are split between the halves by lot.
        seed: of the lots.
    """
    rng = np.random.default_rng([seed, len(counts)])
    order = np.argsort(counts, kind="stable")
    halves = np.zeros(len(counts), np.int64)
    for start in range(0, len(order), 2):
        pair = order[start : start + 2]
        halves[pair] = rng.permutation(2)[: len(pair)]
    return halves


def selected_epoch(scores: Sequence[float], patience: int) -> int:
    """Returns the index of the best epoch, the first of equals, among those up to where patience ended.

    Args:
        scores: one an epoch.
        patience: epochs without a better score that end the search; 0 looks at all.
    """
    best = 0
    for epoch, score in enumerate(scores):
        if score > scores[best]:
            best = epoch
        elif patience and epoch - best >= patience:
            break
    return best


def patience_ended(scores: Sequence[float], patience: int) -> bool:
    """Whether `selected_epoch` can no longer change, however the curve goes on."""
    if not patience:
        return False
    best = 0
    for epoch, score in enumerate(scores):
        if score > scores[best]:
            best = epoch
        elif epoch - best >= patience:
            return True
    return False


def half_accuracy(
    logits: NDArray[np.floating], labels: NDArray[np.int64], inside: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Returns the accuracy over the items ``inside``, averaged over subsets.

    Args:
        logits: (..., K, N, C) of K subsets.
        labels: (N,).
        inside: (N,) which items count.

    Returns:
        (...), in 0..1.
    """
    right = logits[..., inside, :].argmax(axis=-1) == labels[inside]  # (..., K, n)
    mean: NDArray[np.float64] = right.mean(axis=(-2, -1))
    return mean


def cross_fit_epochs(
    logits: NDArray[np.floating], labels: NDArray[np.int64], halves: NDArray[np.int64], patience: int
) -> tuple[int, int]:
    """Returns the epoch that reports on half 0 (selected on half 1) and the one that reports on half 1.

    Args:
        logits: (E, K, N, C) of every epoch on the clean subsets that select.
        labels: (N,).
        halves: (N,) the half of each utterance's video.
        patience: as `selected_epoch`.
    """
    on_zero, on_one = (
        selected_epoch(half_accuracy(logits, labels, halves == half).tolist(), patience) for half in (0, 1)
    )
    return on_one, on_zero
