"""Time as the session sees it: the system's, or a virtual one that a test or a replay moves by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from edgeemo.errors import InputError


@runtime_checkable
class Clock(Protocol):
    """Seconds that never go back, and a way to wait for them to pass."""

    def __call__(self) -> float:
        """Returns the time in seconds."""

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Returns True as soon as `stop` is set, False once `seconds` have passed."""


class SystemClock:
    """The monotonic clock of the machine, or another callable that runs at the same pace.

    Args:
        now: returns seconds; never goes back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now

    def __call__(self) -> float:
        """Returns the time in seconds."""
        return self._now()

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Sleeps until `stop` is set or `seconds` of real time have passed."""
        return stop.wait(max(0.0, seconds))


class VirtualClock:
    """A clock that stands still until it is moved: hours of a session run in seconds, the same every time.

    Args:
        now_s: where it starts.
    """

    def __init__(self, now_s: float = 0.0) -> None:
        self._now_s = now_s

    def __call__(self) -> float:
        """Returns the time in seconds."""
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Moves the clock on.

        Raises:
            InputError: less than 0 seconds, or not finite.
        """
        if not 0 <= seconds < float("inf"):
            raise InputError(f"a clock goes forward by at least 0 s, not by {seconds}")
        self._now_s += seconds

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Moves the clock on by `seconds` at once, unless `stop` is set."""
        if stop.is_set():
            return True
        self.advance(max(0.0, seconds))
        return False


def clock_from(source: Callable[[], float]) -> Clock:
    """Returns a clock as it is, and makes one of a bare callable that gives seconds."""
    return source if isinstance(source, Clock) else SystemClock(source)
