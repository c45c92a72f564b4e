"""From one hop's probabilities to an emotion that does not flicker."""

from __future__ import annotations

from collections.abc import Sequence


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

    def update(self, probabilities: Sequence[float] | None) -> None:
        """Takes the probabilities of one hop; None, without a signal, ends the emotion at once."""
        if probabilities is None:
            self.label = None
            return
        most = max(probabilities)
        if self.label is None or most - probabilities[self.label] >= self._margin:
            self.label = probabilities.index(most)
