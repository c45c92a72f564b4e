"""Whether a device hands out the same sound again and again, as a stuck driver does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LONGEST_S = 0.5
"""The longest buffer that is recognised when it repeats."""

_SAME_S = 0.3  # so much must be the same; what is real never is
_EVERY_S = 0.1
_DISTINCT = 8  # values that the end must have: silence and clipping repeat by themselves


class Repeats:
    """Looks for exact repetition in a stream of samples as the device delivers them.

    Noise in every sample makes two stretches of real sound differ, so a repetition of 0.3 s sample by
    sample is none of the world's. The answers are the same for every chunking.

    Args:
        rate_hz: samples a second.
    """

    def __init__(self, rate_hz: int) -> None:
        self._step = round(_EVERY_S * rate_hz)
        self._same = round(_SAME_S * rate_hz)
        self._kept = self._same + round(LONGEST_S * rate_hz)
        self._heard: NDArray[np.float32] = np.zeros(0, np.float32)
        self._left = self._step  # samples until the next look

    def push(self, samples: NDArray[np.float32]) -> list[bool]:
        """Returns for each tenth of a second that these samples (N,) complete whether it repeats."""
        found = []
        while len(samples) >= self._left:
            self._heard = np.concatenate([self._heard, samples[: self._left]])[-self._kept :]
            samples, self._left = samples[self._left :], self._step
            found.append(self._repeats())
        self._heard = np.concatenate([self._heard, samples])
        self._left -= len(samples)
        return found

    def _repeats(self) -> bool:
        heard, same = self._heard, self._same
        if len(heard) <= same or len(set(heard[-2 * _DISTINCT :].tolist())) < _DISTINCT:
            return False
        ends = np.flatnonzero(heard[same - 1 : -1] == heard[-1]) + same  # each candidate's end
        newest = heard[-same:]
        ends = ends[heard[ends - same] == newest[0]]
        return any(np.array_equal(heard[end - same : end], newest) for end in ends[-4:])
