"""Paired bootstrap over videos and seeds: is a difference more than the luck of 16 videos and 5 seeds?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Interval:
    """A difference with its 95 % interval, as shares of 1."""

    difference: float
    low: float
    high: float


def confusion_by_video(
    guesses: NDArray[np.int64], labels: NDArray[np.int64], videos: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Returns items by (seed, video, true label, guess), (S, V, C, C).

    Args:
        guesses: (S, N), of each seed.
        labels: (N,).
        videos: (N,) 0..V-1.
        classes: C.
    """
    count = int(videos.max()) + 1
    out = np.zeros((len(guesses), count, classes, classes), np.int64)
    for seed, row in enumerate(guesses):
        np.add.at(out[seed], (videos, labels, row), 1)
    return out


def figures_from_confusion(
    confusion: NDArray[np.floating] | NDArray[np.integer],
) -> dict[str, NDArray[np.float64]]:
    """Returns accuracy, UAR and weighted F1 of confusion matrices (..., C, C), true labels in rows."""
    table = np.asarray(confusion, np.float64)
    hits = np.diagonal(table, axis1=-2, axis2=-1)
    items, guessed, total = table.sum(-1), table.sum(-2), table.sum((-2, -1))
    present = items > 0
    recall = hits / np.maximum(items, 1e-12)
    f1 = 2 * hits / np.maximum(items + guessed, 1e-12)
    return {
        "accuracy": hits.sum(-1) / total,
        "uar": (recall * present).sum(-1) / present.sum(-1),
        "weighted_f1": (f1 * items).sum(-1) / total,
    }


def paired_interval(
    ours: NDArray[np.int64], theirs: NDArray[np.int64], figure: str, *, draws: int = 2000, seed: int = 0
) -> Interval:
    """Returns the difference ``ours - theirs`` with its percentile interval.

    Both are drawn together: each draw takes V videos and S seeds with replacement, the same for both.
    The figure of each subset is taken over all drawn items, then averaged over subsets.

    Args:
        ours: (K, S, V, C, C) confusion by subset, seed and video.
        theirs: the same shape.
        figure: a key of `figures_from_confusion`.
        draws: bootstrap samples.
        seed: of the draws.
    """
    _, seeds, videos = ours.shape[:3]
    rng = np.random.default_rng(seed)
    of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), draws)  # (R, S)
    of_videos = rng.multinomial(videos, np.full(videos, 1 / videos), draws)  # (R, V)

    def drawn(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
        total = np.einsum("rs,rv,ksvcd->rkcd", of_seeds, of_videos, confusion, optimize=True)
        averaged: NDArray[np.float64] = figures_from_confusion(total)[figure].mean(axis=1)  # (R,)
        return averaged

    def whole(confusion: NDArray[np.int64]) -> float:
        return float(figures_from_confusion(confusion.sum(axis=(1, 2)))[figure].mean())

    low, high = np.percentile(drawn(ours) - drawn(theirs), [2.5, 97.5])
    return Interval(whole(ours) - whole(theirs), float(low), float(high))
