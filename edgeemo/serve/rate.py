"""How often one client may ask: a bucket of permits that fills up again."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_CLIENTS = 4096


class RateLimit:
    """Permits for each client, by its IP address; the clients seen longest ago are forgotten.

    Args:
        per_s: permits that come back a second.
        burst: permits that a client has at most.
        clock: seconds that never go back.
    """

    def __init__(self, *, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """Takes a permit; returns 0, or the seconds until there is one where there is none."""
        left = self._left(client)
        taken = left >= 1.0
        self._buckets[client] = (left - 1.0 if taken else left, self._clock())
        self._buckets.move_to_end(client)
        while len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if taken else (1.0 - left) / self._per_s

    def wait_s(self, client: str) -> float:
        """Returns the seconds until there is a permit, and takes none."""
        return max(0.0, 1.0 - self._left(client)) / self._per_s

    def _left(self, client: str) -> float:
        left, at_s = self._buckets.get(client, (self._burst, self._clock()))
        return min(self._burst, left + (self._clock() - at_s) * self._per_s)
