"""Where a session's data come from by themselves: live sensors, or a recording."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext

from edgeemo.sensors.base import SensorStatus
from edgeemo.session.reading import Reading
from edgeemo.session.states import Outage
from edgeemo.session.streams.base import Stream

Read = Callable[[float], Reading]
"""Returns the reading at a capture time in seconds."""


class Source(ABC):
    """Gives data between hops, and says how it is.

    Attributes:
        name: in words; empty where there is nothing: an application then pushes.
        is_live: whether time goes on by itself. A recording's readings may wait for whoever takes them.
        late_hops: hops that passed without a reading.
        rejected: modality -> pieces of data that could not be used.
    """

    name: str
    is_live: bool
    late_hops: int
    rejected: dict[str, int]

    @abstractmethod
    def start(self, *, without: Callable[[str], bool]) -> None:
        """Opens what there is to open, but for muted modalities.

        Raises:
            SensorError: a device asked for by name does not exist.
        """

    @abstractmethod
    def poll(self) -> None:
        """Takes what has arrived by now."""

    def paused(self) -> AbstractContextManager[object]:
        """Lets nobody poll meanwhile; to be entered before the session's own lock."""
        return nullcontext()

    @abstractmethod
    def discard(self) -> None:
        """Drops what has arrived by now."""

    @abstractmethod
    def readings(self, hop_s: float, *, closed: threading.Event, read: Read) -> Iterator[Reading]:
        """Yields a reading at each hop until there is nothing more, or `closed` is set."""

    @abstractmethod
    def outages(self, streams: Mapping[str, Stream]) -> dict[str, Outage]:
        """Returns what is known of modalities that give nothing, now or at some time before."""

    @abstractmethod
    def statuses(self) -> dict[str, SensorStatus]:
        """Returns how each modality's sensor or track is."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of devices or files; may be called twice."""
