"""Rehearsed failures of live sensors: one is taken away between two times and says that it is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgeemo.errors import InputError
from edgeemo.sensors.base import Chunk, Clock, Sensor, SensorStatus
from edgeemo.sensors.drop import Drop, drop_chunks, find_drop


class RehearsedSensor(Sensor):
    """Another sensor, taken away between times on the session's clock, as if its cable were pulled.

    Args:
        sensor: stays open meanwhile; what it gives is dropped.
        drops: failures of its modality.
    """

    def __init__(self, sensor: Sensor, drops: Sequence[Drop]) -> None:
        self.modality, self.name = sensor.modality, sensor.name
        self._sensor, self._drops = sensor, tuple(drops)
        self._clock: Clock | None = None

    def start(self, clock: Clock) -> None:
        """Starts the sensor."""
        self._clock = clock
        self._sensor.start(clock)

    def poll(self, timeout_s: float = 0.0) -> list[Chunk]:
        """Returns what arrived, but for what was captured during a failure."""
        return list(drop_chunks(self._sensor.poll(timeout_s), self._drops))

    def reopen(self) -> None:
        """Opens the sensor's device anew."""
        self._sensor.reopen()

    def close(self) -> None:
        """Closes the sensor."""
        self._sensor.close()

    @property
    def status(self) -> SensorStatus:
        """The sensor's own, or ``lost`` during a failure."""
        status = self._sensor.status
        now_s = 0.0 if self._clock is None else self._clock()
        drop = find_drop(self._drops, self.modality, now_s)
        if drop is None or status.state != "running":
            return status
        why = f"taken away from {drop.from_s:g} to {drop.to_s:g} s, to rehearse a failure"
        return replace(status, state="lost", why=why, trouble_s=now_s)


def rehearsed_sensors(sensors: Mapping[str, Sensor], drops: Sequence[Drop]) -> dict[str, Sensor]:
    """Returns modality -> sensor, those that are to fail wrapped.

    Raises:
        InputError: a failure of a modality that has no sensor.
    """
    unknown = [drop for drop in drops if drop.modality not in sensors]
    if unknown:
        raise InputError(
            f"{unknown[0]} takes away a sensor that was not given; there are: {', '.join(sensors) or 'none'}"
        )
    failures = {name: [drop for drop in drops if drop.modality == name] for name in sensors}
    return {
        name: RehearsedSensor(sensor, failures[name]) if failures[name] else sensor
        for name, sensor in sensors.items()
    }
