"""Where in a stream of sound somebody speaks: energy above the room's own noise, and a pitch in it.

The floor of every frequency is the least power of the last seconds (minimum statistics, after Martin,
"Noise power spectral density estimation", IEEE TSAP 9(5), 2001): a room hums and hisses all the time, a
voice pauses between words. What is left above twice the floor is a voice where it has a pitch: a peak of
the autocorrelation between 80 and 400 Hz (compare Boersma, "Accurate short-term analysis of the fundamental
frequency", IFA Proceedings 17, 1993), which noise that was switched on, a door or a keyboard lack.
"""

from __future__ import annotations

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
        return [self._block(block) for block in power]

    def _block(self, frames: Float64) -> VoiceBlock:
        """Returns the measures of a block from its frames' power spectra (5, bins)."""
        mean = frames.mean(axis=0)
        total = float(mean[2:].sum())
        if total > _LEAST_POWER:
            np.minimum(self._now, mean, out=self._now)
        floor = np.minimum(self._past, self._now)
        self._blocks += 1
        if self._blocks % _GROUP == 0:
            self._groups[self._blocks // _GROUP % len(self._groups)] = self._now
            self._past, self._now = self._groups.min(axis=0), np.full_like(self._now, np.inf)
        if total <= _LEAST_POWER:
            return VoiceBlock(10 * np.log10(max(total, 1e-20)), 0.0, 0.0)
        starts = self._edges[:-1]
        bands = np.add.reduceat(mean[: self._top], starts)
        floors = np.add.reduceat(floor[: self._top], starts)
        above_db = 10 * np.log10(np.maximum(bands / np.maximum(floors, 1e-16), 1.0))
        excess_db = float(above_db.mean())
        harmonicity = self._harmonicity(frames, floor) if excess_db > _CALM_DB else 0.0
        return VoiceBlock(10 * float(np.log10(total)), excess_db, harmonicity)

    def _harmonicity(self, frames: Float64, floor: Float64) -> float:
        """Returns the second highest pitch of the frames: one frame alone may be chance."""
        above = np.zeros((len(frames), self._fold // 2 + 1))
        part = self._pitched
        above[:, part] = np.maximum(frames[:, part] - 3 * floor[part], 0.0)
        correlation = np.fft.irfft(np.sqrt(above), n=self._fold)
        height = correlation[:, self._lags].max(axis=1) / np.maximum(correlation[:, 0], 1e-12)
        return float(np.sort(height)[-2])
