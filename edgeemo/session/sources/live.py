"""Live sensors on the session's clock: started together, polled between hops."""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from edgeemo.errors import EdgeEmoError, InputError, SensorError, SessionClosedError
from edgeemo.sensors.base import Chunk, Clock, Sensor, SensorStatus
from edgeemo.sensors.registry import sensor_from_spec
from edgeemo.session.reading import Reading
from edgeemo.session.sources.base import Read, Source
from edgeemo.session.states import Outage, State
from edgeemo.session.streams.base import Stream

log = logging.getLogger(__name__)

_POLL_S = 0.02  # a hop polls once more itself; in between it keeps what waits small and revives devices
_ROUNDING_S = 1e-6
_PUNCTUAL_S = 0.1  # a reading this little behind its hop is still about the hop
_REFUSED_S = 0.5  # one piece in between that cannot be used costs nothing else
_CLOSE_S = 1.2


class LiveSensors(Source):
    """The sensors of a session.

    Args:
        sensors: modality -> sensor; started, polled and closed here.
        clock: the session's time in seconds.
        wait: lets seconds pass, unless an event is set; see `edgeemo.clock.Clock.wait`.
        push: takes one chunk of data.
    """

    is_live = True

    def __init__(
        self,
        sensors: Mapping[str, Sensor],
        *,
        clock: Clock,
        wait: Callable[[float, threading.Event], bool],
        push: Callable[[Chunk], None],
    ) -> None:
        self.sensors = dict(sensors)
        self.name = "+".join(self.sensors)
        self.rejected: dict[str, int] = {}
        self._broken: dict[str, str] = {}
        self._told: set[tuple[str, type[Exception]]] = set()
        self._refused: dict[str, tuple[float, str]] = {}  # since when all that a sensor gives is, and why
        self.late_hops = 0
        self._clock, self._wait, self._push = clock, wait, push
        self._started = False
        self._polling = threading.RLock()

    @property
    def started(self) -> bool:
        """Whether the sensors have been started and not closed since."""
        return self._started

    def start(self, *, without: Callable[[str], bool]) -> None:
        """Starts all sensors once; if one cannot be started, none stays started.

        Args:
            without: tells which modalities are muted and stay closed.

        Raises:
            SensorError: a device asked for by name does not exist.
        """
        if self._started:
            return
        try:
            for modality, sensor in self.sensors.items():
                if not without(modality):
                    sensor.start(self._clock)
        except EdgeEmoError:
            self.close()
            raise
        except Exception as error:  # anybody may write a sensor
            self.close()
            raise SensorError(f"{sensor.name} does not start: {type(error).__name__}: {error}") from error
        self._started = True

    def resume(self, modality: str) -> None:
        """Starts one sensor again, where the sensors are running at all.

        Raises:
            SensorError: as `start`.
        """
        if self._started and modality in self.sensors:
            self.sensors[modality].start(self._clock)
            if not self.started:  # all were closed while this one opened
                self.close_one(modality)

    def close_one(self, modality: str) -> None:
        """Closes the device of one modality; may wait for a driver."""
        sensor = self.sensors.get(modality)
        try:
            if sensor is not None:
                sensor.close()
        except Exception:
            log.exception("%s was not closed cleanly", sensor.name if sensor else modality)

    def close(self) -> None:
        """Closes all devices, side by side: a driver that hangs holds up no other.

        Waits at most `_CLOSE_S` for the slowest.
        """
        self._started = False
        closing = [
            threading.Thread(
                target=self.close_one, args=(modality,), name=f"edgeemo-close {modality}", daemon=True
            )
            for modality in self.sensors
        ]
        for thread in closing:
            thread.start()
        until_s = time.monotonic() + _CLOSE_S
        for thread in closing:
            thread.join(max(0.0, until_s - time.monotonic()))

    def poll(self) -> None:
        """Takes what has arrived. Data that cannot be used is counted, said once, and dropped."""
        with self._polling:  # two threads at once would mix up the order of chunks
            self._poll()

    def _poll(self) -> None:
        for modality, sensor in self.sensors.items():
            for chunk in self._chunks_of(modality, sensor):
                try:
                    self._push(chunk)
                    self._refused.pop(modality, None)
                except SessionClosedError:
                    return
                except EdgeEmoError as error:
                    if not self.rejected.get(modality):
                        log.warning("%s from %s was not used: %s", modality, sensor.name, error)
                    self.rejected[modality] = self.rejected.get(modality, 0) + 1
                    since_s, _ = self._refused.get(modality, (self._clock(), ""))
                    self._refused[modality] = since_s, f"what {sensor.name} gives cannot be used: {error}"

    def _chunks_of(self, modality: str, sensor: Sensor) -> list[Chunk]:
        """Returns what has arrived; a sensor that raises is said to be lost until it does not any more."""
        try:
            chunks = _checked(sensor.poll(), modality)
        except Exception as error:  # anybody may write a sensor; the others must go on
            if (modality, type(error)) not in self._told:
                self._told.add((modality, type(error)))
                log.exception("%s failed; it is not said again", sensor.name)
            self._broken[modality] = f"{sensor.name} failed: {type(error).__name__}: {error}"
            return []
        self._broken.pop(modality, None)
        return chunks

    def paused(self) -> AbstractContextManager[object]:
        """Lets nobody poll meanwhile."""
        return self._polling

    def discard(self) -> None:
        """Drops what has arrived and was not taken yet."""
        with self._polling:
            for modality, sensor in self.sensors.items():
                self._chunks_of(modality, sensor)

    def poll_until(self, time_s: float, closed: threading.Event) -> None:
        """Polls until the clock shows `time_s` or `closed` is set."""
        while not closed.is_set():
            self.poll()
            left_s = time_s - self._clock()
            if left_s <= 0:
                return
            self._wait(min(_POLL_S, left_s), closed)

    def readings(self, hop_s: float, *, closed: threading.Event, read: Read) -> Iterator[Reading]:
        """Yields a reading at each hop of the clock until `closed` is set, polling in between.

        Hops that passed while nobody asked are counted in `late_hops` and left out, and a hop that is asked
        for late is read as of now: what comes next is about now, with the newest data.
        """
        for number in itertools.count(int(self._clock() / hop_s) + 1):
            if self._clock() >= (number + 1) * hop_s - _ROUNDING_S:
                self.late_hops += 1
                continue
            asked_late = self._clock() > number * hop_s + _ROUNDING_S
            self.poll_until(number * hop_s, closed)
            behind_s = self._clock() - number * hop_s
            yield read(number * hop_s + (behind_s if asked_late or behind_s > _PUNCTUAL_S else 0.0))

    def outages(self, streams: Mapping[str, Stream]) -> dict[str, Outage]:
        """Returns what sensors say of not giving data: now, with a sentence, or at some time before."""
        found = {}
        for modality, status in self.statuses().items():
            if status.state != "running":
                found[modality] = Outage(State(status.state), status.why, trouble_s=status.trouble_s)
            elif status.trouble_s is not None:
                found[modality] = Outage(State.LIVE, "", trouble_s=status.trouble_s)
            since_s, why = self._refused.get(modality, (math.inf, ""))
            if status.state == "running" and self._clock() - since_s >= _REFUSED_S:
                found[modality] = Outage(State.POOR, why, trouble_s=status.trouble_s)
        if self.sensors:
            for modality, stream in streams.items():
                if modality not in self.sensors and stream.newest_s is None:
                    found[modality] = Outage(State.ABSENT, "no sensor was given for it")
        return found

    def statuses(self) -> dict[str, SensorStatus]:
        """Returns how every sensor is, modality by modality; one that raises is lost."""
        return {modality: self._status_of(modality, sensor) for modality, sensor in self.sensors.items()}

    def _status_of(self, modality: str, sensor: Sensor) -> SensorStatus:
        if modality in self._broken:
            return SensorStatus("lost", self._broken[modality], trouble_s=self._clock())
        try:
            status = sensor.status
            if not isinstance(status, SensorStatus):
                raise TypeError(f"its status is a {type(status).__name__}, not a SensorStatus")
            if status.state != "running":
                State(status.state)  # raises where there is no such state
            return status
        except Exception as error:
            why = f"{sensor.name} does not say how it is: {type(error).__name__}: {error}"
            return SensorStatus("lost", why, trouble_s=self._clock())

    def reopen(self, modality: str) -> None:
        """Lets a sensor open its device again, because what it gives cannot be trusted."""
        sensor = self.sensors.get(modality)
        if sensor is None or not self._started:
            return
        try:
            sensor.reopen()
        except Exception as error:
            log.warning("%s was not opened again: %s", sensor.name, error)


