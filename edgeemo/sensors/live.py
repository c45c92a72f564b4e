"""Live devices that may fail or hang: a connection that reads, a supervisor that notices and retries."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from typing import Any

from edgeemo.errors import InputError, MissingDependencyError, SensorError
from edgeemo.modality import AUDIO, VIDEO
from edgeemo.sensors.base import Chunk, Clock, Sensor, SensorStatus
from edgeemo.sensors.connections import (
    Connection,
    ConnectionKind,
    Device,
    Gone,
    InlineConnection,
    ProcessConnection,
    Recipe,
    ThreadConnection,
)
from edgeemo.sensors.pace import Pace
from edgeemo.sensors.queue import ChunkQueue, Policy
from edgeemo.sensors.supervision import Patience, Supervisor

log = logging.getLogger(__name__)

_CONNECTIONS: dict[str, type[Connection]] = {
    "thread": ThreadConnection,
    "process": ProcessConnection,
    "inline": InlineConnection,
}
_LEAST_SHARE = {AUDIO: 0.7, VIDEO: 0.2}
"""Share of the declared rate below which a device counts as lost: sound comes at exactly the rate that was
set, cameras give half of it and less in the dark."""
_UNITS = {AUDIO: "samples", VIDEO: "frames"}
_CLOSE_S = 0.9
_FIRST_WORD_S = 3.0
_AHEAD_S = 0.25
"""Stamps may be this far ahead of the clock, as those of a device with a clock of its own are."""


class LiveSensor(Sensor):
    """A sensor over a device that is opened and read by a connection, and opened again when it fails.

    Subclasses say how to open it. May be started again after `close`.

    Args:
        modality: what its chunks are of.
        name: the device in words.
        capacity: how many chunks wait for a poll.
        policy: what becomes of chunks that find no room; see `ChunkQueue`.
        patience: deadlines and back-off.
        connection: ``thread``; ``process`` for a driver that may block for ever; ``inline`` for a device that
            never blocks: it is read by whoever polls, which makes it deterministic on a virtual clock.
        seed: makes the jitter of the back-off the same every time; None for chance.

    Raises:
        InputError: an unknown connection or policy, or a capacity below 1.
    """

    def __init__(
        self,
        modality: str,
        name: str,
        *,
        capacity: int,
        policy: Policy,
        patience: Patience,
        connection: ConnectionKind = "thread",
        seed: int | None = None,
    ) -> None:
        if connection not in _CONNECTIONS:
            raise InputError(f"unknown connection {connection!r}; there are: {', '.join(_CONNECTIONS)}")
        self.modality = modality
        self.name = name
        self.connection_kind = connection
        self._queue = ChunkQueue(capacity, policy)
        self._supervisor = Supervisor(
            name,
            self._connection,
            patience=patience,
            pace=Pace(least_share=_LEAST_SHARE.get(modality), unit=_UNITS.get(modality, "pieces")),
            seed=seed,
        )
        self._about: dict[str, Any] = {}
        self._chunks = self._overflows = self._device_drops = 0
        self._last_data_s: float | None = None

    @abstractmethod
    def open_device(self, clock: Clock) -> Device | Gone:
        """Opens the device; called in the thread that will read it, may block, may raise anything."""

    def recipe(self) -> Recipe:
        """How a child process makes this sensor; for ``connection="process"``."""
        raise SensorError(f"{self.name} does not say how a child process opens it")

    def glance(self) -> Gone | None:
        """Why no child process has to be started to know that the device is not there, else None.

        Called before each attempt to open it in one; must be quick.
        """
        return None

    @property
    def by_name(self) -> bool:
        """Whether `start` has to refuse a device that does not exist, once opening it has shown that."""
        return False

    def check_name(self) -> None:
        """Raises SensorError where the device was asked for by name and does not exist."""

    @property
    def patience(self) -> Patience:
        """Deadlines and back-off."""
        return self._supervisor.patience

    @patience.setter
    def patience(self, patience: Patience) -> None:
        self._supervisor.patience = patience

    def count_losses(self, *, drops: int = 0, overflows: int = 0) -> None:
        """Adds losses that the device itself knows of."""
        with self._supervisor.lock:
            self._device_drops += drops
            self._overflows += overflows

    def take_losses(self) -> tuple[int, int]:
        """Returns drops and overflows that the device told of since the last call, and forgets them."""
        with self._supervisor.lock:
            losses = self._device_drops, self._overflows
            self._device_drops = self._overflows = 0
            return losses

    def note(self, about: dict[str, Any]) -> None:
        """Takes what is known of the device that was opened."""
        self._about = about

    def start(self, clock: Clock) -> None:
        """Begins to open and read the device; does nothing where it already does.

        Raises:
            SensorError: a device asked for by name does not exist; the message lists what exists.
            MissingDependencyError: the library for a device asked for by name is missing.
        """
        self.check_name()
        if self._supervisor.is_begun:
            return
        self._last_data_s = None
        self._supervisor.begin(clock)
        if self.by_name:
            self._await_first_word()

    def poll(self, timeout_s: float = 0.0) -> list[Chunk]:
        """Returns what has arrived, oldest first, and sees to it that a lost device is opened again."""
        self._pump()
        self._supervisor.supervise()
        self._pump()
        chunks = self._queue.take(timeout_s)
        connection = self._supervisor.connection
        if connection and self.connection_kind == "inline":
            connection.waits = False
        return chunks

    def reopen(self) -> None:
        """Closes the device and opens it again, as where its data cannot be trusted."""
        self._supervisor.reopen()

    def close(self) -> None:
        """Releases the device; waits at most a second for a driver that does not let go.

        From then on it is ``absent``, as before `start`: nothing was lost, it is not listened to.
        """
        until_s = time.monotonic() + _CLOSE_S
        for connection in self._supervisor.end():
            if not connection.join(max(0.0, until_s - time.monotonic())):
                log.warning("%s hangs in its driver; it is released when the driver returns", self.name)
        self._queue.take()

    @property
    def status(self) -> SensorStatus:
        """How the device is now: ``lost`` as soon as the deadline has passed without data."""
        supervisor = self._supervisor
        self._pump()
        supervisor.supervise()
        with supervisor.lock:
            now = supervisor.now()
            return SensorStatus(
                state=now.state,
                why=now.why,
                chunks=self._chunks,
                drops=self._queue.drops + self._device_drops,
                overflows=self._overflows,
                reconnects=max(0, supervisor.connections - 1),
                last_data_s=self._last_data_s,
                rate=supervisor.rate,
                declared_rate=supervisor.declared_rate,
                queued=len(self._queue),
                trouble_s=supervisor.trouble_s(),
            )

    def _await_first_word(self) -> None:
        """Waits a moment for the device to be open, or to be known not to exist."""
        connection = self._supervisor.connection
        until_s = time.monotonic() + _FIRST_WORD_S
        while connection and not connection.is_open and not connection.is_finished:
            if time.monotonic() > until_s:
                return
            time.sleep(0.005)
        if connection and connection.is_finished and connection.outcome.state == "absent":
            self.close()
            gone = connection.outcome
            raise MissingDependencyError(*gone.missing) if gone.missing else SensorError(gone.why)

    def _connection(self, clock: Clock) -> Connection:
        return _CONNECTIONS[self.connection_kind](self, clock, self._take)

    def _pump(self) -> None:
        connection = self._supervisor.connection
        if connection:
            connection.pump()

    def _take(self, connection: Connection, chunk: Chunk) -> None:
        if not self._is_plausible(connection, chunk):
            self.count_losses(drops=1)
            return
        amount = len(chunk.array) if chunk.rate_hz else 1
        if not self._supervisor.heard(connection, amount, declared_rate=chunk.rate_hz):
            return
        with self._supervisor.lock:
            self._chunks += 1
            self._last_data_s = chunk.time_s
        if self.connection_kind == "inline":
            self._queue.put(chunk, cancelled=lambda: connection.is_stopped)
            connection.waits = self._queue.is_full
        else:
            connection.waits = self._queue.is_full
            self._queue.put(chunk, cancelled=lambda: connection.is_stopped)
            connection.waits = False

    def _is_plausible(self, connection: Connection, chunk: Chunk) -> bool:
        """False for stamps of a device whose clock is wrong: they would pass old data for fresh."""
        ahead_s = chunk.time_s - connection.now_s
        if ahead_s > _AHEAD_S:
            self._supervisor.refuse(f"what it sends is stamped {ahead_s:.1f} s ahead of the clock")
            return False
        if self._last_data_s is not None and chunk.time_s < self._last_data_s:
            self._supervisor.refuse("its time stamps go back")
            return False
        return True
