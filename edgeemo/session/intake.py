"""The way into the streams: what an application pushes and what sensors give, stamped and checked."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from edgeemo.errors import InputError, MissingDependencyError
from edgeemo.features.resample import to_mono_float32
from edgeemo.modality import AUDIO, TEXT, VIDEO
from edgeemo.sensors.base import Chunk
from edgeemo.session.core import Core
from edgeemo.session.session_clock import SessionClock
from edgeemo.session.streams.audio import check_rate
from edgeemo.session.streams.series import SeriesStream

_PUSHES = {AUDIO: "audio", VIDEO: "frame", TEXT: "text"}


class Intake:
    """Puts data into the streams of a session; for one thread at a time.

    Args:
        core: whose streams.
        clock: stamps what comes without a time, and follows stamps that are ahead of it.
    """

    def __init__(self, core: Core, clock: SessionClock) -> None:
        self._core, self._clock = core, clock

    def push_audio(self, samples: NDArray[Any], *, rate_hz: int, time_s: float | None) -> None:
        """Takes sound of an application; see `Session.push_audio`."""
        stream = self._core.stream(AUDIO)
        mono = to_mono_float32(samples)
        check_rate(rate_hz)
        self._push_piece(stream, mono, length_s=len(mono) / rate_hz, rate_hz=rate_hz, time_s=time_s)

    def push_series(
        self, modality: str, samples: ArrayLike, *, rate_hz: float | None, time_s: float | None
    ) -> None:
        """Takes numbers of an application's own sensor; see `Session.push_series`."""
        stream = self._core.stream(modality)
        if not isinstance(stream, SeriesStream):
            raise InputError(
                f"{modality} takes no series of numbers; push it with push_{_PUSHES.get(modality, modality)}"
            )
        length_s = stream.length_s(samples, rate_hz=rate_hz)
        self._push_piece(stream, samples, length_s=length_s, rate_hz=rate_hz, time_s=time_s)

    def _push_piece(
        self, stream: Any, samples: Any, *, length_s: float, rate_hz: float | None, time_s: float | None
    ) -> None:
        """Pushes samples, the last of which were captured just now where no time is given."""
        if time_s is None:
            time_s = max(self._clock.now_s - length_s, stream.newest_s or 0.0)
        if not self._core.muted(stream.modality):
            stream.push(samples, rate_hz=rate_hz, time_s=time_s)
            stream.patience_s = 1.5 * length_s
            self._clock.follow(stream.newest_s or 0.0)

    def push(self, modality: str, data: Any, *, time_s: float | None) -> None:
        """Takes a frame or words of an application; see `Session.push_frame` and `Session.push_text`."""
        stream = self._core.stream(modality)
        if time_s is None:
            time_s = max(self._clock.now_s, stream.newest_s or 0.0)
        if not self._core.muted(modality):
            stream.push(data, time_s=time_s)
            self._clock.follow(stream.newest_s or 0.0)

    def take(self, chunk: Chunk) -> None:
        """Takes a chunk of a sensor or recording, unless nothing here wants it."""
        modality = chunk.modality
        if modality not in self._core.streams or self._core.muted(modality):
            return  # a recording may have more than the engines in use take
        stream = self._core.stream(modality)
        try:
            if modality == AUDIO or isinstance(stream, SeriesStream):
                stream.push(chunk.array, rate_hz=chunk.rate_hz, time_s=chunk.time_s)
            else:
                stream.push(chunk.data, time_s=chunk.time_s)
        except MissingDependencyError:
            return  # the stream says so in its state, for as long as it lasts
