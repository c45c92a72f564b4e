"""The sustained mood: slow enough for no flash to change it, and sure to follow a change that lasts."""

from __future__ import annotations

import math
from collections.abc import Sequence

_LEAST_EVIDENCE = 0.1  # of tau: fading seconds of evidence below which there is no mood to speak of


class Mood:
    """Fading seconds of evidence for each label, and the label that leads them, with hysteresis.

    A hop of probability p adds p times its seconds to each label, and everything fades with the time
    constant tau, so that the evidence of all labels together never exceeds tau seconds. The mood changes
    when another label leads the shown one by ``margin * tau`` seconds. Three things follow, for any
    probabilities and any hops (times are seconds that hops covered):

    - While the shown mood leads, nothing shorter than ``-tau ln(1 - margin)`` changes it: 4.5 s with the
      defaults (tau 20 s, margin 0.2), longer than a facial expression takes, which is 0.5 to 4 s (P. Ekman,
      "Emotions Revealed", 2003).
    - Once a label is ahead of every other by a probability d > margin at every hop, it is the mood after
      at most ``tau ln((1 + d) / (d - margin))``, whatever was before: 18 s for d = 1, 32 s for d = 0.5.
      A lead of less than the margin need never change the mood.
    - Without a signal the evidence fades and the mood stays what it was, until less than a tenth of tau is
      left: at most ``tau ln 10`` after the last signal, 46 s. Then there is none, and the next is the label
      that leads once there is a tenth of tau again: after 2.1 s of signal.

    Args:
        labels: number of labels, C.
        tau_s: time constant, above 0.
        margin: lead that another label needs, as a part of tau, in [0, 1).
    """

    def __init__(self, *, labels: int, tau_s: float, margin: float) -> None:
        self._labels, self._tau_s, self._margin = labels, tau_s, margin
        self.reset()

    def reset(self) -> None:
        """Forgets everything."""
        self._evidence_s, self._total_s = [0.0] * self._labels, 0.0
        self._at_s: float | None = None
        self._steps = (0.0, 0.0)  # seconds that passed, and that the hop covers; what they come to:
        self._fade, self._gain_s = 1.0, 0.0
        self.label: int | None = None
        """Index of the mood, kept through gaps; None where there is too little recent evidence."""

    def update(self, probabilities: Sequence[float] | None, *, at_s: float, hop_s: float) -> None:
        """Takes one hop.

        Args:
            probabilities: C of them, summing to 1; None where there was no signal.
            at_s: capture time, not before the last one.
            hop_s: seconds that the hop covers at most; a reading that follows sooner covers the time since
                the one before, so that asking more often changes nothing.
        """
        passed_s = hop_s if self._at_s is None else max(0.0, at_s - self._at_s)
        self._at_s = at_s
        if (passed_s, hop_s) != self._steps:  # mostly the same hop after hop
            self._steps = passed_s, hop_s
            self._fade = math.exp(-passed_s / self._tau_s)
            self._gain_s = self._tau_s * -math.expm1(-min(passed_s, hop_s) / self._tau_s)
        fade, gain_s = self._fade, self._gain_s
        if probabilities is None:
            evidence_s = [seconds * fade for seconds in self._evidence_s]
        else:  # few labels: lists are faster than arrays
            both = zip(self._evidence_s, probabilities, strict=True)
            evidence_s = [seconds * fade + p * gain_s for seconds, p in both]
        self._evidence_s, self._total_s = evidence_s, sum(evidence_s)
        if self._total_s < _LEAST_EVIDENCE * self._tau_s:
            self.label = None
        elif probabilities is not None:
            most_s = max(evidence_s)
            if self.label is None or most_s - evidence_s[self.label] >= self._margin * self._tau_s:
                self.label = evidence_s.index(most_s)

    @property
    def probabilities(self) -> list[float] | None:
        """Shares of the C labels in the evidence; None where there is no mood."""
        total_s = self._total_s
        return None if self.label is None else [seconds / total_s for seconds in self._evidence_s]
