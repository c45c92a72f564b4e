"""A recording as live sensors: its sound, pictures and words at the pace at which they were recorded."""

from __future__ import annotations

import math
import threading
import time

from edgeemo.modality import TEXT
from edgeemo.sensors.base import Chunk, Clock
from edgeemo.sensors.connections import ConnectionKind, Device, Gone
from edgeemo.sensors.live import LiveSensor
from edgeemo.sensors.media import MediaFile
from edgeemo.sensors.supervision import Patience

_PATIENCE = Patience(reopen_s=math.inf, open_s=math.inf)  # a file does not hang: its gaps are its own
_LOOK_S = 0.02


class MediaSensor(LiveSensor):
    """One modality of a recording, played once. Nothing is lost: it waits where nobody polls.

    Args:
        media: the recording.
        modality: which of its modalities.
        timeline: what the sensors of one recording share, so that they stay together.
        connection: ``thread``, or ``inline`` to play it on a virtual clock.

    Raises:
        InputError: the recording has no such modality.
    """

    def __init__(
        self, media: MediaFile, modality: str, *, timeline: Timeline, connection: ConnectionKind = "thread"
    ) -> None:
        super().__init__(
            modality,
            f"{modality} of {media.name}",
            capacity=64,
            policy="block",
            patience=Patience(deadline_s=None) if modality == TEXT else _PATIENCE,
            connection=connection,
        )
        media.chunks_of(modality)  # refuses a modality that it has not
        self._media, self._timeline = media, timeline

    def open_device(self, clock: Clock) -> Device | Gone:
        """Goes on where the recording is by now."""
        start_s = self._timeline.start_s(clock)
        waits_s = 0.0 if self.connection_kind == "inline" else _LOOK_S
        return _Player(self._media, self.modality, clock, name=self.name, start_s=start_s, waits_s=waits_s)


class Timeline:
    """When a recording began to play: when the first of its sensors was opened."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._start_s: float | None = None

    def start_s(self, clock: Clock) -> float:
        """Returns the beginning; the first call makes it."""
        with self._lock:
            if self._start_s is None:
                self._start_s = clock()
            return self._start_s


def play(media: MediaFile, *, connection: ConnectionKind = "thread") -> list[MediaSensor]:
    """Returns a live sensor for each modality of a recording; together they play it once, at its own pace.

    A sensor that is closed and started again, as by muting, goes on where the recording is by then.

    Args:
        media: the recording; stays the caller's to close.
        connection: ``thread``, or ``inline`` to play it on a virtual clock.
    """
    timeline = Timeline()
    return [
        MediaSensor(media, modality, timeline=timeline, connection=connection)
        for modality in media.modalities
    ]


class _Player:
    """Gives each chunk when it would have been captured whole."""

    def __init__(
        self, media: MediaFile, modality: str, clock: Clock, *, name: str, start_s: float, waits_s: float
    ) -> None:
        self._clock, self._name, self._start_s, self._waits_s = clock, name, start_s, waits_s
        self._end_s = media.duration_s or 0.0
        self._chunks = media.chunks_of(modality)
        self._missed_s = clock() - start_s
        self._next = self._ahead()

    def read(self) -> Chunk | Gone | None:
        chunk = self._next
        due_s = self._end_s if chunk is None else chunk.time_s + chunk.duration_s
        left_s = self._start_s + due_s - self._clock()
        if left_s > 1e-9:
            time.sleep(min(left_s, self._waits_s))
            return None
        if chunk is None:
            return Gone("lost", f"{self._name} has ended", retry=False)
        self._next = self._ahead()
        return Chunk(chunk.modality, self._start_s + chunk.time_s, chunk.data, chunk.rate_hz)

    def close(self) -> None:
        self._chunks.close()

    def _ahead(self) -> Chunk | None:
        for chunk in self._chunks:
            self._end_s = max(self._end_s, chunk.time_s + chunk.duration_s)
            if chunk.time_s >= self._missed_s:
                return chunk
        return None
