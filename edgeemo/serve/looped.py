"""A recording that plays again and again at its own pace, on one line of time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

from edgeemo.errors import InputError
from edgeemo.sensors.base import Chunk, Clock
from edgeemo.sensors.media import MediaFile
from edgeemo.sensors.recordings.playing import MediaSensor, Timeline


class LoopedMedia(MediaFile):
    """A recording whose every modality goes on from the beginning when its length is over.

    Raises:
        InputError, MissingDependencyError: as `MediaFile`; InputError also for one that declares no length.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        length_s = super().duration_s
        if not length_s:
            self.close()
            raise InputError(
                f"{self.name} does not say how long it is, so it cannot be played again and again"
            )
        self.length_s = length_s
        self._ended = False

    @property
    def duration_s(self) -> float | None:
        """It has no end."""
        return None

    def chunks_of(self, modality: str) -> Generator[Chunk, None, None]:
        """Returns an iteration without an end; the times of each lap follow those of the lap before."""
        if modality not in self.modalities:
            super().chunks_of(modality)  # refuses it
        return self._laps(modality)

    def _laps(self, modality: str) -> Generator[Chunk, None, None]:
        for lap in itertools.count():
            if self._ended:
                return
            empty = True
            for chunk in super().chunks_of(modality):
                if chunk.time_s >= self.length_s:  # the next lap has begun by then
                    break
                empty = False
                yield replace(chunk, time_s=chunk.time_s + lap * self.length_s)
            if empty:  # nothing to be had from it any more
                return

    def close(self) -> None:
        """Ends every iteration, as they have no end of their own."""
        self._ended = True
        super().close()


class LapTimeline(Timeline):
    """When the lap began that is under way: a sensor that is opened later begins in that lap.

    Args:
        length_s: of a lap.
    """

    def __init__(self, length_s: float) -> None:
        super().__init__()
        self._length_s = length_s

    def start_s(self, clock: Clock) -> float:
        """Returns the beginning of the lap of this moment."""
        first_s = super().start_s(clock)
        return first_s + math.floor((clock() - first_s) / self._length_s) * self._length_s


def play_again_and_again(media: LoopedMedia) -> list[MediaSensor]:
    """Returns a live sensor for each modality of a recording; together they play it without an end."""
    timeline = LapTimeline(media.length_s)
    return [MediaSensor(media, modality, timeline=timeline) for modality in media.modalities]
