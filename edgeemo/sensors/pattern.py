"""Test patterns: sound and pictures made of nothing but the time, the same on every machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import InputError
from edgeemo.modality import AUDIO, VIDEO
from edgeemo.sensors.base import Chunk, Clock
from edgeemo.sensors.connections import Device, Gone
from edgeemo.sensors.live import LiveSensor
from edgeemo.sensors.supervision import Patience

_BLOCK_S = 0.05
_NOTES_HZ = (262, 294, 330, 349, 392, 440, 494, 523)  # a scale, one note each half second
_NOTE_S = 0.5
_LEVEL = 0.1  # -20 dBFS
_BARS = ((255, 255, 255), (0, 255, 255), (255, 255, 0), (0, 255, 0), (255, 0, 255), (0, 0, 255), (255, 0, 0))
_LAP_S = 4.0  # in which the white block crosses the picture


def sound_pattern(first: int, count: int, rate_hz: int) -> NDArray[np.float32]:
    """Returns ``count`` samples from sample ``first`` on: a scale at -20 dBFS, each note fading in and out.

    Returns:
        (count,) float32; the same however the samples are asked for.
    """
    index = np.arange(first, first + count)
    note_samples = round(_NOTE_S * rate_hz)
    note, within = np.divmod(index, note_samples)
    hz = np.asarray(_NOTES_HZ)[note % len(_NOTES_HZ)]
    seconds = within / rate_hz
    fade = np.clip(np.minimum(seconds, _NOTE_S - seconds) / 0.01, 0.0, 1.0)
    samples: NDArray[np.float32] = (_LEVEL * fade * np.sin(2 * np.pi * hz * seconds)).astype(np.float32)
    return samples


def picture_pattern(time_s: float, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Returns colour bars over which a white block moves to the right.

    Args:
        time_s: which moment is shown.
        size: (width, height) in pixels.

    Returns:
        (height, width, 3) uint8 BGR.
    """
    width, height = size
    colours = np.asarray(_BARS, np.uint8)
    row = colours[np.arange(width) * len(colours) // width] // 2
    picture = np.repeat(row[None], height, axis=0)
    side = max(1, height // 6)
    left = int((time_s % _LAP_S) / _LAP_S * max(1, width - side))
    picture[height // 2 : height // 2 + side, left : left + side] = 255
    return picture


class PatternMicrophone(LiveSensor):
    """A scale played for ever, in blocks of 50 ms on an exact time line.

    Args:
        rate_hz: samples a second.

    Raises:
        InputError: the rate is below 1000 Hz.
    """

    def __init__(self, *, rate_hz: int = 16000) -> None:
        if rate_hz < 1000:
            raise InputError(f"rate_hz must be at least 1000, got {rate_hz}")
        super().__init__(
            AUDIO,
            "sound pattern",
            capacity=100,
            policy="drop-oldest",
            patience=Patience(),
            connection="inline",
        )
        self._rate_hz = rate_hz

    def open_device(self, clock: Clock) -> Device | Gone:
        """Begins with the first note."""
        return _Pattern(clock, self._block, every_s=_BLOCK_S, declared_rate=float(self._rate_hz))

    def _block(self, number: int, time_s: float) -> Chunk:
        size = round(_BLOCK_S * self._rate_hz)
        return Chunk(AUDIO, time_s, sound_pattern(number * size, size, self._rate_hz), self._rate_hz)


class PatternCamera(LiveSensor):
    """Colour bars with a moving block, at an exact rate.

    Args:
        fps: frames a second.
        size: (width, height) in pixels.

    Raises:
        InputError: the rate or the size cannot be used.
    """

    def __init__(self, *, fps: float = 10.0, size: tuple[int, int] = (320, 240)) -> None:
        if not 0 < fps <= 1000:
            raise InputError(f"fps must be above 0 and at most 1000, got {fps}")
        if min(size) < 8:
            raise InputError(f"size must be at least 8x8 pixels, got {size[0]}x{size[1]}")
        super().__init__(
            VIDEO,
            "picture pattern",
            capacity=16,
            policy="drop-oldest",
            patience=Patience(),
            connection="inline",
        )
        self._fps, self._size = fps, size

    def open_device(self, clock: Clock) -> Device | Gone:
        """Begins with the block at the left."""
        return _Pattern(clock, self._frame, every_s=1.0 / self._fps, declared_rate=self._fps)

    def _frame(self, number: int, time_s: float) -> Chunk:
        return Chunk(VIDEO, time_s, picture_pattern(number / self._fps, self._size))


class _Pattern:
    """Gives piece after piece, each when it would have been captured whole."""

    def __init__(
        self, clock: Clock, make: Callable[[int, float], Chunk], *, every_s: float, declared_rate: float
    ) -> None:
        self._clock, self._make, self._every_s = clock, make, every_s
        self._start_s = clock()
        self._number = 0
        self.declared_rate = declared_rate

    def read(self) -> Chunk | Gone | None:
        time_s = self._start_s + self._number * self._every_s
        if time_s + self._every_s > self._clock() + 1e-9:
            return None
        self._number += 1
        return self._make(self._number - 1, time_s)

    def close(self) -> None:
        pass  # there is nothing to release
