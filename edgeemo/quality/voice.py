"""Where in a stream of sound somebody speaks: energy above the room's own noise, and a pitch in it.

The floor of every frequency is the least power of the last seconds (minimum statistics, after Martin,
"Noise power spectral density estimation", IEEE TSAP 9(5), 2001): a room hums and hisses all the time, a
voice pauses between words. What is left above twice the floor is a voice where it has a pitch: a peak of
the autocorrelation between 80 and 400 Hz (compare Boersma, "Accurate short-term analysis of the fundamental
frequency", IFA Proceedings 17, 1993), which noise that was switched on, a door or a keyboard lack.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

BLOCK_S = 0.1
MEMORY_S = 8.0  # of the floor, to 9 s: longer than anybody speaks without a pause of a tenth of a second

Float64 = NDArray[np.float64]

_FRAMES = 5  # in a block
_GROUP = 10  # blocks whose minima are kept together
_LEAST_POWER = 1e-9  # -90 dBFS: what is weaker is a device that is off and not a room
_BANDS_HZ = (200, 300, 400, 510, 630, 770, 920, 1080, 1270, 1480, 1720, 2000, 2320, 2700, 3150, 3700, 4400)
_PITCH_HZ = (80.0, 400.0)
_PITCHED_HZ = 4000.0  # above, the overtones of a voice drown in its breath
_FAINT = 0.2  # part of the block's strongest frame, in amplitude, below which a frame has no pitch
_CALM_DB = 1.5  # blocks with less above the floor are not searched for a pitch


class VoiceBlock(NamedTuple):
    """What a tenth of a second sounds like.

    Attributes:
        level_dbfs: of all of it; a full-scale square wave has 0.
        excess_db: mean over bands of 200 to 4400 Hz, as the ear's critical bands lie, of the level above
            the floor.
        harmonicity: 0 to 1, height of the autocorrelation at the pitch of what stands out of the floor.
    """

    level_dbfs: float
    excess_db: float
    harmonicity: float


class VoiceActivity:
    """Turns a stream of samples into blocks of a tenth of a second; the same for every chunking.

    Args:
        rate_hz: samples a second, at least 8000.
    """

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._step = round(rate_hz * BLOCK_S / _FRAMES)
        self._size = 1 << round(rate_hz * 0.032 - 1).bit_length()  # 512 at 16 kHz
        self._window = np.hanning(self._size + 1)[:-1].astype(np.float32)
        self._scale = 2.0 / (self._size * float(np.sum(self._window.astype(np.float64) ** 2)))
        bin_hz = rate_hz / self._size
        self._edges = np.unique([round(hz / bin_hz) for hz in _BANDS_HZ if hz <= rate_hz / 2])
        self._top = int(self._edges[-1])
        self._fold = 1 << (round(2 * _PITCHED_HZ / bin_hz) - 1).bit_length()  # points of the autocorrelation
        self._pitched = slice(int(100.0 / bin_hz), min(self._top, self._fold // 2))
        fold_hz = self._fold * bin_hz
        self._lags = slice(int(fold_hz / _PITCH_HZ[1]), int(fold_hz / _PITCH_HZ[0]) + 1)
        self.reset()

    def reset(self) -> None:
        """Forgets everything: the next sample is the first of a stream, in an unknown room."""
        self._rest = np.zeros(self._size - self._step, np.float32)
        self._blocks = 0
        bins = self._size // 2 + 1
        self._groups: Float64 = np.full((round(MEMORY_S / BLOCK_S) // _GROUP, bins), np.inf)
        self._past: Float64 = np.full(bins, np.inf)  # least power of the finished groups
        self._now: Float64 = np.full(bins, np.inf)  # least power of the group under way

    def push(self, samples: NDArray[np.float32]) -> list[VoiceBlock]:
        """Returns the blocks that these samples (N,), mono in [-1, 1], complete."""
        buffer = np.concatenate([self._rest, samples])
        count = (len(buffer) - self._size + self._step) // (self._step * _FRAMES)
        if count <= 0:
            self._rest = buffer
            return []
        frames = sliding_window_view(buffer, self._size)[:: self._step][: count * _FRAMES]
        self._rest = buffer[count * _FRAMES * self._step :].copy()
        spectrum = np.fft.rfft(frames * self._window)
        power = (spectrum.real**2 + spectrum.imag**2).reshape(count, _FRAMES, -1) * self._scale
        means = power.mean(axis=1)  # (blocks, bins)
        totals = means[:, 2:].sum(axis=1).tolist()
        floors = np.stack([self._floor(mean, total) for mean, total in zip(means, totals, strict=True)])
        starts = self._edges[:-1]
        bands = np.add.reduceat(means[:, : self._top], starts, axis=1)
        quiet = np.add.reduceat(floors[:, : self._top], starts, axis=1)
        above = 10 * np.log10(np.maximum(bands / np.maximum(quiet, 1e-16), 1.0)).sum(axis=1) / len(starts)
        excess = [
            db if total > _LEAST_POWER else 0.0 for db, total in zip(above.tolist(), totals, strict=True)
        ]
        heights = [0.0] * count
        voices = [number for number in range(count) if excess[number] > _CALM_DB]
        if voices:
            part = self._pitched
            found = self._harmonicity(power[voices][:, :, part] - 3 * floors[voices][:, None, part])
            for number, height in zip(voices, found, strict=True):
                heights[number] = height
        levels = [10 * math.log10(max(total, 1e-20)) for total in totals]
        return [VoiceBlock(*block) for block in zip(levels, excess, heights, strict=True)]

    def _floor(self, power: Float64, total: float) -> Float64:
        """Returns the floor (bins,) with the mean power (bins,) of the next block, `total` in all."""
        if total > _LEAST_POWER:
            np.minimum(self._now, power, out=self._now)
        floor = np.minimum(self._past, self._now)
        self._blocks += 1
        if self._blocks % _GROUP == 0:
            self._groups[self._blocks // _GROUP % len(self._groups)] = self._now
            self._past, self._now = self._groups.min(axis=0), np.full_like(self._now, np.inf)
        return floor

    def _harmonicity(self, above: Float64) -> list[float]:
        """Returns the median pitch of the frames of each block: a knock reaches only into two of five.

        Args:
            above: (n, frames, bins of the pitched part) power above the floor; may be negative.
        """
        amplitude = np.zeros((*above.shape[:2], self._fold // 2 + 1))
        amplitude[:, :, self._pitched] = np.sqrt(np.maximum(above, 0.0))
        correlation = np.fft.irfft(amplitude, n=self._fold)
        whole = correlation[:, :, 0]
        heights = correlation[:, :, self._lags].max(axis=2) / np.maximum(whole, 1e-12)
        heights[whole < _FAINT * whole.max(axis=1, keepdims=True)] = 0.0
        return [float(height) for height in np.median(heights, axis=1)]
