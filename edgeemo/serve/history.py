"""Readings of the last minutes, bounded in time and number."""

from __future__ import annotations

import threading
from collections import deque

KEPT_S = 300.0
_LEAST_APART_S = 0.24
"""Readings that come faster are thinned out: a line of five minutes needs no more points."""


class History:
    """Texts with their times, the oldest gone after five minutes."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, str]] = deque()
        self._lock = threading.Lock()

    def wants(self, time_s: float) -> bool:
        """Whether a reading of that time would be kept."""
        with self._lock:
            return not self._kept or time_s - self._kept[-1][0] >= _LEAST_APART_S

    def add(self, time_s: float, text: str) -> None:
        """Keeps a reading's text and forgets what is too old."""
        with self._lock:
            self._kept.append((time_s, text))
            while self._kept and time_s - self._kept[0][0] > KEPT_S:
                self._kept.popleft()

    def texts(self) -> list[str]:
        """Returns what is kept, oldest first."""
        with self._lock:
            return [text for _, text in self._kept]

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._kept.clear()
