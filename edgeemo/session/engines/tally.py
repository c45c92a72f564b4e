"""Counts of what has happened to the engines of a session."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Tally:
    """What has happened so far.

    Attributes:
        opened: engines and stems that were opened while the session ran.
        evicted: engines that were closed for the budget.
        set_aside: times that one failed.
        exchanges: times that open engines were exchanged for others between two hops.
        swap_ms: how long the longest of these kept a hop from running; None before the first.
    """

    opened: int = 0
    evicted: int = 0
    set_aside: int = 0
    exchanges: int = 0
    swap_ms: float | None = None

    def time_exchange(self, change: Callable[[], None]) -> float:
        """Does and counts an exchange; returns the seconds that it took."""
        begun = time.perf_counter()
        change()
        seconds = time.perf_counter() - begun
        self.exchanges += 1
        self.swap_ms = max(seconds * 1e3, self.swap_ms or 0.0)
        return seconds
