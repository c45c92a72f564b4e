"""What a connection to a device is: something that opens it, reads it, and can be given up."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from edgeemo.errors import EdgeEmoError, MissingDependencyError
from edgeemo.sensors.base import Chunk, Clock, SensorState

ConnectionKind = Literal["thread", "process", "inline"]


@dataclass(frozen=True)
class Gone:
    """Why there is no device, or no more data from it.

    Attributes:
        state: ``absent`` or ``lost``.
        why: one sentence for a person.
        retry: False where trying again is pointless.
        missing: feature, package and command where a library is missing.
    """

    state: SensorState
    why: str
    retry: bool = True
    missing: tuple[str, str, str] | None = None


class Device(Protocol):
    """An open device; all of it is called from one thread.

    It may have an attribute ``declared_rate``: the samples or frames a second that it promises.
    """

    def read(self) -> Chunk | Gone | None:
        """Waits for data; None after a short wait without any."""

    def close(self) -> None:
        """Releases the device."""


@dataclass(frozen=True)
class Recipe:
    """How a child process makes the same sensor again.

    Attributes:
        target: ``module:Class`` of a `LiveSensor`.
        options: its keyword arguments, of JSON's types.
    """

    target: str
    options: dict[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """What a connection needs to know of its sensor."""

    @property
    def name(self) -> str:
        """The device in words."""

    def open_device(self, clock: Clock) -> Device | Gone:
        """Opens the device; may block, may raise anything."""

    def recipe(self) -> Recipe:
        """How a child process makes it."""

    def glance(self) -> Gone | None:
        """Why no child process has to be started to know that the device is not there, else None."""

    def count_losses(self, *, drops: int = 0, overflows: int = 0) -> None:
        """Adds losses that the device itself knows of."""

    def note(self, about: dict[str, Any]) -> None:
        """Takes what is known of the device that was opened."""

    @property
    def patience(self) -> Any:
        """Deadlines and back-off, a frozen dataclass; a device may pass them on to its driver."""


Receiver = Callable[["Connection", Chunk], None]


class Connection(ABC):
    """One attempt to open a device and to read it until it fails or is given up.

    Attributes:
        started_s: when it began, on the session's clock.
        heard_s: when it gave data last, None before the first.
        outcome: why it ended, once `is_finished`.
        declared_rate: samples or frames a second that the device promises, None where it does not say.
        is_open: whether the device is open.
        waits: True while it has data that the queue has no room for: silence is then not the device's.
    """

    def __init__(self, source: Source, clock: Clock, receive: Receiver) -> None:
        self._source = source
        self._clock = clock
        self._receive = receive
        self._stop = threading.Event()
        self._finished = threading.Event()
        self.started_s = clock()
        self.heard_s: float | None = None
        self.outcome = Gone("lost", f"{source.name} stopped")
        self.declared_rate: float | None = None
        self.is_open = False
        self.waits = False

    @property
    def now_s(self) -> float:
        """Seconds on the session's clock."""
        return self._clock()

    @property
    def is_stopped(self) -> bool:
        """Whether it has been told to stop."""
        return self._stop.is_set()

    @property
    def is_finished(self) -> bool:
        """Whether it has ended and holds nothing any more."""
        return self._finished.is_set()

    @abstractmethod
    def begin(self) -> None:
        """Begins to open the device."""

    def stop(self) -> None:
        """Asks it to end; returns at once."""
        self._stop.set()

    def kill(self) -> None:  # noqa: B027 - threads cannot be ended
        """Ends it by force where that is possible; returns at once."""

    def join(self, timeout_s: float) -> bool:
        """Waits until it has ended, at most so long; returns whether it has."""
        return self._finished.wait(timeout_s)

    def pump(self) -> None:  # noqa: B027 - most connections read by themselves
        """Reads what is there, where nobody else does; called by whoever polls."""

    @property
    def watched_s(self) -> float | None:
        """Until when silence was noticed; None for connections that are always watched."""
        return None

    def _opened(self, device: Device) -> None:
        self.declared_rate = getattr(device, "declared_rate", None)
        self._source.note(dict(getattr(device, "about", {})))
        self.is_open = True


def gone_from_error(name: str, error: Exception) -> Gone:
    """Returns what a driver's error means; only a missing library is not worth another attempt."""
    if isinstance(error, MissingDependencyError):
        missing = (error.feature, error.package, error.command)
        return Gone("absent", str(error), retry=False, missing=missing)
    if isinstance(error, EdgeEmoError):
        return Gone("lost", str(error))
    return Gone("lost", f"{name} failed: {str(error) or type(error).__name__}")
