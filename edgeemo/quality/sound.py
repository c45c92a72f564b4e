"""What a microphone delivers, tenth of a second by tenth: voice, clipping, hum, and how they compare.

`SoundQuality` turns samples into `SoundBlock`s, `SoundColumns` a few seconds of them into the figures that
thresholds are about. Nothing here decides; sessions do, with the thresholds of their bundle.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeemo.quality.voice import BLOCK_S, VoiceActivity, VoiceBlock

FULL_SCALE = 0.98  # resampling moves clipped samples a little off 1.0
SILENT_DBFS = -200.0  # the level of exact zeros, a number that can be compared and printed

_MAINS_HZ = (50, 60)
_HUM_HARMONICS = 12
_HUM_EVERY = 5  # blocks between two looks for hum, which does not come and go
_HUM_RATE_HZ = 2000  # of the decimated sound that is looked at, a second of it
_QUIET, _LOUD = 0.1, 0.9  # quantiles of blocks between which somebody who speaks alone pauses
_BACKGROUND = 0.2  # quantile of blocks that is taken for background
_LOUD_VOICE = 0.75  # quantile of voiced blocks whose level is the voice's


class SoundBlock(NamedTuple):
    """Measures of a tenth of a second.

    Attributes:
        level_dbfs: of all of it, `SILENT_DBFS` where nothing is.
        excess_db: mean level over the room's noise, see `VoiceBlock`.
        harmonicity: 0 to 1, how clear a pitch is, see `VoiceBlock`.
        clipped: 0 to 1, part of the samples at full scale.
        peak: largest sample; exactly 0 where the device delivers nothing.
        hum: 0 to 1, part of the power of the last second at 50 or 60 Hz and their harmonics.
    """

    level_dbfs: float
    excess_db: float
    harmonicity: float
    clipped: float
    peak: float
    hum: float


class SoundFigures(NamedTuple):
    """What a voice has to do with what else is heard.

    Attributes:
        voiced_s: seconds with a voice.
        lead_db: how far the voiced blocks lie above the others, or above the least one where nearly all
            are voiced; 0 without a voice.
        noise_dbfs: level of the others.
    """

    voiced_s: float
    lead_db: float
    noise_dbfs: float


class Background(NamedTuple):
    """Whether somebody speaks alone: who does pauses, and a crowd never.

    Attributes:
        above_db: what the quiet blocks have above the room's noise.
        range_db: level of the loud blocks over the quietest ones.
    """

    above_db: float
    range_db: float


class SoundQuality:
    """Turns a stream of samples into blocks of a tenth of a second; the same for every chunking.

    Args:
        rate_hz: samples a second, at least 8000.
    """

    def __init__(self, rate_hz: int) -> None:
        self._voice = VoiceActivity(rate_hz)
        self._size = round(rate_hz * BLOCK_S)
        self._factor = max(1, rate_hz // _HUM_RATE_HZ)
        rate = rate_hz / self._factor
        count = self._size * round(1 / BLOCK_S) // self._factor
        lines = np.arange(1, _HUM_HARMONICS + 1)[:, None]
        self._lines = [
            np.unique(np.round(lines * mains * count / rate).astype(int) + np.array([-1, 0, 1]))
            for mains in _MAINS_HZ
        ]
        self._lines = [bins[bins <= count // 2] for bins in self._lines]
        self._lowest = round(40 * count / rate)
        self._taper = np.hanning(count + 1)[:-1]
        self._mean = np.full(self._factor, 1 / self._factor, np.float32)
        self.reset()

    def reset(self) -> None:
        """Forgets everything: the next sample is the first of a stream."""
        self._voice.reset()
        self._rest = np.zeros(0, np.float32)
        self._second: deque[NDArray[np.float32]] = deque(maxlen=round(1 / BLOCK_S))
        self._count, self._hum = 0, 0.0

    def push(self, samples: NDArray[np.float32]) -> list[SoundBlock]:
        """Returns the blocks that these samples (N,), mono in [-1, 1], complete."""
        heard = np.concatenate([self._rest, samples])
        voices = self._voice.push(samples)
        whole = heard[: len(voices) * self._size].reshape(-1, self._size)
        self._rest = heard[whole.size :].copy()
        if not voices:
            return []
        peaks = np.maximum(whole.max(axis=1), -whole.min(axis=1)).tolist()
        return [self._block(*each) for each in zip(whole, peaks, voices, strict=True)]

    def _block(self, samples: NDArray[np.float32], peak: float, voice: VoiceBlock) -> SoundBlock:
        full = float(np.count_nonzero(np.abs(samples) >= FULL_SCALE)) if peak >= FULL_SCALE else 0.0
        self._second.append(samples)
        self._count += 1
        if self._count % _HUM_EVERY == 0 and self._count * BLOCK_S >= 1:
            self._hum = self._hum_share()
        level = voice.level_dbfs if peak > 0 else SILENT_DBFS
        return SoundBlock(level, voice.excess_db, voice.harmonicity, full / len(samples), peak, self._hum)

    def _hum_share(self) -> float:
        whole = [block[: len(block) // self._factor * self._factor] for block in self._second]
        slow = np.concatenate(whole).reshape(-1, self._factor) @ self._mean
        spectrum = np.fft.rfft(slow * self._taper)
        power = spectrum.real**2 + spectrum.imag**2
        total = float(power[self._lowest :].sum())
        return max(float(power[bins].sum()) for bins in self._lines) / total if total > 0 else 0.0


def is_voiced(block: SoundBlock, *, excess_db: float, harmonicity: float) -> bool:
    """Whether somebody speaks: the block stands out of the room's noise and has a pitch."""
    return block.excess_db >= excess_db and block.harmonicity >= harmonicity


