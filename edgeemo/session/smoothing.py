"""From one hop's probabilities to an emotion that does not flicker and a mood that lasts."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

_LEAST_MOOD_WEIGHT_S = 2.0  # seconds of evidence below which there is no mood to speak of


class MomentaryEmotion:
    """The label of the moment, with hysteresis: it does not flicker where two labels are close.

    Args:
        margin: lead in probability that another label needs over the shown one.
    """

    def __init__(self, *, margin: float) -> None:
        self._margin = margin
        self.reset()

    def reset(self) -> None:
        """Forgets what was shown."""
        self.label: int | None = None
        """Index of the emotion; None without a signal."""

    def update(self, probabilities: Float64 | None) -> None:
        """Takes the probabilities (C,) of one hop; None, without a signal, ends the emotion at once."""
        if probabilities is None:
            self.label = None
            return
        best = int(probabilities.argmax())
        if self.label is None or probabilities[best] - probabilities[self.label] >= self._margin:
            self.label = best


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
