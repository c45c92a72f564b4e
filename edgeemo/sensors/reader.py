"""Live devices that may fail or hang: a thread that reads, a deadline that notices, a back-off that retries.

Every connection to a device has a daemon thread of its own that opens it, reads it and closes it. A thread
that hangs in a driver is left behind (it closes its device when the driver lets it go) and never holds up
the session. Who polls also supervises: deadlines and back-off run on the clock given to `LiveSensor.start`.
"""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgeemo.errors import EdgeEmoError, MissingDependencyError
from edgeemo.sensors.base import Chunk, Clock, Sensor, SensorState, SensorStatus
from edgeemo.sensors.queue import ChunkQueue, Policy

log = logging.getLogger(__name__)

_MOST_HUNG = 4  # threads left behind in a driver before waiting for one of them to come back
_STEADY_S = 2.0  # a connection that lasted this long starts the back-off anew


@dataclass(frozen=True)
class Gone:
    """Why there is no device, or no more data from it; ``retry`` False where trying again is pointless."""

    state: SensorState
    why: str
    retry: bool = True


class Device(Protocol):
    """An open device; all of it is called from one thread."""

    def read(self) -> Chunk | Gone | None:
        """Waits for data; None after a short wait without any."""

    def close(self) -> None:
        """Releases the device."""


@dataclass(frozen=True)
class Patience:
    """How long a sensor is waited for, in seconds.

    Attributes:
        deadline_s: without data for this long it is ``lost``; None for sources that are silent at will.
        reopen_s: without data for this long the device is opened again.
        open_s: how long opening may take up to the first data.
        first_wait_s: pause before the first attempt to open it again; doubles with each one.
        most_wait_s: the longest pause.
        jitter: pauses vary by up to this share, so that many devices do not retry in step.
    """

    deadline_s: float | None = 0.5
    reopen_s: float = 2.0
    open_s: float = 5.0
    first_wait_s: float = 0.25
    most_wait_s: float = 5.0
    jitter: float = 0.25

    def pause_s(self, failures: int, random: np.random.Generator) -> float:
        """Returns the pause after so many failed attempts in a row."""
        pause_s = min(self.most_wait_s, self.first_wait_s * 2.0 ** min(failures, 30))
        return pause_s * (1.0 + self.jitter * float(random.uniform(-1.0, 1.0)))


