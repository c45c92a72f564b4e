"""The session behind the page: its life, its newest reading and the last minutes, told as texts."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from edgeemo.errors import InputError, SessionClosedError, SubsetError
from edgeemo.serve.history import History
from edgeemo.serve.messages import (
    compact_text,
    end_message,
    event_message,
    hello_message,
    json_text,
    reading_message,
    stats_data,
    status_message,
)
from edgeemo.serve.taps import Tap
from edgeemo.session import Event, Reading, Session, SessionStats, State

log = logging.getLogger(__name__)

STATUS_S = 0.5
_LOOK_S = 0.1
"""How often sensors are looked at: one that is lost is told at once, not with the next status."""
_LATE_HOPS = 3  # without a reading for so many, it is not ready
_TOLD_EVENTS = 100
_LONGEST_NAME = 200

Deliver = Callable[[str, str], None]
"""Takes the kind of a message and its text, from any thread, and returns at once."""


class Hub:
    """Owns a session: begins it, keeps what it said last, and tells whoever listens.

    Readings are made in threads of the session. Nothing here waits for a client: a message is handed to
    `deliver`, which must return at once. Devices are opened and closed in the thread that asks for it.

    Args:
        session: not started; closed here.
        taps: modality -> the tap around its sensor.
        notice: what must be acknowledged before it starts, as the session was told; None for nothing.
        preview: whether pictures are shown.
        lasts_s: seconds after which there is nothing more to read, as where a recording ends; None for never.
        on_reading: called with each reading too, in a thread of the session; returns at once.
        on_silence: called with the reason where no readings follow; returns at once.
    """

    def __init__(
        self,
        session: Session,
        *,
        taps: Mapping[str, Tap],
        notice: str | None = None,
        preview: bool = False,
        lasts_s: float | None = None,
        on_reading: Callable[[Reading], object] = lambda reading: None,
        on_silence: Callable[[str], object] = lambda why: None,
    ) -> None:
        self.session, self.taps, self.preview = session, dict(taps), preview
        self._notice, self._lasts_s = notice, lasts_s
        self._on_reading, self._on_silence = on_reading, on_silence
        self._acknowledged_by: str | None = None
        self._deliver: Deliver = lambda kind, text: None
        self._count_clients: Callable[[], int] = lambda: 0
        self._life = threading.RLock()  # whoever begins, withdraws or ends does so alone
        self._switching = threading.Lock()  # what is said to be muted is what was muted last
        self._telling = threading.Lock()  # events leave in the order of their numbers
        self._run = 0
        self._begun_s: float | None = None
        self._muted: frozenset[str] = frozenset()
        self._switched_s = 0.0
        self._history = History()
        self._events_seen = 0
        self._newest: tuple[Reading, str] | None = None
        self._newest_at_s = 0.0
        self._stats: SessionStats | None = None
        self._version = 0
        self._hello = (-1, "")
        self._stop = threading.Event()
        self._ticking: threading.Thread | None = None
        self.ended = ""

    def listen(self, deliver: Deliver, *, clients: Callable[[], int]) -> None:
        """Tells messages to `deliver` from now on; `clients` says to how many they go."""
        self._deliver, self._count_clients = deliver, clients

    def begin(self) -> None:
        """Opens the sensors, or waits for somebody to acknowledge the notice.

        Raises:
            SensorError: a device asked for by name does not exist.
        """
        with self._life:
            if self._notice is None:
                self._start()
            self._ticking = threading.Thread(target=self._tick, name="edgeemo-status", daemon=True)
            self._ticking.start()

    def close(self) -> None:
        """Closes the devices; at most two seconds. May be called twice."""
        self._end("the server was stopped")
        if self._ticking is not None and self._ticking is not threading.current_thread():
            self._ticking.join(STATUS_S)

    # What is known now

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model takes."""
        return tuple(self.session.manifest.order)

    @property
    def newest(self) -> Reading | None:
        """The newest reading; None before the first, and once an acknowledgement was withdrawn."""
        return self._newest[0] if self._newest else None

    @property
    def newest_text(self) -> str | None:
        """The same as JSON."""
        return self._newest[1] if self._newest else None

    @property
    def stats(self) -> SessionStats:
        """What the session has done, at most `STATUS_S` old."""
        return self._stats or self.session.stats()

    @property
    def stats_text(self) -> str:
        """The same as JSON."""
        return json_text(stats_data(self.stats))

    @property
    def muted(self) -> frozenset[str]:
        """What is switched off."""
        return self._muted

    @property
    def notice(self) -> dict[str, Any] | None:
        """The notice and whether it is acknowledged, as plain data; None where there is none."""
        if self._notice is None:
            return None
        by = self._acknowledged_by
        return {"text": self._notice, "acknowledged": by is not None, "by": by}

    def why_not_ready(self) -> str:
        """Returns in a sentence why no readings come; empty while they do."""
        if self.ended:
            return self.ended
        if self._notice is not None and self._acknowledged_by is None:
            return "nobody has acknowledged the notice, so no sensor is open"
        if self._newest is None:
            return "there is no reading yet; the first comes within a second of the start"
        age_s = time.monotonic() - self._newest_at_s
        if age_s > _LATE_HOPS * self.session.hop_s:
            return f"the newest reading is {age_s:.1f} s old, one comes every {self.session.hop_s:g} s"
        return ""

    def hello(self) -> str:
        """Returns what a client is told first; made again only when something has happened since."""
        version, text = self._hello
        if version != self._version:
            version = self._version  # before it is made: what happens meanwhile makes it old
            text = hello_message(
                self.session.manifest,
                hop_s=self.session.hop_s,
                time_s=self.session.now_s,
                preview=self.preview,
                notice=self.notice,
                history=self._history.texts(),
                events=self.session.events()[-_TOLD_EVENTS:],
            )
            self._hello = (version, text)
        return text

    def events(self, after: int) -> tuple[Event, ...]:
        """Returns what happened after an event's number; see `Session.events`."""
        return self.session.events(after=after)

    # What clients may change; each of these may wait for a driver

    def mute(self, modality: str, *, muted: bool) -> None:
        """Closes the device of a modality, or opens it again.

        Raises:
            SubsetError: the model has no such modality.
            SensorError: the device cannot be opened any more.
            SessionClosedError: the session has ended.
        """
        if modality not in self.modalities:
            raise SubsetError(
                f"there is no modality {modality!r}; this model has: {', '.join(self.modalities)}"
            )
        if self.ended:
            raise SessionClosedError(self.ended)
        with self._switching:
            if muted:
                self.session.mute(modality)
                self._muted |= {modality}
            else:
                self.session.unmute(modality)
                self._muted -= {modality}
            self._switched_s = self.session.now_s
        self.tell_status()

    def acknowledge(self, by: str) -> None:
        """Opens the sensors: somebody has acknowledged the notice. Does nothing where somebody did before.

        Raises:
            InputError: there is no notice, or it is not said by whom.
            SensorError: a device asked for by name does not exist; the notice is as unacknowledged as before.
            SessionClosedError: the session has ended.
        """
        self._require_notice()
        if not by.strip() or len(by) > _LONGEST_NAME:
            raise InputError(f"say by whom the notice was acknowledged, in 1 to {_LONGEST_NAME} characters")
        with self._life:
            if self.ended:
                raise SessionClosedError(self.ended)
            if self._acknowledged_by is not None:
                return
            self._acknowledged_by = self.session.acknowledge(by.strip()).by
            try:
                self._start()
            except BaseException:
                self._acknowledged_by = None
                self.session.withdraw()
                raise
            finally:
                self._version += 1
        self.tell_status()

    def withdraw(self) -> None:
        """Closes the sensors and forgets what was seen, here and in the session.

        Raises:
            InputError: there is no notice.
        """
        self._require_notice()
        with self._life:
            if self.ended or self._acknowledged_by is None:
                return
            self._run += 1  # what is on its way is not told any more
            self._acknowledged_by = None
            self.session.withdraw()
            for tap in self.taps.values():
                tap.forget()
            self._newest = None
            self._history.clear()
            self._version += 1
            self._deliver("hello", self.hello())
            self._on_silence("the acknowledgement of the notice was withdrawn")
        self.tell_status()

    def _require_notice(self) -> None:
        if self._notice is None:
            raise InputError("there is no notice here; start with: edgeemo serve --notice TEXT")

    # The session's life

    def _start(self) -> None:
        self._run += 1
        run = self._run
        self._begun_s = None
        self.session.start(on_reading=lambda reading: self._take(reading, run))
        threading.Thread(target=self._await_end, args=(run,), name="edgeemo-life", daemon=True).start()

    def _await_end(self, run: int) -> None:
        """Waits until the session has ended by itself, and tells why."""
        try:
            self.session.wait()
            why = "the session has ended"
        except Exception as error:  # whatever kept the readings from being made
            why = f"the session failed: {str(error) or type(error).__name__}"
        if run == self._run:
            self._end(why)

    def _end(self, why: str) -> None:
        with self._life:
            if self.ended:
                return
            self.ended = why
            self._run += 1
            self._stop.set()
        log.info("%s", why)
        self._stats = self.session.stats()
        self.session.close()
        self._tell_events()
        self._deliver("end", end_message(why))
        self._on_silence(why)

    def _take(self, reading: Reading, run: int) -> None:
        """Takes a reading, in a thread of the session."""
        if run != self._run:
            return
        data = reading.to_json()
        text = json_text(data)
        with self._life:
            if run != self._run:
                return
            self._newest, self._newest_at_s = (reading, text), time.monotonic()
            if reading.time_s > self._switched_s:  # others may switch the session too, as a broker does
                self._muted = frozenset(m for m, s in reading.states.items() if s.state is State.MUTED)
            if self._history.wants(reading.time_s):
                self._history.add(reading.time_s, compact_text(data))
            self._version += 1
        self._tell_events()
        latency_ms = (self.session.now_s - reading.time_s) * 1000.0
        self._deliver("reading", reading_message(text, latency_ms))
        with self._life:  # none follows the word that there is silence
            if run == self._run:
                self._on_reading(reading)
        self._begun_s = reading.time_s if self._begun_s is None else self._begun_s
        if self._lasts_s is not None and reading.time_s - self._begun_s >= self._lasts_s:
            # Not here: the end waits for the thread that this runs in.
            threading.Thread(
                target=self._end, args=("the recording has ended",), name="edgeemo-end", daemon=True
            ).start()

    def _tell_events(self) -> None:
        with self._telling:
            for event in self.session.events(after=self._events_seen):
                self._events_seen = event.number
                self._version += 1
                self._deliver("event", event_message(event))

    # Status, twice a second and whenever a sensor changes

    def _tick(self) -> None:
        told_s, told = time.monotonic(), self._states()
        while not self._stop.wait(_LOOK_S):
            states = self._states()
            if states == told and time.monotonic() - told_s < STATUS_S:
                continue
            told_s, told = time.monotonic(), states
            try:
                self.tell_status()
            except Exception:  # a sensor of somebody's own; the page must not go dark for it
                log.exception("no status this time")

    def _states(self) -> list[str]:
        return [tap.state() for tap in self.taps.values()]

    def tell_status(self) -> None:
        """Tells how sensors and session are at this moment."""
        self._stats = stats = self.session.stats()
        self._tell_events()
        text = status_message(
            stats,
            modalities=self.modalities,
            meters={modality: tap.meter() for modality, tap in self.taps.items()},
            muted=self._muted,
            clients=self._count_clients(),
            notice=self.notice,
        )
        self._deliver("status", text)
