"""Numbers of a sensor of one's own: put on a grid in capture time, and through the stem in aligned blocks."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeemo.bundle.manifest import ModalitySpec
from edgeemo.errors import BundleError, InputError
from edgeemo.features.series import SeriesGrid, SeriesSpec, samples_from
from edgeemo.runtimes.base import Runner
from edgeemo.session.settings import Settings
from edgeemo.session.states import State
from edgeemo.session.streams.base import USABLE, Stream, Usability, check_time
from edgeemo.windows import BlockBuffer, FeatureWindow, Float32

_ROUNDING_S = 1e-6


@dataclass(frozen=True)
class _Look:
    """What the newest sample of a push showed."""

    time_s: float
    values: NDArray[np.float64]
    since_s: float  # when the values became what they are
    trouble: str


class SeriesStream(Stream):
    """A sensor's numbers as a window of features; the modality may have any name.

    Args:
        spec: the modality as the manifest has it.
        stem: the stem's runner; its owner closes it.
        settings: not looked at: what a sensor of one's own needs is in its front-end.

    Raises:
        BundleError: the stem does not fit the front-end, or the window can never be filled.
    """

    def __init__(self, spec: ModalitySpec, stem: Runner, settings: Settings) -> None:
        self.modality = spec.name
        self._front_end = SeriesSpec.from_json(spec.front_end)
        _check_fit(spec, self._front_end)
        self._spec, self._stem = spec, stem
        self._input, self._output = f"input.{spec.name}", f"features.{spec.name}"
        self.deadline_s = self._front_end.deadline_s
        self._grid = SeriesGrid(self._front_end)
        self._blocks = BlockBuffer(
            block=spec.stem.block, left_context=spec.stem.left_context, item_shape=spec.stem.item_shape
        )
        self._window = FeatureWindow(length=spec.window.length, width=spec.feature_width)
        self.reset()

    def reset(self) -> None:
        """Starts again as if nothing had ever been pushed."""
        self.newest_s, self.patience_s = None, 0.0
        self._pushed_s: float | None = None
        self._begin()

    def _begin(self) -> None:
        self._grid.reset()
        self._blocks.reset()
        self._window.clear()
        self._first_slot: int | None = None
        self._items = 0  # taken from the grid
        self._looks: deque[_Look] = deque()

    def push(self, samples: ArrayLike, *, time_s: float, rate_hz: float | None = None) -> None:
        """Takes samples (N, C), or (N,) of one channel, the first captured at `time_s`.

        A gap longer than the front-end's deadline starts the stream anew with an empty window.

        Args:
            samples: in the sensor's unit, as the model was trained on them.
            time_s: seconds on the session's clock.
            rate_hz: samples a second in this piece; None for the rate that the model was made for.

        Raises:
            InputError: the samples are no finite numbers of that shape, the rate cannot be used, or the
                time goes back; the stream is unchanged.
        """
        values = samples_from(samples, self._front_end)
        rate = self._checked_rate(rate_hz)
        check_time(self.modality, time_s, self._pushed_s)
        self._pushed_s = time_s
        if not len(values):
            return
        if self.newest_s is not None and time_s - self.newest_s > self.deadline_s:
            self._begin()
        times_s = time_s + np.arange(len(values)) / rate
        self._grid.push(values, times_s)
        if self._first_slot is None:
            self._align()
        self._look_at(values, times_s)
        self.newest_s = max(float(times_s[-1]), self.newest_s or 0.0)
        # An application that pushes and seldom reads must not make the buffers grow. No reading that is
        # still to come lies a whole window before these samples.
        self.advance(time_s - self._spec.window.window_s)

    def length_s(self, samples: ArrayLike, *, rate_hz: float | None) -> float:
        """Returns the seconds from the first to the last of these samples.

        Raises:
            InputError: as `push`.
        """
        count = len(samples_from(samples, self._front_end))
        return max(0, count - 1) / self._checked_rate(rate_hz)

    def _checked_rate(self, rate_hz: float | None) -> float:
        rate = self._front_end.rate_hz if rate_hz is None else rate_hz
        numeric = isinstance(rate, int | float | np.integer | np.floating) and not isinstance(rate, bool)
        if not numeric or not 1.0 / self.deadline_s <= rate < math.inf:
            raise InputError(
                f"{self.modality}: rate_hz must be at least {1 / self.deadline_s:g} Hz, for the sensor "
                f"counts as lost after {self.deadline_s:g} s; got {rate_hz!r}"
            )
        return float(rate)

    def _align(self) -> None:
        """Lets blocks end where hops do: on multiples of their length since time 0."""
        first = self._grid.next_slot or 0
        missing = first % self._spec.stem.block
        self._first_slot = first - missing
        self._blocks.push(np.zeros((missing, *self._spec.stem.item_shape), np.float32))
        self._items = missing

    def _look_at(self, values: NDArray[np.float64], times_s: NDArray[np.float64]) -> None:
        before = self._looks[-1] if self._looks else None
        for time_s, row in zip(times_s.tolist(), values, strict=True):
            same = before is not None and np.array_equal(row, before.values)
            since_s = before.since_s if same and before else time_s
            before = _Look(time_s, row, since_s, self._trouble(row))
            self._looks.append(before)

    def _trouble(self, row: NDArray[np.float64]) -> str:
        spec = self._front_end
        for channel, value in enumerate(row.tolist()):
            low = spec.low[channel] if spec.low else -math.inf
            high = spec.high[channel] if spec.high else math.inf
            if not low <= value <= high:
                where = f" in channel {channel}" if spec.channels > 1 else ""
                return f"{value:g}{where} cannot be true: it lies outside {low:g} to {high:g}"
        return ""

    def advance(self, at_s: float) -> None:
        """Runs the stem on every block that samples captured before `at_s` complete."""
        items = self._grid.take(at_s)
        if len(items):
            self._blocks.push(items)
            self._items += len(items)
            for block in self._blocks.take(up_to_item=self._items):
                features = self._stem.run({self._input: block[None]})[self._output][0]  # (n, D)
                self._window.put_all((self._blocks.taken - 1) * len(features), features)
        while len(self._looks) > 1 and self._looks[1].time_s < at_s - _ROUNDING_S:
            self._looks.popleft()

    def usability(self, at_s: float) -> Usability:
        """Poor where the newest value cannot be true, or has stayed exactly the same for too long."""
        look = self._newest(at_s)
        if look is None:
            return Usability(State.QUIET, "no sample has arrived yet")
        if look.trouble:
            return Usability(State.POOR, look.trouble)
        stuck_s, same_s = self._front_end.stuck_s, look.time_s - look.since_s
        if stuck_s and same_s > stuck_s:
            values = ", ".join(f"{value:g}" for value in look.values[:4].tolist())
            return Usability(State.POOR, f"the same {values} for {same_s:.1f} s: the sensor is stuck")
        return USABLE

    def fill(self, at_s: float) -> tuple[float, float]:
        """Returns how many seconds of the window are filled and how many are needed."""
        filled = self._window.count(self._newest_slot()) * self._spec.window.period_s
        return filled, self._front_end.min_fill_s

    def window(self, at_s: float) -> tuple[Float32, Float32]:
        """Returns features (1, T, D) and mask (1, T), the newest complete block last."""
        return self._window.view(self._newest_slot())

    def evidence_s(self, at_s: float) -> float | None:
        """Returns when the newest sample in the window was captured, at the latest."""
        taken_s = self._grid.taken_s
        if taken_s is None or self._first_slot is None or not self._window.count(self._newest_slot()):
            return None
        ends = self._first_slot + self._blocks.taken * self._spec.stem.block
        return min(taken_s, ends / self._front_end.rate_hz)

    def forget(self) -> None:
        """Empties the window; the grid goes on, it belongs to the sensor's time."""
        self._window.clear()

    def _newest(self, at_s: float) -> _Look | None:
        for look in reversed(self._looks):
            if look.time_s < at_s - _ROUNDING_S:
                return look
        return None

    def _newest_slot(self) -> int:
        return self._blocks.taken * self._spec.stem.features_per_block - 1


def _check_fit(spec: ModalitySpec, front_end: SeriesSpec) -> None:
    """Refuses a modality that no session could run.

    Raises:
        BundleError: with what does not fit.
    """
    stem, window = spec.stem, spec.window
    if stem.scope != "stream" or stem.dtype != "float32" or stem.item_shape != (front_end.channels,):
        raise BundleError(
            f"modality {spec.name!r}: a series needs a stem of scope 'stream' over float32 items "
            f"({front_end.channels},), got {stem.scope!r} over {stem.dtype} items {stem.item_shape}"
        )
    period_s = stem.stride / front_end.rate_hz
    if not math.isclose(window.period_s, period_s, rel_tol=1e-6):
        raise BundleError(
            f"modality {spec.name!r}: {front_end.rate_hz:g} items a second at a stride of {stem.stride} "
            f"make a feature every {period_s:g} s, but its window counts {window.period_s:g} s"
        )
    if front_end.min_fill_s > window.length * period_s + _ROUNDING_S:
        raise BundleError(
            f"modality {spec.name!r}: its window of {window.length * period_s:g} s can never be filled for "
            f"{front_end.min_fill_s:g} s (min_fill_s)"
        )
