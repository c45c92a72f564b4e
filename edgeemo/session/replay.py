"""A recording on a virtual clock: the same readings however it is cut and however fast it runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from edgeemo.sensors.base import Chunk
from edgeemo.sensors.drop import Drop, drop_chunks
from edgeemo.sensors.media import MediaFile
from edgeemo.session.reading import Reading
from edgeemo.session.states import Outage, State

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


def outages_of_media(media: MediaFile, modalities: Sequence[str]) -> dict[str, Outage]:
    """Returns the modalities that a recording does not have, each with the sentence that says so."""
    return {
        modality: Outage(State.ABSENT, media.status[modality].why)
        for modality in modalities
        if modality in media.status and media.status[modality].state == "absent"
    }
