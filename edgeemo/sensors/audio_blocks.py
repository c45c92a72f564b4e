"""Mono blocks of audio out of whatever a driver or decoder hands over, on one steady time line."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import InputError
from edgeemo.modality import AUDIO
from edgeemo.sensors.base import Chunk

GAP_TOLERANCE_S = 0.03
"""Time stamps may be off by this much and still count as gapless: Matroska rounds them to 1 ms, and no
sound card drifts as fast; an encoder frame, the smallest piece that can be missing, is about 20 ms long
and three of them are always seen as a gap."""


class AudioBlocks:
    """Cuts one stream of audio into chunks and gives them times that never overlap and never go back.

    Times are counted in samples from the last gap, so that they do not depend on how the stream was cut.
    A stamp more than `GAP_TOLERANCE_S` late is a gap and starts a new count; an early one is not believed.

    Args:
        chunk_s: length of the chunks in seconds; None passes blocks on as they come. The last chunk before
            a gap or the end is as short as what is left.
    """

    def __init__(self, chunk_s: float | None = None) -> None:
        if chunk_s is not None and not chunk_s > 0:
            raise InputError(f"chunk_s must be above 0 seconds, got {chunk_s}")
        self._chunk_s = chunk_s
        self.reset()

    def reset(self) -> None:
        """Forgets the stream, as at the start."""
        self._rate_hz = 0
        self._anchor_s = 0.0
        self._counted = 0  # samples since the anchor that have been given out or lie in _kept
        self._kept: list[NDArray[np.float32]] = []

    @property
    def next_s(self) -> float | None:
        """When the next sample is expected, None before the first."""
        return self._anchor_s + self._counted / self._rate_hz if self._rate_hz else None

    def add(self, time_s: float | None, samples: NDArray[np.float32], rate_hz: int) -> Iterator[Chunk]:
        """Yields the chunks that are complete with these samples.

        Args:
            time_s: the stamp of the first sample; None where the file has none: it follows the last one.
            samples: mono (N,).
            rate_hz: their rate; a change starts a new count.
        """
        expected_s = self.next_s
        if expected_s is None:
            self._begin(time_s or 0.0, rate_hz)
        elif rate_hz != self._rate_hz or (time_s is not None and time_s > expected_s + GAP_TOLERANCE_S):
            yield from self.flush()
            self._begin(max(expected_s, expected_s if time_s is None else time_s), rate_hz)
        if self._chunk_s is None:
            if len(samples):
                yield self._chunk(samples)
                self._counted += len(samples)
            return
        self._kept.append(samples)
        self._counted += len(samples)
        size = max(1, round(self._chunk_s * rate_hz))
        if sum(map(len, self._kept)) < size:
            return
        pending = np.concatenate(self._kept)
        whole = len(pending) - len(pending) % size
        self._kept = [pending[whole:].copy()] if whole < len(pending) else []
        self._counted -= len(pending)
        for start in range(0, whole, size):
            yield self._chunk(pending[start : start + size])
            self._counted += size
        self._counted += len(pending) - whole

    def flush(self) -> Iterator[Chunk]:
        """Yields what is left over as a last, short chunk."""
        if self._kept:
            rest = np.concatenate(self._kept)
            self._kept = []
            self._counted -= len(rest)
            if len(rest):
                yield self._chunk(rest)
            self._counted += len(rest)

    def _begin(self, time_s: float, rate_hz: int) -> None:
        self._rate_hz, self._anchor_s, self._counted = rate_hz, time_s, 0

    def _chunk(self, samples: NDArray[np.float32]) -> Chunk:
        return Chunk(AUDIO, self._anchor_s + self._counted / self._rate_hz, samples, self._rate_hz)


class SteadyTimes:
    """Smooth capture times for blocks whose arrival is timed by a busy computer.

    Blocks arrive late, never early, so the earliest arrivals tell the truth: times are counted in samples
    and shifted slowly towards the lower edge of what is measured, which follows the drift of the sound card.
    Lateness that lasts is a gap. Times never go back.

    Args:
        rate_hz: samples a second that the card promises.
        memory: number of blocks over which the earliest arrival is sought.
    """

    _GAP_S = 0.1

    def __init__(self, rate_hz: int, *, memory: int = 40) -> None:
        self._rate_hz = rate_hz
        self._late: deque[float] = deque(maxlen=memory)
        self._next_s: float | None = None
        self._last_s = 0.0

    def stamp(self, measured_s: float, samples: int, *, lost: bool = False) -> float:
        """Returns the capture time of a block's first sample.

        Args:
            measured_s: the capture time as measured on arrival.
            samples: length of the block.
            lost: the driver says that samples were lost before it: a gap is believed at once.
        """
        if self._next_s is None:
            self._next_s = self._last_s = measured_s
        late_s = measured_s - self._next_s
        self._late.append(late_s)
        length_s = samples / self._rate_hz
        least_s = min(self._late)
        shift_s = 0.0
        if late_s > self._GAP_S and (
            lost or (least_s > self._GAP_S and len(self._late) == self._late.maxlen)
        ):
            shift_s = late_s if lost else least_s
        elif least_s < 0:  # an earlier count began late; half a block at a time, so that no time goes back
            shift_s = max(least_s, -0.5 * length_s)
        else:
            shift_s = 0.02 * least_s
        if shift_s:
            self._late = deque((late - shift_s for late in self._late), maxlen=self._late.maxlen)
        time_s = max(self._next_s + shift_s, self._last_s)
        self._last_s, self._next_s = time_s, time_s + length_s
        return time_s
