"""Readings and events handed to an application's functions, which may be slow or fail."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from edgeemo.errors import InputError
from edgeemo.session.events import Event, EventKind
from edgeemo.session.reading import Reading

log = logging.getLogger(__name__)

_ROOM = 16  # readings that wait for the application
_LOOK_S = 0.05
_END = None


class Callbacks:
    """Two threads: one makes the readings, the other hands them out.

    A function that is slow never holds up a hop: of live readings the oldest that wait are dropped and
    counted, those of a recording wait instead. One that raises is logged with its trace and told as an
    event, and the session goes on.

    Args:
        readings: what is handed out, made in the first thread.
        on_reading: called with each reading; None where only events are wanted.
        on_event: called with each event, before the reading that follows it.
        events: returns the events after a number; see `Session.events`.
        tell: takes an event; see `EventLog.add`.
        lossless: wait for the application rather than drop.
    """

    def __init__(
        self,
        readings: Iterator[Reading],
        *,
        on_reading: Callable[[Reading], object] | None,
        on_event: Callable[[Event], object] | None,
        events: Callable[[int], tuple[Event, ...]],
        tell: Callable[..., object],
        lossless: bool,
    ) -> None:
        self._readings, self._on_reading, self._on_event = readings, on_reading, on_event
        self._events, self._tell, self._lossless = events, tell, lossless
        self._queue: queue.Queue[Reading | None] = queue.Queue(_ROOM)
        self._stop = threading.Event()
        self._seen = 0
        self._failed: BaseException | None = None
        self.missed = 0
        self._threads = [
            threading.Thread(target=self._make, name="edgeemo-hops", daemon=True),
            threading.Thread(target=self._hand_out, name="edgeemo-callbacks", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until everything was handed out; False where that takes longer than `timeout_s`.

        Raises:
            InputError: called from one of the functions, whose end it would wait for.
            BaseException: whatever kept the readings from being made.
        """
        if threading.current_thread() in self._threads:
            raise InputError("a function given to start() cannot wait for its own end; wait elsewhere")
        self._threads[-1].join(timeout_s)
        if self._failed is not None:
            raise self._failed
        return not self._threads[-1].is_alive()

    def stop(self) -> None:
        """Hands nothing out any more; returns at once. May be called twice."""
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        """Waits for the threads, and for a function that is running in one of them; `stop` them first."""
        until_s = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until_s - time.monotonic()))

    def _make(self) -> None:
        try:
            for reading in self._readings:
                if not self._put(reading):
                    return
        except Exception as error:
            log.exception("no more readings: the session failed")
            self._failed = error
        finally:
            self._put(_END, must=True)

    def _put(self, reading: Reading | None, *, must: bool = False) -> bool:
        """Adds a reading; False once nothing is to be handed out any more."""
        while not self._stop.is_set():
            try:
                self._queue.put(reading, timeout=_LOOK_S if self._lossless or must else 0.0)
                return True
            except queue.Full:
                if not self._lossless and not must:
                    self._drop_oldest()
        return False

    def _drop_oldest(self) -> None:
        try:
            self._queue.get_nowait()
            self.missed += 1
        except queue.Empty:
            pass  # the application took it this moment

    def _hand_out(self) -> None:
        while not self._stop.is_set():
            try:
                reading = self._queue.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            self._hand_out_events()
            if reading is _END:
                return
            if self._on_reading is not None:
                self._call(self._on_reading, reading)

    def _hand_out_events(self) -> None:
        if self._on_event is None:
            return
        for event in self._events(self._seen):
            self._seen = event.number
            self._call(self._on_event, event)

    def _call(self, function: Callable[[Any], object], argument: Reading | Event | None) -> None:
        try:
            function(argument)
        except BaseException as error:  # sys.exit() in it would end this thread, and say nothing
            name = getattr(function, "__qualname__", repr(function))
            log.exception("%s raised; the session goes on", name)
            if isinstance(argument, Event) and argument.kind is EventKind.CALLBACK_FAILED:
                return  # telling it that it failed made it fail: do not tell it again
            self._tell(EventKind.CALLBACK_FAILED, f"{name} raised {type(error).__name__}: {error}")
