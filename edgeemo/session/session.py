"""The session: what an application embeds."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeemo.bundle import Bundle, Manifest
from edgeemo.errors import InputError, NoticeError, SessionClosedError
from edgeemo.runtimes.backends import CPU, better_than
from edgeemo.runtimes.open import AUTO, HOST
from edgeemo.sensors.base import Chunk, Sensor
from edgeemo.sensors.drop import Drop
from edgeemo.sensors.media import MediaFile
from edgeemo.sensors.rehearsal import rehearsed_sensors
from edgeemo.session.asynchronous import readings_from
from edgeemo.session.callbacks import Callbacks
from edgeemo.session.core import Core
from edgeemo.session.engines.move_up import MoveUp
from edgeemo.session.engines.options import EngineOptions
from edgeemo.session.engines.pool import EnginePool
from edgeemo.session.engines.preload import open_snapshot
from edgeemo.session.engines.reload import Reloader
from edgeemo.session.engines.snapshot import Snapshot, open_newest
from edgeemo.session.engines.watch import Watch
from edgeemo.session.events import Event, EventKind, EventLog
from edgeemo.session.intake import Intake
from edgeemo.session.leftovers import close_at_exit
from edgeemo.session.notice import Acknowledgement, Ask, Notice
from edgeemo.session.reading import Reading
from edgeemo.session.session_clock import SessionClock
from edgeemo.session.settings import Settings, settings_from_thresholds, settings_with
from edgeemo.session.sources.base import Source
from edgeemo.session.sources.live import LiveSensors, check_known, sensors_by_modality
from edgeemo.session.sources.recording import Recording
from edgeemo.session.stats import SessionStats, latency_percentiles
from edgeemo.session.streams.base import MOST_TIME_S
from edgeemo.shipped import DEFAULT_BUNDLE

if TYPE_CHECKING:
    from typing_extensions import Self

_CLOSE_S = 1.7  # for everything that is closed, side by side
_LEAST_S = 0.1  # for each part, where another has used that up


class Session:
    """Readings from whatever sensors are alive right now.

    Push: call `push_audio`, `push_frame`, `push_text`, `push_series` with what the application captures and
    `read` when it wants to know. Pull: give sensors or a recording and iterate. Safe to use from several
    threads.

    Time is capture time in seconds on the session's clock, which starts at 0 and runs in real time. An
    application may stamp what it pushes with a clock of its own; the session's clock then follows the
    newest stamp.

    Args:
        bundle: a bundle, its folder, or None for the one that ships with edgeemo.
        sensors: live sensors that the session starts, polls and closes; at most one a modality. A word such
            as ``"mic"``, ``"camera:1"`` or one that an installed package registers will do.
        media: a recording to replay on a virtual clock, instead of sensors.
        drops: when which modality of the recording or the sensors is taken away, to rehearse a failure.
        engines: which engines are opened, and how.
        settings: deadlines, thresholds and smoothing; None for the bundle's own, a mapping such as
            ``{"hop_s": 0.25}`` for the bundle's own with some of them changed.
        clock: what time it is: None for the system's, a `VirtualClock`, or a callable that gives seconds
            and never goes back.
        notice: what people must have acknowledged before anything is sensed: a text, for which
            `acknowledge` is called, or a function that shows a notice and returns True where it was
            acknowledged. See `edgeemo.session.notice` for the law that it serves.

    Raises:
        BundleError: the bundle is incomplete, truncated or tampered with.
        MissingDependencyError: no backend is installed; the message says which extra to install.
        InputError: both sensors and a recording, two sensors of one modality, or drops of what is not there.
        InputError, MissingDependencyError: the recording cannot be read.
        SensorError: no sensor is known by a word.
    """

    def __init__(
        self,
        bundle: str | Path | Bundle | None = None,
        *,
        sensors: Sequence[Sensor | str] = (),
        media: str | Path | MediaFile | None = None,
        drops: Sequence[Drop] = (),
        engines: EngineOptions | None = None,
        settings: Settings | Mapping[str, Any] | None = None,
        clock: Callable[[], float] | None = None,
        notice: str | Ask | None = None,
    ) -> None:
        self._pid = os.getpid()
        self._notice = Notice(notice)
        self._callbacks: Callbacks | None = None
        if sensors and media is not None:
            raise InputError("a session takes sensors or a recording, not both")
        if drops and media is None and not sensors:
            raise InputError("drops rehearse failures of sensors or of a recording; give sensors or media")
        by_modality = sensors_by_modality(sensors)
        if media is None:
            by_modality = rehearsed_sensors(by_modality, drops)
        self._clock = SessionClock(clock)
        self._last_read_s = 0.0
        self._iteration = 0
        self._lock = threading.RLock()
        self._switching = threading.RLock()  # devices are opened and closed one after the other
        self._closed = threading.Event()
        self._live = LiveSensors(
            by_modality, clock=lambda: self.now_s, wait=self._clock.wait, push=self._take
        )
        self._source: Source = self._live
        if media is not None:
            self._source = Recording(media, drops=drops, push=self._take)
        self._events = EventLog()
        self._watch: Watch | None = None
        options = engines or EngineOptions()
        # On a virtual clock a hop has all the time it needs, and the same recording gives the same readings.
        in_time = self._source.is_live and not self._clock.is_virtual
        moves_up = options.backend == AUTO and in_time
        if moves_up:  # an accelerator that is lost then leaves the CPU's engine standing by
            options = replace(options, backend=HOST)
        if isinstance(bundle, Bundle):
            folder, snapshot = bundle.path, open_snapshot(bundle, options)
        else:
            folder = Path(bundle or DEFAULT_BUNDLE)
            snapshot = open_newest(folder, lambda opened: open_snapshot(opened, options))
        self._pool = EnginePool(snapshot, options, lock=self._lock, tell=self._tell, background=in_time)
        try:
            chosen = settings
            if not isinstance(chosen, Settings):
                chosen = settings_with(settings_from_thresholds(snapshot.manifest.thresholds), chosen or {})
            self._core = Core(self._pool, chosen, tell=self._events.add)
            self._intake = Intake(self._core, self._clock)
            check_known(by_modality, snapshot.manifest.order)
        except BaseException:
            self._pool.close()
            raise
        self._reloader = Reloader(folder, options, pool=self._pool, tell=self._tell)
        self._move_up: MoveUp | None = None
        if moves_up:
            better = better_than(CPU)
            self._move_up = MoveUp(self._pool, better, threads=options.threads, tell=self._tell)
            self._move_up.start()
        close_at_exit(self)

    @property
    def _snapshot(self) -> Snapshot:
        return self._pool.snapshot

    @property
    def manifest(self) -> Manifest:
        """What the bundle in use says about itself."""
        return self._snapshot.manifest

    @property
    def hop_s(self) -> float:
        """Seconds between two readings."""
        return self._core.hop_s

    @property
    def now_s(self) -> float:
        """Seconds on the session's clock."""
        return self._clock.now_s

    def push_audio(self, samples: NDArray[Any], *, rate_hz: int, time_s: float | None = None) -> None:
        """Takes sound that the application captured.

        Args:
            samples: (N,) mono or (N, channels), float in [-1, 1], int16, int32 or uint8. Pieces of 10 ms
                to 250 ms serve best: a device is missed after a deadline, or after one and a half of the
                last piece where that is longer.
            rate_hz: samples a second, 4000 to 384000.
            time_s: capture time of the first sample on the session's clock; None means that the last
                one was captured just now (pushes that come faster than that follow each other).

        Raises:
            InputError: the samples are not finite, of another shape or type, the rate cannot be used, or
                the time goes back; the session goes on as if they had not been pushed.
            SubsetError: the engines in use take no audio.
            NoticeError: nobody has acknowledged the notice.
            SessionClosedError: the session is closed.
        """
        self._require_notice()
        with self._lock:
            self._check_open()
            self._intake.push_audio(samples, rate_hz=rate_hz, time_s=time_s)

    def push_frame(self, frame: NDArray[np.uint8], *, time_s: float | None = None) -> None:
        """Takes a picture that the application captured.

        Args:
            frame: (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, uint8.
            time_s: capture time on the session's clock; None means now.

        Raises:
            InputError: the frame is of another shape or type, or the time goes back; the session goes
                on as if it had not been pushed.
            MissingDependencyError: OpenCV, which finds the faces, is not installed.
            SubsetError: the engines in use take no video.
            NoticeError: nobody has acknowledged the notice.
            SessionClosedError: the session is closed.
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
            NoticeError: nobody has acknowledged the notice.
            SessionClosedError: the session is closed.
        """
        self._push("text", text, time_s)

    def push_series(
        self, modality: str, samples: ArrayLike, *, rate_hz: float | None = None, time_s: float | None = None
    ) -> None:
        """Takes numbers of a sensor that the model was trained with, such as a heart rate.

        Args:
            modality: its name in the model; its front-end is of kind ``"series"``.
            samples: (N, C) in the sensor's unit; (N,) or a single number where it has one channel.
            rate_hz: samples a second in this piece; None for the rate of the model's grid.
            time_s: capture time of the first sample on the session's clock; None means that the last
                one was captured just now.

        Raises:
            InputError: the samples are no finite numbers of that shape, the modality is of another kind,
                the rate cannot be used, or the time goes back; the session goes on as if nothing had come.
            SubsetError: the engines in use take no such modality.
            NoticeError: nobody has acknowledged the notice.
            SessionClosedError: the session is closed.
        """
        self._require_notice()
        with self._lock:
            self._check_open()
            self._intake.push_series(modality, samples, rate_hz=rate_hz, time_s=time_s)

    def _push(self, modality: str, data: Any, time_s: float | None) -> None:
        self._require_notice()
        with self._lock:
            self._check_open()
            self._intake.push(modality, data, time_s=time_s)

    def _take(self, chunk: Chunk) -> None:
        """Takes a chunk of a sensor or recording."""
        with self._lock:
            self._check_open()
            self._intake.take(chunk)

    def read(self, *, at_s: float | None = None) -> Reading:
        """Returns what can be said now about what was pushed.

        Args:
            at_s: capture time on the session's clock; None means now. Nothing captured later counts.

        Raises:
            InputError: `at_s` lies before the last reading or is not finite.
            SessionClosedError: the session is closed.
        """
        if self._live.started:
            self._check_open()
            self._live.poll()
        return self._read_now() if at_s is None else self._read(at_s)

    def _read_now(self, at_s: float | None = None) -> Reading:
        """Reads at a time, or now; not before the last reading, which another thread may have made."""
        with self._lock:
            return self._read(max(self.now_s if at_s is None else at_s, self._last_read_s))

    def _read(self, at_s: float) -> Reading:
        with self._lock:
            self._check_open()
            if not self._last_read_s <= at_s < MOST_TIME_S:
                raise InputError(
                    f"readings go forward in time: {at_s:.3f} s does not follow the last one at "
                    f"{self._last_read_s:.3f} s; call reset() before a new recording"
                )
            reading = self._core.read(at_s, self._source.outages(self._core.streams))
            self._last_read_s = at_s
            suspects = self._core.take_suspects()
        for modality in suspects:
            self._live.reopen(modality)
        return reading

    def reset(self) -> None:
        """Starts again as if nothing had ever been captured; what is muted stays muted.

        The clock starts at 0 again, but for live sensors, whose time goes on.
        """
        # Whoever polls holds the sensors and then wants our lock: never the other way round.
        with self._source.paused(), self._lock:
            self._check_open()
            self._source.discard()
            self._core.reset()
            if not self._live.sensors:
                self._last_read_s = 0.0
                self._clock.restart()

    def mute(self, modality: str) -> None:
        """Switches a modality off: its device is closed and nothing that it saw is used any more.

        Raises:
            SubsetError: the engines in use have no such modality.
        """
        with self._lock:
            self._core.mute(modality, True)
        with self._switching:  # outside the other lock: a driver may take its time
            with self._lock:
                self._core.mute(modality, True)  # an unmute that was under way has ended meanwhile
            self._live.close_one(modality)

    def unmute(self, modality: str) -> None:
        """Switches a modality on again.

        Raises:
            SubsetError: the engines in use have no such modality.
            SensorError: its device cannot be opened any more; the modality stays muted.
            SessionClosedError: the session is closed.
        """
        self._check_open()
        with self._switching:
            if self._core.muted(modality):
                self._live.resume(modality)  # outside the other lock: readings go on meanwhile
            with self._lock:
                self._core.mute(modality, False)

    def acknowledge(self, by: str) -> Acknowledgement:
        """Opens the way to the sensors: somebody was shown the notice and acknowledged it.

        It is kept as an event with its time, in UTC.

        Args:
            by: who, in words that the application may keep; ``"visitor at the kiosk"`` will do.

        Raises:
            InputError: it is not said by whom.
        """
        kept = self._notice.acknowledge(by)
        self._tell_acknowledged(kept)
        return kept

    def withdraw(self) -> None:
        """Takes an acknowledgement back: devices are closed, and what was seen is forgotten, at once.

        Iterations under way end. Nothing is sensed until somebody acknowledges the notice anew.
        """
        self._notice.withdraw()
        with self._lock:
            self._iteration += 1
        self._live.close()
        self.reset()

    def _require_notice(self) -> None:
        self._check_open()
        kept = self._notice.require()
        if kept is not None:
            self._tell_acknowledged(kept)

    def _tell_acknowledged(self, kept: Acknowledgement) -> None:
        self._tell(
            EventKind.NOTICE_ACKNOWLEDGED, f"notice acknowledged by {kept.by} at {kept.at}", dict(vars(kept))
        )

    def start(
        self,
        *,
        on_reading: Callable[[Reading], object] | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> Self:
        """Opens the sensors and returns at once.

        Without functions, call `read` whenever the application wants to know. With functions, readings are
        made beside the application, one each hop, and handed to it in a thread of their own. A function
        that is slow never holds up a hop: of live readings the oldest are dropped then and counted in
        `stats`, those of a recording wait. A function that raises is logged and told as an event.

        Raises:
            InputError: there are no sensors to open, or no function to give a recording's readings to.
            SensorError: a device asked for by name does not exist.
            NoticeError: nobody has acknowledged the notice.
            SessionClosedError: the session is closed.
        """
        self._check_open()
        if on_reading is None and on_event is None:
            if not self._live.sensors:
                raise InputError("nothing to open: give the session sensors=[...], or iterate over it")
            self._require_notice()
            self._live.start(without=self._unwanted)
            if not self._notice.is_open:
                self._live.close()
                raise NoticeError("the acknowledgement was taken back while sensors opened: they are closed")
            return self
        readings = iter(self)
        before, self._callbacks = (
            self._callbacks,
            Callbacks(
                readings,
                on_reading=on_reading,
                on_event=on_event,
                events=lambda after: self.events(after=after),
                tell=self._tell,
                lossless=not self._source.is_live,
            ),
        )
        if before is not None:
            before.stop()
        return self

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until what `start` began has ended: the recording is over, or the session was closed.

        Returns:
            False where that takes longer than `timeout_s`.

        Raises:
            EdgeEmoError: what kept the readings from being made.
            InputError: nothing was started with a function.
        """
        if self._callbacks is None:
            raise InputError("nothing to wait for: call start(on_reading=...) first")
        return self._callbacks.wait(timeout_s)

    def __aiter__(self) -> AsyncIterator[Reading]:
        """Returns readings for ``async for``, as `__iter__`; the event loop is never held up."""
        readings = iter(self)
        mine = self._iteration
        return readings_from(readings, end=lambda: self._end_iteration(mine))

    def _end_iteration(self, number: int) -> None:
        with self._lock:
            self._iteration += self._iteration == number

    def __iter__(self) -> Iterator[Reading]:
        """Returns readings, one each hop, until the recording ends or the session is closed.

        A session has one iteration at a time; starting another ends the one before.

        Raises:
            InputError: there are neither sensors nor a recording.
            SensorError: a device asked for by name does not exist.
            NoticeError: nobody has acknowledged the notice.
        """
        self._check_process()
        if self._live.sensors and not self._closed.is_set():
            self._require_notice()  # outside the lock: an application may take its time to ask
        with self._lock:
            if not self._source.name:
                raise InputError(
                    "nothing to iterate over: give the session sensors=[...] or media=..., or push and read()"
                )
            if self._live.sensors and not self._closed.is_set() and not self._notice.is_open:
                raise NoticeError("the acknowledgement was taken back before any sensor opened")
            self._iteration += 1
            if not self._closed.is_set():
                if not self._source.is_live:
                    self.reset()
                self._source.start(without=self._unwanted)
            return self._iterate(self._iteration)

    def _unwanted(self, modality: str) -> bool:
        """Whether a device stays closed: it is muted, or no engine here would look at what it sees."""
        return modality not in self._core.streams or self._core.muted(modality)

    def _iterate(self, iteration: int) -> Iterator[Reading]:
        """Yields from recording or sensors while this is the newest iteration of an open session."""
        readings = self._source.readings(
            self._core.hop_s,
            closed=self._closed,
            read=self._read_now,
        )
        while not self._closed.is_set() and iteration == self._iteration:
            try:
                yield next(readings)
            except (StopIteration, SessionClosedError):
                return

    def reload(self) -> Future[bool]:
        """Takes over the newest state of the bundle that the session was opened from, without a pause.

        Returns at once: a thread opens and warms what changed, then exchanges the engines between two
        hops. Readings go on meanwhile, and none is lost. An `Event` tells how it ended; where it failed,
        the engines in use go on. Settings stay those that the session was opened with.

        Returns:
            a future: True once newer engines serve, False where they did already. Its ``result()``
            raises what the reload failed of: ReloadError where labels, modalities, front-ends, windows
            or stems differ, BundleError, BackendError, ...

        Raises:
            SessionClosedError: the session is closed.
        """
        return self._reloader.start()

    def watch(self, *, every_s: float = 1.0) -> None:
        """Calls `reload` whenever the bundle's manifest changes, until the session is closed.

        Args:
            every_s: seconds between two looks.

        Raises:
            InputError: `every_s` is not positive.
            SessionClosedError: the session is closed.
        """
        with self._lock:
            self._check_open()
            if self._watch is None:
                self._watch = Watch(self._reloader.folder, self.reload, every_s=every_s, stop=self._closed)

    def events(self, *, after: int = 0) -> tuple[Event, ...]:
        """Returns what happened beside the readings, oldest first; the newest 256 of a kind are kept.

        Args:
            after: the highest number that was seen already.
        """
        return self._events.after(after)

    def _tell(self, kind: EventKind, message: str, detail: Mapping[str, Any] | None = None) -> None:
        self._events.add(kind, message, time_s=self.now_s, detail=detail or {})

    def stats(self) -> SessionStats:
        """Returns what the session has done so far."""
        with self._lock:
            return SessionStats(
                hops=self._core.hops,
                late_hops=self._source.late_hops,
                missed_by_callbacks=self._callbacks.missed if self._callbacks else 0,
                face_searches=self._core.face_searches,
                swaps=self._core.swaps,
                rejected=dict(self._source.rejected),
                latency_ms=latency_percentiles(self._core.latencies_ms),
                sensors=self._source.statuses(),
                engines=self._pool.words(),
                pool=self._pool.stats(),
                manifest_sha256=self._snapshot.manifest_sha256,
                reloads=self._reloader.stats,
            )

    def close(self) -> None:
        """Closes devices, recording and engines; an iteration under way ends. May be called twice.

        Takes at most two seconds, even where a driver hangs. In a forked process nothing happens: what is
        open belongs to the process that opened it.
        """
        if os.getpid() != self._pid:
            return
        self._closed.set()
        until_s = time.monotonic() + _CLOSE_S
        if self._move_up is not None:
            self._move_up.stop()
        if self._callbacks is not None:
            self._callbacks.stop()
        self._source.close()
        if self._watch is not None:
            self._watch.close()
        self._pool.close(timeout_s=max(_LEAST_S, until_s - time.monotonic()))
        for part in (self._move_up, self._callbacks):
            if part is not None:
                part.join(max(_LEAST_S, until_s - time.monotonic()))

    def _check_open(self) -> None:
        self._check_process()
        if self._closed.is_set():
            raise SessionClosedError("this session is closed; open a new one")

    def _check_process(self) -> None:
        """Refuses a forked process, which has neither the threads nor the devices of the one before it."""
        if os.getpid() != self._pid:
            raise SessionClosedError(
                f"this session belongs to process {self._pid}; open a new one in the forked process"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        source = self._source.name or "push"
        state = ", closed" if self._closed.is_set() else ""
        engines = ", ".join(f"{subset}.{r.variant}" for subset, r in self._snapshot.engines.items())
        return f"<Session of {self.manifest.model_id!r} from {source}{state}: {engines}>"
