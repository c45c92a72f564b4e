"""Words as a sensor: pushed by the application, read from standard input, or asked of a function."""

from __future__ import annotations

import codecs
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import IO

from edgeemo.errors import InputError
from edgeemo.modality import TEXT
from edgeemo.sensors.base import Chunk, Clock, Sensor, SensorStatus
from edgeemo.sensors.connections import Device, Gone
from edgeemo.sensors.connections.pipes import has_data
from edgeemo.sensors.live import LiveSensor
from edgeemo.sensors.queue import ChunkQueue
from edgeemo.sensors.supervision import Patience

MOST_CHARS = 10_000
"""The longest text taken at once: some 1,500 words, far more than any window of words holds."""

_WHENEVER = Patience(deadline_s=None)


class TextQueue(Sensor):
    """Words that the application pushes, from a speech recogniser or a chat, from any thread."""

    def __init__(self, name: str = "pushed text", *, capacity: int = 256) -> None:
        self.modality = TEXT
        self.name = name
        self._queue = ChunkQueue(capacity, "drop-oldest")
        self._lock = threading.Lock()
        self._clock: Clock | None = None
        self._idle = f"{name} has not been started"
        self._pushed = 0
        self._last_s: float | None = None

    def start(self, clock: Clock) -> None:
        """Begins to take words, timed by ``clock``."""
        self._clock = clock

    def push(self, text: str, *, time_s: float | None = None) -> None:
        """Adds words; white space alone is nothing.

        Args:
            text: at most `MOST_CHARS` characters.
            time_s: when they were said, on the session's clock; now if left out. A time before that of the
                last words counts as theirs.

        Raises:
            InputError: no str, too long, or a time that is not finite; also before `start`.
        """
        if not isinstance(text, str):
            raise InputError(f"text must be a str, got {type(text).__name__}")
        if len(text) > MOST_CHARS:
            raise InputError(f"text of {len(text)} characters; at most {MOST_CHARS} are taken at once")
        if self._clock is None:
            raise InputError(f"{self.name} takes words between start() and close()")
        words = text.strip()
        if not words:
            return
        with self._lock:
            at_s = self._clock() if time_s is None else time_s
            chunk = Chunk(TEXT, at_s if self._last_s is None else max(at_s, self._last_s), words)
            self._queue.put(chunk, cancelled=lambda: False)
            self._pushed, self._last_s = self._pushed + 1, chunk.time_s

    def poll(self, timeout_s: float = 0.0) -> list[Chunk]:
        """Returns what was pushed since the last poll."""
        return self._queue.take(timeout_s)

    def close(self) -> None:
        """Takes no more words; those not polled yet are forgotten."""
        self._clock = None
        self._idle = f"{self.name} is closed: it takes no words"
        self._queue.take()

    @property
    def status(self) -> SensorStatus:
        """``running`` between `start` and `close`."""
        running = self._clock is not None
        return SensorStatus(
            state="running" if running else "absent",
            why=f"waiting for {self.name}" if running else self._idle,
            chunks=self._pushed,
            drops=self._queue.drops,
            last_data_s=self._last_s,
        )


class StdinText(LiveSensor):
    """Lines of standard input, or of another stream; its end is ``lost`` with a sentence.

    Nothing is lost when lines come faster than they are taken: the writer waits. Of a line longer than
    `MOST_CHARS` the end is kept and the rest counted as a drop.
    """

    def __init__(self, stream: IO[str] | None = None, *, name: str = "standard input") -> None:
        super().__init__(TEXT, name, capacity=256, policy="block", patience=_WHENEVER)
        self._stream = stream

    def open_device(self, clock: Clock) -> Device | Gone:
        """The stream's file descriptor where it has one, else the stream itself."""
        stream = sys.stdin if self._stream is None else self._stream
        if stream is None or stream.closed:
            return Gone("absent", f"{self.name} is closed", retry=False)
        return _Lines(stream, self, clock)


class CallableText(LiveSensor):
    """Words from a function that is called again and again, in a thread of its own.

    Args:
        source: returns new words, or None or ``""`` while there are none; it may block. What it raises
            makes the sensor ``lost`` until it is called again, after the back-off.
        interval_s: pause between calls that gave nothing.
        name: for statuses.
    """

    def __init__(
        self, source: Callable[[], str | None], *, interval_s: float = 0.1, name: str = "text function"
    ) -> None:
        super().__init__(TEXT, name, capacity=256, policy="drop-oldest", patience=_WHENEVER)
        self._source = source
        self._interval_s = interval_s

    def open_device(self, clock: Clock) -> Device | Gone:
        """Nothing to open: the function is called as it is."""
        return _Calls(self._source, self._interval_s, clock)


class _Calls:
    def __init__(self, source: Callable[[], str | None], interval_s: float, clock: Clock) -> None:
        self._source, self._interval_s, self._clock = source, interval_s, clock

    def read(self) -> Chunk | Gone | None:
        words = self._source()
        if words and words.strip():
            return Chunk(TEXT, self._clock(), words.strip()[-MOST_CHARS:])
        time.sleep(self._interval_s)
        return None

    def close(self) -> None:
        pass


class _Lines:
    """Lines of a stream, read with `os.read`, which holds no lock of Python's.

    A thread blocked in ``sys.stdin`` would abort the interpreter when it shuts down.
    """

    def __init__(self, stream: IO[str], sensor: StdinText, clock: Clock) -> None:
        self._stream, self._sensor, self._clock = stream, sensor, clock
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""
        self._lines: list[str] = []
        self._ended = False
        try:
            self._file: int | None = stream.fileno()
        except (OSError, ValueError, AttributeError):
            self._file = None

    def read(self) -> Chunk | Gone | None:
        if not self._lines and not self._ended:
            self._fill()
        if self._lines:
            line = self._lines.pop(0).strip()
            if len(line) > MOST_CHARS:
                self._sensor.count_losses(drops=1)
            return Chunk(TEXT, self._clock(), line[-MOST_CHARS:]) if line else None
        return Gone("lost", f"{self._sensor.name} has ended", retry=False) if self._ended else None

    def close(self) -> None:
        pass  # the stream belongs to whoever opened it

    def _fill(self) -> None:
        if self._file is None:
            line = self._stream.readline()
            self._ended = not line
            self._lines = [line] if line else []
            return
        if not has_data(self._file, 0.1):
            return
        data = os.read(self._file, 65536)
        self._ended = not data
        text = self._rest + self._decoder.decode(data, final=self._ended)
        *self._lines, self._rest = text.split("\n")
        if self._ended and self._rest:
            self._lines, self._rest = [*self._lines, self._rest], ""
        elif len(self._rest) > 2 * MOST_CHARS:  # a line without end: keep what a window could still use
            self._rest = self._rest[-MOST_CHARS - 1 :]
