"""The time of a session: seconds since it began, ahead of the clock where an application's stamps are."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edgeemo.clock import SystemClock, VirtualClock, clock_from


class SessionClock:
    """Capture time in seconds, which starts at 0 and never goes back.

    Args:
        clock: what time it is: None for the system's, a `VirtualClock`, or a callable that gives seconds.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock_from(clock or SystemClock())
        self.restart()

    @property
    def now_s(self) -> float:
        """Seconds since the session began."""
        return self._clock() - self._start_s + self._lead_s

    @property
    def is_virtual(self) -> bool:
        """Whether time stands still unless somebody waits: a hop then has all the time it needs."""
        return isinstance(self._clock, VirtualClock)

    def restart(self) -> None:
        """Starts at 0 again."""
        self._start_s = self._clock()
        self._lead_s = 0.0

    def follow(self, stamp_s: float) -> None:
        """Goes on from a time stamp that is ahead, so that what was stamped grows old all the same."""
        self._lead_s += max(0.0, stamp_s - self.now_s)

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Lets seconds pass, unless `stop` is set; see `edgeemo.clock.Clock.wait`."""
        return self._clock.wait(seconds, stop)
