"""Numbers of any sensor over time (heart rate, skin conductance, motion) on a regular grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeemo.errors import InputError
from edgeemo.features.spec import FrontEndSpec

_ROUNDING = 1e-6  # of a slot: times are sums of floats, and the same moment comes out a little different
_MOST_RATE_HZ = 10_000.0
_MOST_CHANNELS = 4096


@dataclass(frozen=True)
class SeriesSpec(FrontEndSpec):
    """What the numbers of a sensor of one's own depend on, and what a session needs to know of it.

    A grid of ``rate_hz`` slots a second lies over capture time. The item of a slot is the mean of the
    samples captured in it; a slot without any holds the one before it.

    Attributes:
        channels: numbers in one sample, C.
        rate_hz: slots of the grid in a second. Near the sensor's own rate serves best: a sensor that is
            faster is averaged, one that is slower is held.
        mean: (C,) mean of every channel, in the sensor's unit; empty means 0 for all.
        std: (C,) standard deviation of every channel; empty means 1 for all.
        low: (C,) least value that can be true; below it the sensor is not trusted. Empty means any.
        high: (C,) largest value that can be true. Empty means any.
        deadline_s: time without a sample after which the sensor counts as lost; a shorter gap is bridged
            with what came before it. Two or three times the longest pause of a healthy sensor.
        min_fill_s: how much of the window must be filled before the modality joins.
        stuck_s: how long every channel may stay exactly the same before the sensor is not trusted;
            0 for never, as where whole numbers such as beats a minute repeat by themselves.
    """

    KIND: ClassVar[str] = "series"

    channels: int = 1
    rate_hz: float = 4.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    deadline_s: float = 3.0
    min_fill_s: float = 2.0
    stuck_s: float = 0.0

    def __post_init__(self) -> None:
        channels = self.channels
        if not isinstance(channels, int) or isinstance(channels, bool) or not 1 <= channels <= _MOST_CHANNELS:
            raise InputError(f"series needs 1 to {_MOST_CHANNELS} channels, got {channels!r}")
        for name in ("rate_hz", "deadline_s", "min_fill_s", "stuck_s"):
            value = getattr(self, name)
            least = 0.0 if name in ("min_fill_s", "stuck_s") else math.ulp(0.0)
            if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value < math.inf:
                kind = "a finite" if least == 0.0 else "a positive"
                raise InputError(f"series needs {kind} {name}, got {value!r}")
        if self.rate_hz > _MOST_RATE_HZ:
            raise InputError(f"series needs a rate_hz of at most {_MOST_RATE_HZ:g}, got {self.rate_hz:g}")
        for name in ("mean", "std", "low", "high"):
            values = getattr(self, name)
            if values and (len(values) != channels or not all(map(math.isfinite, values))):
                raise InputError(
                    f"series needs {channels} finite numbers in {name}, one a channel, got {values}"
                )
        if any(value <= 0 for value in self.std):
            raise InputError(f"series needs positive numbers in std, got {self.std}")
        if any(low >= high for low, high in zip(self.low, self.high, strict=False)):
            raise InputError(f"series needs every low below its high, got {self.low} and {self.high}")


class SeriesGrid:
    """Turns a stream of timed samples into items on the grid, the same for every chunking.

    A slot is complete once a sample beyond it has come: nothing is guessed that a late sample could
    change. Slots count from capture time 0, so the grid does not depend on when the sensor began.

    Attributes:
        taken_s: capture time of the newest sample whose item was taken; None before the first.
    """

    def __init__(self, spec: SeriesSpec) -> None:
        self.spec = spec
        self._mean = np.asarray(spec.mean or (0.0,) * spec.channels)
        self._std = np.asarray(spec.std or (1.0,) * spec.channels)
        self.reset()

    def __repr__(self) -> str:
        spec = self.spec
        return f"SeriesGrid({spec.channels} channels, {spec.rate_hz:g} slots/s, next slot {self._next})"

    def reset(self) -> None:
        """Forgets everything: the next sample is the first of a stream."""
        self._next: int | None = None
        self.taken_s: float | None = None
        self._held = np.zeros(self.spec.channels)
        self._times = np.zeros(0)
        self._values = np.zeros((0, self.spec.channels))

    @property
    def next_slot(self) -> int | None:
        """The slot whose item comes next; None before the first sample."""
        return self._next

    def push(self, samples: NDArray[np.float64], times_s: NDArray[np.float64]) -> None:
        """Takes checked samples (N, C) and their capture times (N,); `take` gives what they complete.

        A time before one that came earlier, as drivers that wobble give it, counts as that one.
        """
        if not len(times_s):
            return
        newest_s = self._times[-1] if len(self._times) else -math.inf
        times_s = np.maximum.accumulate(np.maximum(times_s, newest_s))
        if self._next is None:
            self._next = slot_from_time(float(times_s[0]), self.spec)
        self._times = np.concatenate([self._times, times_s])
        self._values = np.concatenate([self._values, samples])

    def take(self, before_s: float) -> NDArray[np.float32]:
        """Returns the items (n, C) of the slots that samples captured before `before_s` complete.

        They are in standard deviations from the mean of their channel, and follow each other from
        `next_slot` on.
        """
        known = int(np.searchsorted(self._times, before_s - _ROUNDING))
        if self._next is None or not known:
            return np.zeros((0, self.spec.channels), np.float32)
        slots = np.floor(self._times[:known] * self.spec.rate_hz + _ROUNDING).astype(np.int64)
        slots = np.maximum(slots, self._next)
        end = int(slots[-1])
        used = int(np.searchsorted(slots, end))
        if end == self._next:
            return np.zeros((0, self.spec.channels), np.float32)
        starts = np.flatnonzero(np.diff(slots[:used], prepend=-1))
        held = [self._held, *(part.mean(axis=0) for part in np.split(self._values[:used], starts)[1:])]
        # How many filled slots there are up to each one says whose mean it holds.
        source = np.searchsorted(slots[starts], np.arange(self._next, end), side="right")
        items = np.stack(held)[source]  # (n, C)
        self._held, self._next = held[-1], end
        self.taken_s = float(self._times[used - 1]) if used else self.taken_s
        self._times, self._values = self._times[used:], self._values[used:]
        scaled: NDArray[np.float32] = ((items - self._mean) / self._std).astype(np.float32)
        return scaled


def slot_from_time(time_s: float, spec: SeriesSpec) -> int:
    """Returns the number of the slot that a capture time lies in."""
    return math.floor(time_s * spec.rate_hz + _ROUNDING)


def series_items(samples: ArrayLike, times_s: ArrayLike, spec: SeriesSpec) -> NDArray[np.float32]:
    """Returns the items of a whole recording, the same numbers as a session's stem sees.

    Args:
        samples: (N, C), or (N,) for one channel, in the sensor's unit.
        times_s: (N,) capture times that do not go back.
        spec: parameters of the front-end.

    Returns:
        (n, C), one item a slot from the first sample's on; the slot of the last sample is not complete.

    Raises:
        InputError: samples that `samples_from` refuses, times of another number, or that go back.
    """
    values, times = samples_from(samples, spec), np.asarray(times_s, np.float64)
    if times.shape != (len(values),) or not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise InputError(
            f"series: expected {len(values)} finite times that do not go back, got shape {times.shape}"
        )
    grid = SeriesGrid(spec)
    grid.push(values, times)
    return grid.take(math.inf)


def samples_from(samples: ArrayLike, spec: SeriesSpec) -> NDArray[np.float64]:
    """Returns samples as (N, C) float64: of numbers (N, C), or (N,) or a single one for one channel.

    Raises:
        InputError: no numbers, another number of channels, or one that is not finite.
    """
    try:
        values = np.asarray(samples)
    except ValueError:  # rows of different lengths
        values = np.asarray(None)
    if values.dtype.kind not in "fiu":
        raise InputError(f"series: expected numbers, got {type(samples).__name__} of {values.dtype}")
    if values.ndim < 2 and spec.channels == 1:
        values = values.reshape(-1, 1)
    if values.ndim != 2 or values.shape[1] != spec.channels:
        shape = "(N,) or (N, 1)" if spec.channels == 1 else f"(N, {spec.channels})"
        raise InputError(f"series: expected samples of shape {shape}, got {values.shape}")
    found = values.astype(np.float64)
    if not np.isfinite(found).all():
        row, channel = (int(at[0]) for at in np.nonzero(~np.isfinite(found)))
        raise InputError(
            f"series: sample {row} of {len(found)} is {found[row, channel]} in channel {channel}; leave such "
            "samples out, nothing of the piece was taken"
        )
    return found
