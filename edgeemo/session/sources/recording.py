"""A recording on a virtual clock: the same readings however it is cut and however fast it runs."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from edgeemo.sensors.base import Chunk, SensorStatus
from edgeemo.sensors.drop import Drop, drop_chunks
from edgeemo.sensors.media import MediaFile
from edgeemo.session.reading import Reading
from edgeemo.session.sources.base import Read, Source
from edgeemo.session.states import Outage, State
from edgeemo.session.streams.base import Stream

_ROUNDING_S = 1e-6  # a recording of 3.0 s has a hop at 3.0 s


def replay(
    media: MediaFile,
    *,
    drops: Sequence[Drop],
    hop_s: float,
    push: Callable[[Chunk], None],
    read: Callable[[float], Reading],
) -> Iterator[Reading]:
    """Pushes a recording's chunks in capture order and yields a reading at each hop.

    A hop sees the chunks that begin before it. Time passes as the recording says, not as the clock does.
    A last reading is made where the recording ends, unless a hop lies there or just before.

    Args:
        media: the recording.
        drops: when which modality is taken away.
        hop_s: seconds between readings.
        push: takes one chunk.
        read: gives the reading at a capture time.
    """
    hops = (number * hop_s for number in itertools.count(1))
    next_s = next(hops)
    end_s = 0.0
    for chunk in drop_chunks(media, drops):
        while chunk.time_s >= next_s:
            yield read(next_s)
            next_s = next(hops)
        push(chunk)
        end_s = max(end_s, chunk.time_s + chunk.duration_s)
    end_s = max(end_s, media.duration_s or 0.0)
    while next_s <= end_s + _ROUNDING_S:
        yield read(next_s)
        next_s = next(hops)
    if end_s > next_s - 0.8 * hop_s:
        yield read(end_s)


class Recording(Source):
    """A recording in the place of sensors, each time from its beginning.

    Args:
        media: the recording, or its path.
        drops: when which modality is taken away.
        push: takes one chunk.

    Raises:
        InputError, MissingDependencyError: the recording cannot be read.
    """

    is_live = False

    def __init__(
        self, media: str | Path | MediaFile, *, drops: Sequence[Drop], push: Callable[[Chunk], None]
    ) -> None:
        self._owned = not isinstance(media, MediaFile)
        self._media = media if isinstance(media, MediaFile) else MediaFile(media)
        self._drops, self._push = tuple(drops), push
        self.name = self._media.name
        self.late_hops = 0
        self.rejected: dict[str, int] = {}

    def start(self, *, without: Callable[[str], bool]) -> None:
        """Nothing to open: each pass opens the file anew."""

    def poll(self) -> None:
        """Nothing arrives by itself."""

    def discard(self) -> None:
        """Nothing has arrived."""

    def readings(self, hop_s: float, *, closed: threading.Event, read: Read) -> Iterator[Reading]:
        """Yields the readings of one pass."""
        return replay(self._media, drops=self._drops, hop_s=hop_s, push=self._push, read=read)

    def outages(self, streams: Mapping[str, Stream]) -> dict[str, Outage]:
        """Returns the modalities that the recording does not have, each with the sentence that says so."""
        return {
            modality: Outage(State.ABSENT, status.why)
            for modality, status in self._media.status.items()
            if modality in streams and status.state == "absent"
        }

    def statuses(self) -> dict[str, SensorStatus]:
        """Returns how each track is at this point of the newest pass."""
        return dict(self._media.status)

    def close(self) -> None:
        """Closes the file, unless it was opened by somebody else."""
        if self._owned:
            self._media.close()
