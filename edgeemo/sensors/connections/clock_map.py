"""Times of a child process on the session's clock."""

from __future__ import annotations

import time
from collections.abc import Callable

_QUICK_S = 0.002  # two looks at the clocks this close together were not interrupted
_JUMP_S = 0.05


class ClockMap:
    """Maps `time.monotonic`, which all processes of a machine share, to another clock.

    The offset is kept while it is confirmed, so that capture times stay as even as the child measured
    them; it follows a clock that jumps, as a session's does when the application's stamps run ahead.

    Args:
        clock: seconds on the other clock.
        monotonic: seconds on the shared one.
    """

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._monotonic = clock, monotonic
        self._offset_s: float | None = None

    def time_s(self, monotonic_s: float) -> float:
        """Returns the time on the other clock."""
        before_s = self._monotonic()
        offset_s = self._clock() - before_s
        if self._offset_s is None or (
            self._monotonic() - before_s < _QUICK_S and abs(offset_s - self._offset_s) > _JUMP_S
        ):
            self._offset_s = offset_s
        return monotonic_s + self._offset_s
