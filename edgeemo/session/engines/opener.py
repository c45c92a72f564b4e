"""Opening what is cold and closing what is not needed, beside the hops of a session."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress

from edgeemo.errors import SessionClosedError
from edgeemo.runtimes.base import Runner
from edgeemo.session.engines.announce import Tell, tell_change, tell_not_opened
from edgeemo.session.engines.aside import BY_OPTIONS
from edgeemo.session.engines.attempt import sentence_of, warm
from edgeemo.session.engines.preload import open_part
from edgeemo.session.engines.roster import Roster
from edgeemo.session.engines.tally import Tally
from edgeemo.session.engines.worker import Worker


class Opener:
    """Opens stems and engines in a thread, one at a time, and lets them serve from the next hop on.

    Args:
        roster: what it opens for; touched under the lock alone.
        lock: held by a hop while it runs.
        worker: the thread.
        tell: takes events.
        background: whether opening happens beside the hops, or in the one that wants it.
    """

    def __init__(
        self, roster: Roster, *, lock: threading.RLock, worker: Worker, tell: Tell, background: bool
    ) -> None:
        self._roster, self._lock, self._worker = roster, lock, worker
        self._tell, self._background = tell, background
        self.opening: set[str] = set()
        self.tally = Tally()
        self.closed = False

    def request(self, name: str) -> bool:
        """Has a stem or engine opened, unless that is under way; returns whether it was done at once.

        Call it under the lock.
        """
        if name in self.opening or self.closed:
            return False
        self.opening.add(name)
        if not self._background:
            self._open(name)
            return True
        with suppress(SessionClosedError):
            self._worker.submit(lambda: self._open(name))
        return False

    def retire(self, runners: Iterable[Runner]) -> None:
        """Closes runners beside the hops: a driver may take its time."""
        for runner in runners:
            try:
                self._worker.submit(runner.close)
            except SessionClosedError:
                runner.close()

    def make_room(self, name: str) -> list[Runner]:
        """Takes what has no room beside `name` out of the roster; returns it, to be closed."""
        gone = self._roster.make_room(name)
        self.tally.evicted += len(gone)
        return gone

    def _open(self, name: str) -> None:
        try:
            while self._try(name):
                pass
        finally:
            with self._lock:
                self.opening.discard(name)
                self._roster.replan()

    def _try(self, name: str) -> bool:
        """Opens a stem or engine as the next best thing it can be; returns whether to try once more."""
        with self._lock:
            snapshot = self._roster.snapshot
            place = self._roster.next_place(name)
            if self.closed or place is None or snapshot.runner(name) is not None:
                return False
            gone = self._roster.room_for(name)
            self.tally.evicted += len(gone)
        for runner in gone:
            runner.close()
        opened: Runner | None = None
        asked = place
        try:
            where = None if place == BY_OPTIONS else place
            opened = open_part(snapshot.bundle, name, self._roster.options, place=where)
        except Exception as error:  # whatever a backend raises, the next one gets its turn
            why = sentence_of(error)
        else:
            place = (opened.backend, opened.variant)
            why = warm(opened, snapshot.manifest.labels)
        prepared = None if opened is None else self._roster.prepare(name, opened)
        with self._lock:
            same = snapshot.same_files(name, self._roster.snapshot)
            if opened is None or why or self.closed or not same:
                if opened is not None:
                    opened.close()
                if why and same and not self.closed:
                    # What was asked for may have opened as something else.
                    for failed in {place} if asked == BY_OPTIONS else {place, asked}:
                        self._roster.aside.add(name, failed, why, at_s=self._roster.at_s)
                    self.tally.set_aside += 1
                    tell_not_opened(self._tell, name, place, why)
                return not self.closed
            self.tally.time_exchange(lambda: self._roster.install(name, opened, prepared=prepared))
            self.tally.opened += 1
            gone = self.make_room(name)
        for runner in gone:
            runner.close()
        tell_change(self._tell, opened, "it was opened when it was wanted", None)
        return False
