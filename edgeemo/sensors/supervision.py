"""What becomes of a device that is silent, slow, gone or hung: deadlines, back-off, and the state they make.

Nothing here waits or starts a thread: who polls the sensor supervises it, on the clock given to `begin`.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeemo.errors import InputError
from edgeemo.sensors.base import Clock
from edgeemo.sensors.connections.base import Connection, Gone
from edgeemo.sensors.pace import Pace

log = logging.getLogger(__name__)

_MOST_HUNG = 4  # connections left behind in a driver before waiting for one of them to come back
_STEADY_S = 2.0  # a connection that lasted this long starts the back-off anew
_SETTLE_S = 0.1  # between giving a device up on purpose and opening it again


@dataclass(frozen=True)
class Patience:
    """How long a sensor is waited for, in seconds.

    Attributes:
        deadline_s: without data for this long it is ``lost``; None for sources that are silent at will.
        reopen_s: without data for this long the device is opened again; infinite for never.
        open_s: how long opening may take up to the first data; infinite for as long as it takes.
        first_wait_s: pause before the first attempt to open it again; doubles with each one.
        most_wait_s: the longest pause.
        jitter: pauses vary by up to this share, so that many devices do not retry in step.
    """

    deadline_s: float | None = 0.5
    reopen_s: float = 2.0
    open_s: float = 5.0
    first_wait_s: float = 0.25
    most_wait_s: float = 5.0
    jitter: float = 0.25

    def __post_init__(self) -> None:
        for name in ("reopen_s", "open_s", "first_wait_s", "most_wait_s", "jitter"):
            value = getattr(self, name)
            if not value >= 0 or (value == math.inf and not name.endswith("open_s")):
                raise InputError(f"{name} must be a number of at least 0, got {value}")
        if self.jitter > 1:
            raise InputError(f"jitter is a share of the pause, at most 1, got {self.jitter}")
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise InputError(f"deadline_s must be above 0 seconds or None, got {self.deadline_s}")

    def pause_s(self, failures: int, random: np.random.Generator) -> float:
        """Returns the pause after so many failed attempts in a row."""
        pause_s = min(self.most_wait_s, self.first_wait_s * 2.0 ** min(failures, 30))
        return pause_s * (1.0 + self.jitter * float(random.uniform(-1.0, 1.0)))


class Supervisor:
    """Keeps one device connected.

    Args:
        name: the device in words.
        connect: makes a connection; it is begun here.
        patience: deadlines and back-off; may be exchanged between two calls.
        pace: whether the device keeps its rate.
        seed: makes the jitter the same every time; None for chance.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[Clock], Connection],
        *,
        patience: Patience,
        pace: Pace,
        seed: int | None,
    ) -> None:
        self.patience = patience
        self.lock = threading.RLock()
        self.connections = 0  # that gave data
        self._name, self._connect_to = name, connect
        self._pace = pace
        self._random = np.random.default_rng(seed)
        self._clock: Clock | None = None
        self._connection: Connection | None = None
        self._left: list[Connection] = []  # given up, not ended yet
        self._gone = Gone("absent", f"{name} has not been started")
        self._failures = 0
        self._next_try_s = 0.0
        self._trouble_s: float | None = None
        self._slow_reopened = False
        self._refused = ""

    @property
    def connection(self) -> Connection | None:
        """The connection in use."""
        return self._connection

    @property
    def is_begun(self) -> bool:
        """Whether the device is wanted at all."""
        return self._clock is not None

    def begin(self, clock: Clock) -> None:
        """Begins to connect; does nothing where it already does."""
        with self.lock:
            if self._clock is None:
                self._clock, self._failures = clock, 0
                self._gone = Gone("lost", f"opening {self._name}")
                self._pace.forget()
                self._connect(clock)

    def end(self) -> list[Connection]:
        """Gives the device up and returns the connections that have not ended yet, told to stop.

        From then on it is ``absent``, as before `begin`: nothing was lost, it is not listened to.
        """
        with self.lock:
            connection, self._connection, self._clock = self._connection, None, None
            self._gone = Gone("absent", f"{self._name} is closed: nothing is read from it", retry=False)
            if connection:
                connection.stop()
                self._left.append(connection)
            self._left = [left for left in self._left if not left.is_finished]
            return list(self._left)

    def reopen(self) -> None:
        """Gives the connection up and makes a new one, after the moment that the device needs to be free."""
        with self.lock:
            if self._clock is not None and self._connection is not None:
                self._give_up(Gone("lost", f"opening {self._name} again"), self._clock())
                self._next_try_s = self._clock() + _SETTLE_S

    def supervise(self) -> None:
        """Notices what has ended, hangs or stays slow, and connects again when it is time."""
        with self.lock:
            if self._clock is None:
                return
            now_s, connection = self._clock(), self._connection
            self._left = [left for left in self._left if not left.is_finished]
            if connection is None:
                if self._gone.retry and now_s >= self._next_try_s:
                    self._connect(self._clock)
            elif connection.is_finished:
                self._disconnect(connection.outcome, now_s)
            else:
                self._watch(connection, now_s)

    def heard(self, connection: Connection, amount: int, *, declared_rate: float | None = None) -> bool:
        """Notes data of a connection; False where it is one that was given up.

        Args:
            connection: where it comes from.
            amount: how many samples, or 1 for a frame or a text.
            declared_rate: what the data itself says of its rate, as sound does.
        """
        with self.lock:
            if connection is not self._connection or self._clock is None:
                return False
            now_s, deadline_s = self._clock(), self.patience.deadline_s
            if connection.heard_s is None:
                self.connections += 1
                self._trouble_s = now_s
                self._pace.pause()
            elif deadline_s is not None and _watched(connection, now_s) - connection.heard_s > deadline_s:
                self._trouble_s = now_s
                self._pace.pause()
            connection.heard_s, self._refused = now_s, ""
            self._pace.add(now_s, amount)
            promised = connection.declared_rate if declared_rate is None else declared_rate
            self._pace.promised = self._pace.promised if promised is None else float(promised)
            return True

    def refuse(self, why: str) -> None:
        """Notes data that cannot be used: it counts as none, and its sentence says why."""
        self._refused = f": {why}"

    def now(self) -> Gone:
        """The state at this moment, with its sentence."""
        with self.lock:
            connection, deadline_s = self._connection, self.patience.deadline_s
            if connection is None or self._clock is None:
                return self._gone
            running = Gone("running", f"reading {self._name}")
            if deadline_s is None:
                return running if connection.is_open else self._gone
            if connection.heard_s is None:
                return self._gone
            now_s = self._clock()
            silent_s = 0.0 if connection.waits else now_s - connection.heard_s
            if silent_s > deadline_s:
                return Gone("lost", f"no data from {self._name} for {silent_s:.1f} s{self._refused}")
            complaint = self._pace.complaint(now_s)
            return Gone("lost", f"{self._name} {complaint}") if complaint else running

    @property
    def rate(self) -> float | None:
        """Samples or frames a second over the last two seconds, None before that is known."""
        with self.lock:
            return None if self._clock is None else self._pace.rate(self._clock())

    @property
    def declared_rate(self) -> float | None:
        """What the device in use promises, None where it promises nothing."""
        return None if self._clock is None else self._pace.promised

    def trouble_s(self) -> float | None:
        """The newest time at which it was wanted and not running; None if there was none."""
        with self.lock:
            if self._clock is not None and self.now().state != "running":
                self._trouble_s = self._clock()
            return self._trouble_s

    def _watch(self, connection: Connection, now_s: float) -> None:
        patience = self.patience
        if patience.deadline_s is None or connection.waits:
            return
        limit_s = patience.open_s if connection.heard_s is None else patience.reopen_s
        since_s = connection.started_s if connection.heard_s is None else connection.heard_s
        if now_s - since_s > limit_s:
            self._give_up(Gone("lost", f"no data from {self._name} for {limit_s:g} s"), now_s)
            return
        complaint, slow_since_s = self._pace.complaint(now_s), self._pace.slow_since_s
        if slow_since_s is None:
            self._slow_reopened = False
        elif not self._slow_reopened and now_s - slow_since_s > patience.reopen_s:
            self._slow_reopened = True  # once: a device that is slow by nature stays connected, and lost
            self._give_up(Gone("lost", f"{self._name} {complaint}"), now_s)

    def _connect(self, clock: Clock) -> None:
        if len(self._left) >= _MOST_HUNG:
            self._gone = Gone("lost", f"{self._name}: {len(self._left)} earlier attempts hang in its driver")
            return
        self._trouble_s = clock()
        self._connection = self._connect_to(clock)
        self._connection.begin()

    def _give_up(self, gone: Gone, now_s: float) -> None:
        connection = self._connection
        if connection:
            connection.stop()
            connection.kill()
            self._left.append(connection)
        self._disconnect(gone, now_s)

    def _disconnect(self, gone: Gone, now_s: float) -> None:
        connection, patience = self._connection, self.patience
        self._trouble_s = now_s
        if connection and (connection.heard_s or 0.0) - connection.started_s > _STEADY_S:
            self._failures = 0
        wait_s = patience.pause_s(self._failures, self._random)
        if gone != self._gone:
            retry = f"; next attempt in {wait_s:.1f} s" if gone.retry else ""
            log.info("%s: %s%s", self._name, gone.why, retry)
        self._failures += 1
        self._next_try_s = now_s + wait_s
        self._gone, self._connection = gone, None


def _watched(connection: Connection, now_s: float) -> float:
    return now_s if connection.watched_s is None else connection.watched_s
