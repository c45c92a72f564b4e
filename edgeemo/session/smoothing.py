"""From one hop's probabilities to an emotion that does not flicker and a mood that lasts."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

_LEAST_MOOD_WEIGHT_S = 2.0  # seconds of evidence below which there is no mood to speak of


class Smoother:
    """Hysteresis for the momentary emotion, an exponential average for the mood; both on capture time.

    Args:
        labels: number of labels.
        margin: lead in probability that a new emotion needs over the shown one.
        tau_s: time constant of the mood.
    """

    def __init__(self, *, labels: int, margin: float, tau_s: float) -> None:
        self._labels, self._margin, self._tau_s = labels, margin, tau_s
        self.reset()

    def reset(self) -> None:
        """Forgets emotion and mood."""
        self._emotion: int | None = None
        self._sum: Float64 = np.zeros(self._labels)  # seconds of evidence for each label, fading
        self._at_s = 0.0

    def update(self, probabilities: Float64 | None, *, at_s: float, hop_s: float) -> None:
        """Takes the probabilities (C,) of one hop, or None where there was no signal.

        Without a signal the emotion is gone at once, and the mood fades until nothing is left of it.
        """
        self._sum *= math.exp(-max(0.0, at_s - self._at_s) / self._tau_s)
        self._at_s = at_s
        if probabilities is None:
            self._emotion = None
            return
        self._sum += probabilities * hop_s
        best = int(np.argmax(probabilities))
        shown = self._emotion
        if shown is None or probabilities[best] - probabilities[shown] >= self._margin:
            self._emotion = best

    @property
    def emotion(self) -> int | None:
        """Index of the momentary emotion; None without a signal."""
        return self._emotion

    @property
    def mood(self) -> Float64 | None:
        """Probabilities (C,) of the mood; None where there is too little recent evidence."""
        weight = float(self._sum.sum())
        return self._sum / weight if weight >= _LEAST_MOOD_WEIGHT_S else None
