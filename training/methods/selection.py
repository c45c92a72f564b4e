"""Cross-fitting: one half of the dev videos selects the epoch, the other half reports, then swapped.

Every dev utterance is reported exactly once for a seed, from an epoch that its own video had no part in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Rule:
    """How an epoch is selected from a curve.

    The accuracy of 160 utterances jumps by a point or two from epoch to epoch, so the best single epoch is
    mostly luck, and often one of the first, where a network says the same label to all; a running mean asks
    for a stretch of good epochs.

    Attributes:
        patience: epochs without a better score that end the search; 0 looks at all.
        smoothing: epochs of the running mean; an epoch counts with those before it, and only when there
            are that many.
    """

    patience: int = 0
    smoothing: int = 1

    def _search(self, scores: Sequence[float]) -> tuple[int, bool]:
        width = min(self.smoothing, len(scores))
        means = np.convolve(scores, np.ones(width) / width, "valid")
        best = 0
        for place, mean in enumerate(means):
            if mean > means[best] + 1e-9:  # a running mean of equal scores may differ in the last bits
                best = place
            elif self.patience and place - best >= self.patience:
                return best + width - 1, True
        return best + width - 1, False

    def selected(self, scores: Sequence[float]) -> int:
        """Returns the index of the best epoch, the first of equals, up to where patience ended."""
        return self._search(scores)[0]

    def ended(self, scores: Sequence[float]) -> bool:
        """Whether `selected` can no longer change, however the curve goes on."""
        return self._search(scores)[1]


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
    logits: NDArray[np.floating], labels: NDArray[np.int64], halves: NDArray[np.int64], rule: Rule
) -> tuple[int, int]:
    """Returns the epoch that reports on half 0 (selected on half 1) and the one that reports on half 1.

    Args:
        logits: (E, K, N, C) of every epoch on the clean subsets that select.
        labels: (N,).
        halves: (N,) the half of each utterance's video.
        rule: how an epoch is selected.
    """
    on_zero, on_one = (
        rule.selected(half_accuracy(logits, labels, halves == half).tolist()) for half in (0, 1)
    )
    return on_one, on_zero
