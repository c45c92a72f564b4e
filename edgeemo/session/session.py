"""The session: what an application embeds."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle import Bundle, Manifest
from edgeemo.errors import EdgeEmoError, InputError
from edgeemo.features.resample import to_mono_float32
from edgeemo.sensors.base import Chunk, Sensor
from edgeemo.sensors.drop import Drop
from edgeemo.sensors.media import MediaFile
from edgeemo.session.core import Core
from edgeemo.session.reading import Reading
from edgeemo.session.replay import outages_of_media, replay
from edgeemo.session.settings import Settings, settings_from_thresholds
from edgeemo.session.snapshot import EngineOptions, open_snapshot
from edgeemo.session.states import Outage, State
from edgeemo.session.stats import SessionStats, latency_percentiles

if TYPE_CHECKING:
    from typing_extensions import Self

log = logging.getLogger(__name__)

DEFAULT_BUNDLE = Path(__file__).resolve().parent.parent / "assets" / "live"
"""The bundle that ships inside the package."""

_POLL_S = 0.01
_noticed: set[str] = set()


class Session:
    """Readings from whatever sensors are alive right now.

    Push: call `push_audio`, `push_frame`, `push_text` with what the application captures and `read` when
    it wants to know. Pull: give sensors or a recording and iterate. Safe to use from several threads.

    Args:
        bundle: a bundle, its folder, or None for the one that ships with edgeemo.
        sensors: live sensors that the session starts, polls and closes; at most one a modality.
        media: a recording to replay on a virtual clock, instead of sensors.
        drops: when which modality of the recording is taken away, to rehearse a failure.
        engines: which engines are opened, and how.
        settings: deadlines, fills and smoothing; None for the bundle's own.
        clock: seconds on a clock that never goes back.

    Raises:
        BundleError: the bundle is incomplete, truncated or tampered with.
        MissingDependencyError: no backend is installed; the message says which extra to install.
        InputError: both sensors and a recording, or two sensors of one modality.
        InputError, MissingDependencyError: the recording cannot be read.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle | None = None,
        *,
        sensors: Sequence[Sensor] = (),
        media: str | Path | MediaFile | None = None,
        drops: Sequence[Drop] = (),
        engines: EngineOptions | None = None,
        settings: Settings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if sensors and media is not None:
            raise InputError("a session takes sensors or a recording, not both")
        self._sensors = {sensor.modality: sensor for sensor in sensors}
        if len(self._sensors) != len(sensors):
            raise InputError("a session takes at most one sensor for each modality")
        self._media = media if media is None or isinstance(media, MediaFile) else MediaFile(media)
        self._drops = tuple(drops)
        self._bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle or DEFAULT_BUNDLE)
        self._snapshot = open_snapshot(self._bundle, engines or EngineOptions())
        manifest = self._snapshot.manifest
        _notice(manifest)
        self._core = Core(self._snapshot, settings or settings_from_thresholds(manifest.thresholds))
        self._clock = clock
        self._start_s = clock()
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._started = False
        self._last_read_s = 0.0
        self._late_hops = 0
        self._rejected: dict[str, int] = {}

    @property
    def manifest(self) -> Manifest:
        """What the bundle in use says about itself."""
        return self._snapshot.manifest

    @property
    def now_s(self) -> float:
        """Seconds on the session's clock, which starts at 0."""
        return self._clock() - self._start_s

    def push_audio(self, samples: NDArray[Any], *, rate_hz: int, time_s: float | None = None) -> None:
        """Takes sound that the application captured.

        Args:
            samples: (N,) mono or (N, channels), float in [-1, 1], int16 or int32.
            rate_hz: samples a second.
            time_s: capture time of the first sample on the session's clock; None means that the last
                one was captured just now (pushes that come faster than that follow each other).

        Raises:
            InputError: the samples are not finite, of another shape or type, or the time goes back; the
                session goes on as if they had not been pushed.
            SubsetError: the engines in use take no audio.
        """
        with self._lock:
            stream = self._core.stream("audio")
            mono = to_mono_float32(samples)
            if time_s is None:
                time_s = max(self.now_s - len(mono) / max(rate_hz, 1), stream.newest_s or 0.0)
            if not self._core.muted("audio"):
                stream.push(mono, rate_hz=rate_hz, time_s=time_s)

    def push_frame(self, frame: NDArray[np.uint8], *, time_s: float | None = None) -> None:
        """Takes a picture that the application captured.

        Args:
            frame: (H, W, 3) BGR or (H, W) grey, uint8.
            time_s: capture time on the session's clock; None means now.

        Raises:
            InputError: the frame is of another shape or type, or the time goes back; the session goes
                on as if it had not been pushed.
            SubsetError: the engines in use take no video.
        """
        self._push("video", frame, time_s)

    def push_text(self, text: str, *, time_s: float | None = None) -> None:
        """Takes words that were said, such as a speech recogniser's result.

        Args:
            text: words; of an enormous text only the last ones count.
            time_s: when they were said, on the session's clock; None means now.

        Raises:
            InputError: not a str, or the time goes back; the session goes on as if nothing had come.
            SubsetError: the engines in use take no text.
        """
        self._push("text", text, time_s)

    def _push(self, modality: str, data: Any, time_s: float | None) -> None:
        with self._lock:
            stream = self._core.stream(modality)
            if time_s is None:
                time_s = max(self.now_s, stream.newest_s or 0.0)
            if not self._core.muted(modality):
                stream.push(data, time_s=time_s)

    def read(self, *, at_s: float | None = None) -> Reading:
        """Returns what can be said now about what was pushed.

        Args:
            at_s: capture time on the session's clock; None means now. Nothing captured later counts.

        Raises:
            InputError: `at_s` lies before the last reading.
        """
        with self._lock:
            if at_s is None:
                newest = [s.newest_s for s in self._core.streams.values() if s.newest_s is not None]
                at_s = max(self.now_s, self._last_read_s, *newest, 0.0)
            if at_s < self._last_read_s:
                raise InputError(
                    f"readings go forward in time: {at_s:.3f} s lies before the last one, "
                    f"{self._last_read_s:.3f} s; call reset() before a new recording"
                )
            self._last_read_s = at_s
            return self._core.read(at_s, self._outages())

    def reset(self) -> None:
        """Starts again as if nothing had ever been pushed; what is muted stays muted."""
        with self._lock:
            self._core.reset()
            self._last_read_s = 0.0
            self._start_s = self._clock()

    def mute(self, modality: str) -> None:
        """Switches a modality off: its device is closed and nothing that it saw is used any more.

        Raises:
            SubsetError: the engines in use have no such modality.
        """
        with self._lock:
            self._core.mute(modality, True)
            if modality in self._sensors:
                self._sensors[modality].close()

    def unmute(self, modality: str) -> None:
        """Switches a modality on again.

        Raises:
            SubsetError: the engines in use have no such modality.
        """
        with self._lock:
            was_muted = self._core.muted(modality)
            self._core.mute(modality, False)
            if was_muted and self._started and modality in self._sensors:
                self._sensors[modality].start(lambda: self.now_s)

    def __iter__(self) -> Iterator[Reading]:
        if self._media is not None:
            self.reset()
            return replay(
                self._media,
                drops=self._drops,
                hop_s=self.manifest.hop_s,
                push=self._take,
                read=lambda at_s: self.read(at_s=at_s),
            )
        if not self._sensors:
            raise InputError(
                "nothing to iterate over: give the session sensors=[...] or media=..., or push and read()"
            )
        return self._follow()

    def _follow(self) -> Iterator[Reading]:
        """Yields a reading each hop from live sensors until the session is closed."""
        self._start_sensors()
        hop_s = self.manifest.hop_s
        for number in itertools.count(int(self.now_s / hop_s) + 1):
            if self.now_s > (number + 1) * hop_s:
                self._late_hops += 1  # the application or the machine was busy for a whole hop
                continue
            while not self._closed.is_set():
                self._poll_sensors()
                left_s = number * hop_s - self.now_s
                if left_s <= 0:
                    break
                self._closed.wait(min(_POLL_S, left_s))
            if self._closed.is_set():
                return
            yield self.read(at_s=max(number * hop_s, self._last_read_s))

    def _start_sensors(self) -> None:
        with self._lock:
            if self._started:
                return
            self._started = True
            for modality, sensor in self._sensors.items():
                if not self._core.muted(modality):
                    sensor.start(lambda: self.now_s)

    def _poll_sensors(self) -> None:
        for modality, sensor in self._sensors.items():
            for chunk in sensor.poll():
                try:
                    self._take(chunk)
                except EdgeEmoError as error:
                    # One bad chunk of a live device must not end the session; it is counted and said.
                    if not self._rejected.get(modality):
                        log.warning("%s from %s was not used: %s", modality, sensor.name, error)
                    self._rejected[modality] = self._rejected.get(modality, 0) + 1

    def _take(self, chunk: Chunk) -> None:
        if chunk.modality not in self._core.streams:
            return  # a recording may have more than the engines in use take
        if chunk.modality == "audio":
            self.push_audio(chunk.array, rate_hz=chunk.rate_hz or 0, time_s=chunk.time_s)
        else:
            self._push(chunk.modality, chunk.data, chunk.time_s)

    def _outages(self) -> dict[str, Outage]:
        if self._media is not None:
            return outages_of_media(self._media, tuple(self._core.streams))
        if not self._sensors:
            return {}
        outages = {
            modality: Outage(State.ABSENT, "no sensor was given for it")
            for modality in self._core.streams
            if modality not in self._sensors
        }
        for modality, sensor in self._sensors.items():
            status = sensor.status
            if status.state != "running":
                outages[modality] = Outage(State(status.state), status.why)
        return outages

    def stats(self) -> SessionStats:
        """Returns what the session has done so far."""
        with self._lock:
            runners = {
                **{f"stem.{name}": runner for name, runner in self._snapshot.stems.items()},
                **self._snapshot.engines,
            }
            sensors = {name: sensor.status for name, sensor in self._sensors.items()}
            if self._media is not None:
                sensors = dict(self._media.status)
            return SessionStats(
                hops=self._core.hops,
                late_hops=self._late_hops,
                swaps=self._core.swaps,
                rejected=dict(self._rejected),
                latency_ms=latency_percentiles(self._core.latencies_ms),
                sensors=sensors,
                engines={
                    name: f"{runner.backend}, {runner.choice or runner.variant}"
                    for name, runner in runners.items()
                },
            )

    def close(self) -> None:
        """Closes devices, recording and engines; an iteration under way ends. May be called twice."""
        self._closed.set()
        for sensor in self._sensors.values():
            sensor.close()
        with self._lock:
            if self._media is not None:
                self._media.close()
            self._snapshot.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        source = "push"
        if self._media is not None:
            source = self._media.name
        elif self._sensors:
            source = "+".join(self._sensors)
        state = ", closed" if self._closed.is_set() else ""
        engines = ", ".join(f"{subset}.{r.variant}" for subset, r in self._snapshot.engines.items())
        return f"<Session of {self.manifest.model_id!r} from {source}{state}: {engines}>"


def _notice(manifest: Manifest) -> None:
    """Says the licence's notice once in a process."""
    licence = manifest.licence
    if licence.non_commercial and manifest.model_id not in _noticed:
        _noticed.add(manifest.model_id)
        log.warning("%s (weights: %s)", licence.notice, licence.weights)
