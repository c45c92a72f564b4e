"""Whether a device keeps the rate that it promises."""

from __future__ import annotations

from edgeemo.sensors.rate import RateMeter

_RECOVERED = 1.15  # a slow device counts as recovered this far above the least rate


class Pace:
    """Compares what arrives with what was promised, with some hysteresis between slow and not.

    Args:
        least_share: share of the promised rate below which a device is slow; None for never.
        unit: what the rate counts, such as ``samples``.

    Attributes:
        promised: samples or frames a second, None where nobody promised any.
        slow_since_s: when it became slow; None while it is not.
    """

    def __init__(self, *, least_share: float | None, unit: str) -> None:
        self._least_share, self._unit = least_share, unit
        self._meter = RateMeter()
        self.forget()

    def forget(self) -> None:
        """Starts again as with a device that was never heard."""
        self.promised: float | None = None
        self.slow_since_s: float | None = None
        self.pause()

    def pause(self) -> None:
        """Starts counting anew after a pause, which says nothing about the device's pace."""
        self._meter.reset()

    def add(self, now_s: float, amount: int) -> None:
        """Notes that so many samples (or one frame, one text) arrived."""
        self._meter.add(now_s, amount)

    def rate(self, now_s: float) -> float | None:
        """Returns arrivals a second over the last two seconds, None before that is known."""
        return self._meter.rate(now_s)

    def complaint(self, now_s: float) -> str:
        """Returns what is to be said of a slow device; empty while it keeps its pace, or nobody knows."""
        if not self.promised or self._least_share is None:
            return ""
        rate = self._meter.rate(now_s)
        if self._meter.is_full and rate is not None:
            least = self._least_share * self.promised
            if rate >= (least if self.slow_since_s is None else _RECOVERED * least):
                self.slow_since_s = None
            elif self.slow_since_s is None:
                self.slow_since_s = now_s
        if self.slow_since_s is None:
            return ""
        seen = "few" if rate is None else f"{rate:.6g}"
        return f"gives {seen} {self._unit} a second where it promises {self.promised:.6g}"