class SoundColumns:
    """Consecutive blocks, measure by measure: what is compared again and again lies together in memory.

    Attributes:
        levels: `SoundBlock.level_dbfs` of each.
        excesses: `SoundBlock.excess_db`.
        clipped: `SoundBlock.clipped`.
        peaks: `SoundBlock.peak`.
        hums: `SoundBlock.hum`.

    Args:
        blocks: the first ones.
    """

    def __init__(self, blocks: Iterable[SoundBlock] = ()) -> None:
        self.levels, self.excesses = array("d"), array("d")
        self.clipped, self.peaks, self.hums = array("d"), array("d"), array("d")
        self.add(blocks)

    def __len__(self) -> int:
        return len(self.levels)

    def add(self, blocks: Iterable[SoundBlock]) -> None:
        """Appends blocks."""
        for block in blocks:
            self.levels.append(block.level_dbfs)
            self.excesses.append(block.excess_db)
            self.clipped.append(block.clipped)
            self.peaks.append(block.peak)
            self.hums.append(block.hum)

    def drop(self, count: int) -> None:
        """Forgets the first blocks."""
        for column in (self.levels, self.excesses, self.clipped, self.peaks, self.hums):
            del column[:count]

    def compare(self, part: slice, voiced: Sequence[bool]) -> SoundFigures:
        """Returns the figures of a part, of at least one block.

        Args:
            part: from where to where.
            voiced: which of its blocks hold a voice.
        """
        levels = self.levels[part]
        others: list[float] = []
        voices: list[float] = []
        for level, voice in zip(levels, voiced, strict=True):
            (voices if voice else others).append(level)
        few = len(others) < max(1, len(levels) // 8)
        noise = min(levels) if few else _quantile(others, 0.5)
        return SoundFigures(
            voiced_s=len(voices) * BLOCK_S,
            lead_db=_quantile(voices, _LOUD_VOICE) - noise if voices else 0.0,
            noise_dbfs=noise,
        )

    def background(self, part: slice) -> Background:
        """Returns what lies behind the voice in a part of at least a few seconds."""
        levels = sorted(self.levels[part])
        return Background(self.above_room_db(part), _place(levels, _LOUD) - _place(levels, _QUIET))

    def above_room_db(self, part: slice) -> float:
        """Returns `Background.above_db` alone."""
        return _quantile(self.excesses[part], _BACKGROUND)


def compare(blocks: Sequence[SoundBlock], voiced: Sequence[bool]) -> SoundFigures:
    """Returns the figures of consecutive blocks.

    Args:
        blocks: at least one.
        voiced: which of them hold a voice.
    """
    return SoundColumns(blocks).compare(slice(None), voiced)


def background(blocks: Sequence[SoundBlock]) -> Background:
    """Returns what lies behind the voice in at least a few seconds of blocks."""
    return SoundColumns(blocks).background(slice(None))


def _quantile(values: Sequence[float], part: float) -> float:
    """Returns the value below which that part of a few values lies; far faster than numpy's."""
    return _place(sorted(values), part)


def _place(ascending: Sequence[float], part: float) -> float:
    return ascending[min(len(ascending) - 1, int(part * len(ascending)))]
