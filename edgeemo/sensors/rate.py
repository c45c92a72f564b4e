"""How fast data arrives: samples or frames a second over the last two seconds."""

from __future__ import annotations

from collections import deque
from itertools import takewhile

WINDOW_S = 2.0
_FULL = 0.7  # of the window: what was seen for less than that says little


class RateMeter:
    """Counts what arrives.

    It looks between the first and the last arrival in the window, so that large blocks and rare polls do
    not count as slowness.
    """

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self.reset()

    def reset(self) -> None:
        """Forgets what arrived, as after a pause whose length says nothing about the device's pace."""
        self._arrived: deque[tuple[float, int]] = deque()
        self._total = 0  # of the amounts in it: the rate is asked for at every poll
        self._begun_s: float | None = None

    def add(self, now_s: float, amount: int) -> None:
        """Notes that so many samples (or one frame, one text) arrived."""
        if self._begun_s is None:
            self._begun_s = now_s
        self._arrived.append((now_s, amount))
        self._total += amount
        self._forget(now_s)

    def rate(self, now_s: float) -> float | None:
        """Returns arrivals a second; None until half a window has been seen."""
        self._forget(now_s)
        if self._begun_s is None:
            return None
        if self.span_s >= self._window_s / 2:
            first_s = self._arrived[0][0]
            first = sum(amount for _, amount in takewhile(lambda one: one[0] == first_s, self._arrived))
            return (self._total - first) / self.span_s
        if now_s - self._begun_s >= self._window_s:
            return self._total / self._window_s
        return None

    @property
    def span_s(self) -> float:
        """Seconds between the first and the last arrival that are counted."""
        return self._arrived[-1][0] - self._arrived[0][0] if self._arrived else 0.0

    @property
    def is_full(self) -> bool:
        """Whether enough was seen to call a device slow."""
        return self.span_s >= _FULL * self._window_s

    def _forget(self, now_s: float) -> None:
        while self._arrived and self._arrived[0][0] < now_s - self._window_s:
            self._total -= self._arrived.popleft()[1]
