"""Live sensors on the session's clock: started together, polled between hops."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from edgeemo.errors import EdgeEmoError, SessionClosedError
from edgeemo.sensors.base import Chunk, Clock, Sensor
from edgeemo.session.states import Outage, State

log = logging.getLogger(__name__)

_POLL_S = 0.01


class LiveSensors:
    """The sensors of a session.

    Args:
        sensors: modality -> sensor; started, polled and closed here.
        clock: the session's time in seconds.
        wait: lets seconds pass, unless an event is set; see `edgeemo.clock.Clock.wait`.
        push: takes one chunk of data.
    """

    def __init__(
        self,
        sensors: Mapping[str, Sensor],
        *,
        clock: Clock,
        wait: Callable[[float, threading.Event], bool],
        push: Callable[[Chunk], None],
    ) -> None:
        self.sensors = dict(sensors)
        self.rejected: dict[str, int] = {}
        self._clock, self._wait, self._push = clock, wait, push
        self._started = False

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
        self._started = True

    def resume(self, modality: str) -> None:
        """Starts one sensor again, where the sensors are running at all.

        Raises:
            SensorError: as `start`.
        """
        if self._started and modality in self.sensors:
            self.sensors[modality].start(self._clock)

    def close_one(self, modality: str) -> None:
        """Closes the device of one modality; may wait for a driver."""
        if modality in self.sensors:
            self.sensors[modality].close()

    def close(self) -> None:
        """Closes all devices."""
        for sensor in self.sensors.values():
            sensor.close()

    def poll(self) -> None:
        """Takes what has arrived. Data that cannot be used is counted, said once, and dropped."""
        for modality, sensor in self.sensors.items():
            for chunk in sensor.poll():
                try:
                    self._push(chunk)
                except SessionClosedError:
                    return
                except EdgeEmoError as error:
                    if not self.rejected.get(modality):
                        log.warning("%s from %s was not used: %s", modality, sensor.name, error)
                    self.rejected[modality] = self.rejected.get(modality, 0) + 1

    def discard(self) -> None:
        """Drops what has arrived and was not taken yet."""
        for sensor in self.sensors.values():
            sensor.poll()

    def poll_until(self, time_s: float, closed: threading.Event) -> None:
        """Polls until the clock shows `time_s` or `closed` is set."""
        while not closed.is_set():
            self.poll()
            left_s = time_s - self._clock()
            if left_s <= 0:
                return
            self._wait(min(_POLL_S, left_s), closed)

    def outages(self) -> dict[str, Outage]:
        """Returns the sensors that say themselves that they give nothing, each with its sentence."""
        found = {}
        for modality, sensor in self.sensors.items():
            status = sensor.status
            if status.state != "running":
                found[modality] = Outage(State(status.state), status.why)
        return found