class LiveSensor(Sensor):
    """A sensor over a device that is opened and read in a thread, and opened again when it fails.

    Subclasses say how to open it. May be started again after `close`.
    """

    def __init__(
        self,
        modality: str,
        name: str,
        *,
        capacity: int,
        policy: Policy,
        patience: Patience,
    ) -> None:
        self.modality = modality
        self.name = name
        self.patience = patience
        self._queue = ChunkQueue(capacity, policy)
        self._random = np.random.default_rng()
        self._lock = threading.RLock()
        self._clock: Clock | None = None
        self._reader: _Reader | None = None
        self._hung: list[_Reader] = []
        self._gone = Gone("absent", f"{name} has not been started")
        self._failures = 0
        self._next_try_s = 0.0
        self._chunks = self._overflows = self._device_drops = 0
        self._connections = 0  # that gave data
        self._last_data_s: float | None = None

    @abstractmethod
    def open_device(self, clock: Clock) -> Device | Gone:
        """Opens the device; called in the thread that will read it, may block, may raise anything."""

    def check_name(self) -> None:
        """Raises SensorError where the device was asked for by name and does not exist."""

    def count_losses(self, *, drops: int = 0, overflows: int = 0) -> None:
        """Adds losses that the device itself knows of."""
        with self._lock:
            self._device_drops += drops
            self._overflows += overflows

    def start(self, clock: Clock) -> None:
        """Begins to open and read the device; does nothing where it already does.

        Raises:
            SensorError: a device asked for by name does not exist; the message lists what exists.
            MissingDependencyError: the library for a device asked for by name is missing.
        """
        self.check_name()
        with self._lock:
            if self._clock is None:
                self._clock = clock
                self._failures = 0
                self._gone = Gone("lost", f"opening {self.name}")
                self._connect(clock)

    def poll(self, timeout_s: float = 0.0) -> list[Chunk]:
        """Returns what has arrived, oldest first, and sees to it that a lost device is opened again."""
        self._supervise()
        return self._queue.take(timeout_s)

    def close(self) -> None:
        """Releases the device; waits at most a second for a driver that does not let go.

        From then on it is ``absent``, as before `start`: nothing was lost, it is not listened to.
        """
        with self._lock:
            reader, self._reader, self._clock = self._reader, None, None
            self._gone = Gone("absent", f"{self.name} is closed: nothing is read from it", retry=False)
        if reader:
            reader.stop()
            if not reader.join(1.0):
                self._hung.append(reader)
                log.warning("%s hangs in its driver; it is released when the driver returns", self.name)
        self._queue.take()

    @property
    def status(self) -> SensorStatus:
        """How the device is now: ``lost`` as soon as the deadline has passed without data."""
        self._supervise()
        with self._lock:
            gone = self._now()
            return SensorStatus(
                state=gone.state,
                why=gone.why,
                chunks=self._chunks,
                drops=self._queue.drops + self._device_drops,
                overflows=self._overflows,
                reconnects=max(0, self._connections - 1),
                last_data_s=self._last_data_s,
            )

    def _now(self) -> Gone:
        reader, deadline_s = self._reader, self.patience.deadline_s
        if reader is None or self._clock is None:
            return self._gone
        if deadline_s is None:
            return Gone("running", f"reading {self.name}") if reader.is_open else self._gone
        if reader.heard_s is None:
            return self._gone
        silent_s = self._clock() - reader.heard_s
        if silent_s > deadline_s:
            return Gone("lost", f"no data from {self.name} for {silent_s:.1f} s")
        return Gone("running", f"reading {self.name}")

    def _supervise(self) -> None:
        with self._lock:
            if self._clock is None:
                return
            now_s, reader = self._clock(), self._reader
            self._hung = [hung for hung in self._hung if not hung.is_finished]
            if reader is None:
                if self._gone.retry and now_s >= self._next_try_s:
                    self._connect(self._clock)
            elif reader.is_finished:
                self._disconnect(reader.outcome, now_s)
            elif self.patience.deadline_s is not None:
                limit_s = self.patience.open_s if reader.heard_s is None else self.patience.reopen_s
                since_s = reader.started_s if reader.heard_s is None else reader.heard_s
                if now_s - since_s > limit_s:
                    reader.stop()
                    self._hung.append(reader)
                    self._disconnect(Gone("lost", f"no data from {self.name} for {limit_s:g} s"), now_s)

    def _connect(self, clock: Clock) -> None:
        if len(self._hung) >= _MOST_HUNG:
            self._gone = Gone("lost", f"{self.name}: {len(self._hung)} earlier attempts hang in its driver")
            return
        self._reader = _Reader(self, clock)
        self._reader.begin()

    def _disconnect(self, gone: Gone, now_s: float) -> None:
        reader, patience = self._reader, self.patience
        if reader and reader.heard_s is not None and reader.heard_s - reader.started_s > _STEADY_S:
            self._failures = 0
        wait_s = patience.pause_s(self._failures, self._random)
        if gone != self._gone:
            log.info(
                "%s: %s%s", self.name, gone.why, f"; next attempt in {wait_s:.1f} s" if gone.retry else ""
            )
        self._failures += 1
        self._next_try_s = now_s + wait_s
        self._gone, self._reader = gone, None

    def _receive(self, reader: _Reader, chunk: Chunk) -> None:
        with self._lock:
            if reader is not self._reader or self._clock is None:
                return
            if reader.heard_s is None:
                self._connections += 1
            reader.heard_s = self._clock()
            self._chunks += 1
            self._last_data_s = chunk.time_s
        self._queue.put(chunk, cancelled=lambda: reader.is_stopped)


class _Reader:
    """One connection to a device, in a thread of its own."""

    def __init__(self, sensor: LiveSensor, clock: Clock) -> None:
        self._sensor = sensor
        self._clock = clock
        self._stop = threading.Event()
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"edgeemo {sensor.name}", daemon=True)
        self.started_s = clock()
        self.heard_s: float | None = None
        self.is_open = False
        self.outcome = Gone("lost", f"{sensor.name} stopped")

    @property
    def is_stopped(self) -> bool:
        return self._stop.is_set()

    @property
    def is_finished(self) -> bool:
        return self._finished.is_set()

    def begin(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """True if the thread has ended."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return self.is_finished

    def _run(self) -> None:
        name = self._sensor.name
        try:
            device = self._sensor.open_device(self._clock)
            if isinstance(device, Gone):
                self.outcome = device
                return
            try:
                self.is_open = True
                self._read_from(device)
            finally:
                device.close()
        except MissingDependencyError as error:
            self.outcome = Gone("absent", str(error), retry=False)
        except EdgeEmoError as error:
            self.outcome = Gone("lost", str(error))
        except Exception as error:  # whatever a driver raises becomes a status, and is tried again
            log.debug("%s failed", name, exc_info=True)
            self.outcome = Gone("lost", f"{name} failed: {str(error) or type(error).__name__}")
        finally:
            self._finished.set()

    def _read_from(self, device: Device) -> None:
        while not self._stop.is_set():
            got = device.read()
            if isinstance(got, Gone):
                self.outcome = got
                return
            if got is not None:
                self._sensor._receive(self, got)