def _checked(chunks: object, modality: str) -> list[Chunk]:
    """Returns what a sensor gave, where it is a list of its modality's chunks."""
    if not isinstance(chunks, list):
        raise InputError(f"poll() gave a {type(chunks).__name__}, not a list of chunks")
    for chunk in chunks:
        if not isinstance(chunk, Chunk):
            raise InputError(f"poll() gave a {type(chunk).__name__}, not a chunk")
        if chunk.modality != modality:
            raise InputError(f"a sensor of {modality} gave a chunk of {chunk.modality}")
    return chunks


def sensors_by_modality(sensors: Sequence[Sensor | str]) -> dict[str, Sensor]:
    """Returns modality -> sensor.

    Raises:
        InputError: no list, no sensors, or two of one modality.
        SensorError: no sensor is known by a word.
    """
    if isinstance(sensors, str | Sensor):
        raise InputError("sensors is a list; write sensors=[...] around the one")
    opened = [sensor_from_spec(sensor) if isinstance(sensor, str) else sensor for sensor in sensors]
    for sensor in opened:
        if not isinstance(sensor, Sensor):
            raise InputError(f"sensors are edgeemo.sensors.Sensor or words, got {type(sensor).__name__}")
    by_modality = {sensor.modality: sensor for sensor in opened}
    if len(by_modality) != len(sensors):
        raise InputError("a session takes at most one sensor for each modality")
    return by_modality


def check_known(sensors: Mapping[str, Sensor], known: Sequence[str]) -> None:
    """Refuses a sensor of a modality that the model does not have.

    Raises:
        InputError: with the modalities that it has.
    """
    if strange := sorted(set(sensors) - set(known)):
        raise InputError(
            f"a sensor gives {strange[0]!r}; this model takes: {', '.join(known)}; leave that sensor away "
            "(edgeemo run and serve: --mic none, --camera none)"
        )
