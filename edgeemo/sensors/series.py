"""Numbers as a sensor: asked of a function, or played from a table with a column of times."""

from __future__ import annotations

import csv
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgeemo.errors import InputError, SensorError
from edgeemo.modality import AUDIO, TEXT, VIDEO
from edgeemo.sensors.base import Chunk, Clock
from edgeemo.sensors.connections import ConnectionKind, Device, Gone
from edgeemo.sensors.live import LiveSensor
from edgeemo.sensors.recordings.playing import Timeline
from edgeemo.sensors.supervision import Patience

TIME_COLUMN = "time_s"

# When it counts as lost is said by the model, which knows how often its sensor speaks.
_WHENEVER = Patience(deadline_s=None)
_LOOK_S = 0.02
_MOST_ROWS = 10_000_000


class CallableSeries(LiveSensor):
    """Numbers from a function that is called again and again, in a thread of its own.

    Args:
        modality: what the model calls it, such as ``"heart_rate"``.
        source: returns a number, or one a channel, or None while there is nothing new; it may block.
            What it raises makes the sensor ``lost`` until it is called again, after the back-off.
        interval_s: seconds from one call to the next.
        name: for statuses.

    Raises:
        InputError: the interval is not positive, or the modality is one that has sensors of its own.
    """

    def __init__(
        self,
        modality: str,
        source: Callable[[], float | Sequence[float] | None],
        *,
        interval_s: float = 1.0,
        name: str = "",
    ) -> None:
        _check_modality(modality)
        if not 0 < interval_s < math.inf:
            raise InputError(f"interval_s must be above 0 s, got {interval_s}")
        super().__init__(
            modality, name or f"{modality} function", capacity=256, policy="drop-oldest", patience=_WHENEVER
        )
        self._source, self._interval_s = source, interval_s

    def open_device(self, clock: Clock) -> Device | Gone:
        """Nothing to open: the function is called as it is."""
        return _Calls(self.modality, self._source, self._interval_s, clock)


class CsvSeries(LiveSensor):
    """A table of numbers over time, played once at its own pace.

    Closed and started again, as by muting, it goes on where it would be by then.

    Args:
        modality: what the model calls it, such as ``"heart_rate"``.
        path: comma-separated text whose first line names the columns: ``time_s`` (seconds that do not go
            back) and one for each channel. Lines that begin with ``#`` are comments.
        columns: which columns are the channels, in the model's order; None for all but the times.
        connection: ``thread``, or ``inline`` to play it on a virtual clock.

    Raises:
        InputError: the file cannot be read or is no such table; the message names the line.
    """

    def __init__(
        self,
        modality: str,
        path: str | Path,
        *,
        columns: Sequence[str] | None = None,
        connection: ConnectionKind = "thread",
    ) -> None:
        _check_modality(modality)
        self.path = Path(path)
        self.times_s, self.samples = read_series(self.path, columns)
        super().__init__(
            modality,
            f"{modality} of {self.path.name}",
            capacity=256,
            policy="block",
            patience=_WHENEVER,
            connection=connection,
        )
        self._timeline = Timeline()

    def open_device(self, clock: Clock) -> Device | Gone:
        """Goes on where the table is by now."""
        waits_s = 0.0 if self.connection_kind == "inline" else _LOOK_S
        return _Rows(self, clock, start_s=self._timeline.start_s(clock), waits_s=waits_s)


def csv_from_spec(argument: str | None) -> CsvSeries:
    """Returns the sensor that ``MODALITY=FILE`` says.

    Raises:
        SensorError: it is not said so.
        InputError: the file is no table of numbers over time.
    """
    modality, equals, path = (argument or "").partition("=")
    if not (modality and equals and path):
        raise SensorError(f"the sensor csv is written csv:MODALITY=FILE, got {argument or ''!r}")
    return CsvSeries(modality, path)


def read_series(
    path: str | Path, columns: Sequence[str] | None = None
) -> tuple[list[float], list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]]:
    """Returns times (N,) in seconds and samples, each (1, C), of a table; see `CsvSeries`.

    Raises:
        InputError: the file cannot be read, a column is missing, a value is no finite number, times go
            back, or there is no row.
    """
    path = Path(path)
    times_s: list[float] = []
    samples = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(line for line in file if not line.startswith("#"))
            head = [name.strip() for name in next(rows, [])]
            wanted = [name for name in head if name != TIME_COLUMN] if columns is None else list(columns)
            missing = [name for name in (TIME_COLUMN, *wanted) if name not in head]
            if missing or not wanted:
                raise InputError(
                    f"{path.name} needs a column {', '.join(map(repr, missing)) or 'of values'} in its first "
                    f"line; it has: {', '.join(head) or 'none'}"
                )
            at = [head.index(name) for name in (TIME_COLUMN, *wanted)]
            for number, row in enumerate(rows, 1):
                if not row:
                    continue
                values = _numbers(row, at, path.name, number)
                if times_s and values[0] < times_s[-1]:
                    raise InputError(
                        f"{path.name}, row {number}: times go back from {times_s[-1]:g} to {values[0]:g} s"
                    )
                times_s.append(values[0])
                samples.append(np.array([values[1:]]))
                if len(times_s) > _MOST_ROWS:
                    raise InputError(f"{path.name} has more than {_MOST_ROWS} rows; cut it into pieces")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path.name} is no comma-separated text: {error}") from None
    if not times_s:
        raise InputError(f"{path.name} has no row of numbers below its first line")
    return times_s, samples


def _numbers(row: Sequence[str], at: Sequence[int], name: str, number: int) -> list[float]:
    try:
        values = [float(row[column]) for column in at]
    except (ValueError, IndexError):
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise InputError(f"{name}, row {number}: expected finite numbers, got {','.join(row)[:80]!r}")
    return values


def _check_modality(modality: str) -> None:
    if modality in (AUDIO, VIDEO, TEXT):
        raise InputError(f"{modality} is no series of numbers; there are Microphone, Camera and TextQueue")


class _Calls:
    def __init__(
        self,
        modality: str,
        source: Callable[[], float | Sequence[float] | None],
        interval_s: float,
        clock: Clock,
    ) -> None:
        self._modality, self._source, self._interval_s, self._clock = modality, source, interval_s, clock
        self._next_s = clock()

    def read(self) -> Chunk | Gone | None:
        left_s = self._next_s - self._clock()
        if left_s > 0:
            time.sleep(min(left_s, _LOOK_S))
            return None
        self._next_s = max(self._next_s, self._clock() - self._interval_s) + self._interval_s
        got = self._source()
        if got is None:
            return None
        return Chunk(self._modality, self._clock(), np.atleast_2d(np.asarray(got, np.float64)))

    def close(self) -> None:
        pass  # the function belongs to the application


class _Rows:
    """Gives each row when it was captured."""

    def __init__(self, sensor: CsvSeries, clock: Clock, *, start_s: float, waits_s: float) -> None:
        self._sensor, self._clock, self._start_s, self._waits_s = sensor, clock, start_s, waits_s
        self._row = bisect_left(sensor.times_s, clock() - start_s)

    def read(self) -> Chunk | Gone | None:
        sensor = self._sensor
        if self._row == len(sensor.times_s):
            return Gone("lost", f"{sensor.name} has ended", retry=False)
        time_s = self._start_s + sensor.times_s[self._row]
        left_s = time_s - self._clock()
        if left_s > 1e-9:
            time.sleep(min(left_s, self._waits_s))
            return None
        self._row += 1
        return Chunk(sensor.modality, time_s, sensor.samples[self._row - 1])

    def close(self) -> None:
        pass  # the table was read when the sensor was made
