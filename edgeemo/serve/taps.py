"""Looks at what sensors give on its way into the session: levels for the page, the newest picture."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.modality import AUDIO, TEXT, VIDEO
from edgeemo.sensors.base import Chunk, Clock, Sensor, SensorStatus

_FRESH_S = 1.0
"""A level or picture older than this is none: the device gives nothing now."""
_LEVEL_S = 0.5
_PATIENCE_S = 0.05
_WORDS_S = 10.0  # how long words count after they were said, as in the session's settings
_FLOOR_DBFS = -120.0
_STEP = 8  # every eighth pixel tells how bright a picture is


class Tap(Sensor):
    """A sensor that passes everything on and keeps what a page shows of it.

    It keeps references and two numbers; whoever shows them does the arithmetic, so that a hop waits for
    nothing. Closing forgets all of it.

    Args:
        sensor: whose chunks are passed on.
    """

    def __init__(self, sensor: Sensor) -> None:
        self.sensor = sensor
        self.modality, self.name = sensor.modality, sensor.name
        self._sensing = threading.Lock()
        self._fails = False
        self._lock = threading.Lock()
        self._sound: deque[tuple[float, float, int]] = deque()  # when, sum of squares, samples
        self._words: deque[tuple[float, int]] = deque()
        self._frames: deque[float] = deque(maxlen=64)
        self._frame: NDArray[Any] | None = None
        self._frame_s = -math.inf
        self._number = 0

    def start(self, clock: Clock) -> None:
        """Starts the sensor."""
        self.sensor.start(clock)

    def poll(self, timeout_s: float = 0.0) -> list[Chunk]:
        """Returns what the sensor gives, after a look at it."""
        try:
            with self._sensing:
                chunks = self.sensor.poll(timeout_s)
        except Exception:
            self._fails = True
            raise
        self._fails = False
        if isinstance(chunks, list):  # anybody may write a sensor; the session says what is wrong with it
            self._look(chunk for chunk in chunks if isinstance(chunk, Chunk))
        return chunks

    def close(self) -> None:
        """Closes the sensor and forgets what it saw."""
        try:
            self.sensor.close()
        finally:
            self.forget()

    def reopen(self) -> None:
        """Opens the device anew."""
        self.sensor.reopen()

    @property
    def status(self) -> SensorStatus:
        """How the sensor is.

        Some sensors are read by whoever asks, so that two threads at once would mix up the order of chunks;
        one that hangs in the other thread is asked all the same.
        """
        alone = self._sensing.acquire(timeout=_PATIENCE_S)
        try:
            return self.sensor.status
        finally:
            if alone:
                self._sensing.release()

    def state(self) -> str:
        """The state in a word, for those who look often; ``lost`` where the sensor raises."""
        try:
            return "lost" if self._fails else str(self.status.state)
        except Exception:  # anybody may write a sensor; the session says what is wrong with it
            return "lost"

    def forget(self) -> None:
        """Drops what was kept."""
        with self._lock:
            self._sound.clear()
            self._words.clear()
            self._frames.clear()
            self._frame, self._frame_s = None, -math.inf

    def _look(self, chunks: Iterable[Chunk]) -> None:
        now_s = time.monotonic()
        with self._lock:
            for chunk in chunks:
                if chunk.modality == AUDIO:
                    samples = chunk.array
                    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is no sound
                        square = float(np.dot(samples, samples))
                    self._sound.append((now_s, square, len(samples)))
                elif chunk.modality == VIDEO:
                    self._frame, self._frame_s = chunk.array, now_s
                    self._frames.append(now_s)
                    self._number += 1
                elif chunk.modality == TEXT:
                    self._words.append((now_s, len(chunk.text.split())))
            while self._sound and now_s - self._sound[0][0] > _LEVEL_S:
                self._sound.popleft()
            while self._words and now_s - self._words[0][0] > _WORDS_S:
                self._words.popleft()

    def newest_frame(self) -> tuple[int, NDArray[Any] | None]:
        """Returns the number of the newest picture and the picture (H, W, 3) BGR; None where it is not fresh.

        It is the session's own array: look at it, never write into it.
        """
        with self._lock:
            fresh = time.monotonic() - self._frame_s <= _FRESH_S
            return self._number, self._frame if fresh else None

    def meter(self) -> dict[str, float | int | None]:
        """Returns what a page shows of this modality; a value is None where nothing comes."""
        now_s = time.monotonic()
        if self.modality == AUDIO:
            return {"level_dbfs": self._level_dbfs(now_s)}
        if self.modality == VIDEO:
            _, frame = self.newest_frame()
            bright = None if frame is None else round(float(frame[::_STEP, ::_STEP].mean()) / 255.0, 3)
            return {"brightness": bright, "fps": self._fps(now_s)}
        if self.modality == TEXT:
            with self._lock:
                return {"words": sum(count for at_s, count in self._words if now_s - at_s <= _WORDS_S)}
        return {}

    def _level_dbfs(self, now_s: float) -> float | None:
        with self._lock:
            recent = [(square, count) for at_s, square, count in self._sound if now_s - at_s <= _LEVEL_S]
        samples = sum(count for _, count in recent)
        if not samples:
            return None
        mean = sum(square for square, _ in recent) / samples
        if not math.isfinite(mean):  # the session refuses such sound and says so
            return None
        return round(max(_FLOOR_DBFS, 10.0 * math.log10(mean)) if mean > 0 else _FLOOR_DBFS, 1)

    def _fps(self, now_s: float) -> float:
        with self._lock:
            times_s = [at_s for at_s in self._frames if now_s - at_s <= 2.0]
        if len(times_s) < 2 or times_s[-1] <= times_s[0]:
            return 0.0
        return round((len(times_s) - 1) / (times_s[-1] - times_s[0]), 1)


def tap_sensors(sensors: Iterable[Sensor]) -> list[Tap]:
    """Returns the sensors, each with a tap around it."""
    return [Tap(sensor) for sensor in sensors]
