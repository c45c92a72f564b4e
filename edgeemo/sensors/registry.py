"""Sensors that other packages bring: found by the entry point ``edgeemo.sensors`` of what is installed.

A package registers a sensor in its ``pyproject.toml``::

    [project.entry-points."edgeemo.sensors"]
    radar = "my_package.radar:open_radar"

where ``open_radar(argument: str | None) -> Sensor``. If it has an attribute ``list_devices()`` that returns
`Device` objects, `edgeemo devices` shows them.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass

from edgeemo.errors import EdgeEmoError, SensorError
from edgeemo.sensors.base import Sensor
from edgeemo.sensors.camera import Camera
from edgeemo.sensors.microphone import Microphone
from edgeemo.sensors.pattern import PatternCamera, PatternMicrophone
from edgeemo.sensors.series import csv_from_spec
from edgeemo.sensors.text import StdinText

GROUP = "edgeemo.sensors"
SensorFactory = Callable[["str | None"], Sensor]


@dataclass(frozen=True)
class RegisteredSensor:
    """A sensor that an installed package brings.

    Attributes:
        name: what to pass to ``--sensor``.
        target: ``module:object`` of its factory.
        package: the distribution and its version, in words.
        problem: why it cannot be used, as far as that is known without loading it; empty if nothing is.
    """

    name: str
    target: str
    package: str
    problem: str = ""


def microphone_from_spec(argument: str | None, *, required: bool = True) -> Sensor:
    """Returns the microphone meant: number, part of a name, ``pattern``, or None for the default.

    Where it is not ``required``, one that does not exist is waited for.
    """
    if argument == "pattern":
        return PatternMicrophone()
    device = int(argument) if argument and argument.isdigit() else argument or None
    return Microphone(device, required=required)


def camera_from_spec(argument: str | None, *, required: bool = True) -> Sensor:
    """Returns the camera meant: number, path, URL, pipeline, ``pattern``, or None for the first.

    Where it is not ``required``, one that does not exist is waited for.
    """
    if argument == "pattern":
        return PatternCamera()
    return Camera(argument or None, required=required)


def _stdin_from_spec(argument: str | None) -> Sensor:
    if argument:
        raise SensorError(f"the sensor stdin takes no argument, got {argument!r}")
    return StdinText()


BUILT_IN: dict[str, SensorFactory] = {
    "mic": microphone_from_spec,
    "camera": camera_from_spec,
    "stdin": _stdin_from_spec,
    "csv": csv_from_spec,
}


def registered_sensors() -> tuple[RegisteredSensor, ...]:
    """Returns the sensors that installed packages register, in order of their names; loads none."""
    found: dict[str, RegisteredSensor] = {}
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda p: (p.name, p.value)):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
        other = found.get(point.name)
        problem = ""
        if point.name in BUILT_IN:
            problem = f"{package} registers {point.name!r}, which is the name of a sensor of edgeemo"
        elif other and (other.target, other.package) != (point.value, package):
            problem = f"{other.package} and {package} both register {point.name!r}; uninstall one of them"
        found[point.name] = RegisteredSensor(point.name, point.value, package, problem)
    return tuple(found.values())


def load_factory(name: str) -> SensorFactory:
    """Returns what makes the sensor of that name.

    Raises:
        SensorError: no such sensor, two packages that register it, or one whose code cannot be loaded.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    known = {sensor.name: sensor for sensor in registered_sensors()}
    if name not in known:
        names = ", ".join([*BUILT_IN, *known])
        raise SensorError(f"there is no sensor {name!r}; there are: {names}; packages may register more")
    sensor = known[name]
    if sensor.problem:
        raise SensorError(sensor.problem)
    (point, *_) = importlib.metadata.entry_points(group=GROUP, name=name)
    try:
        factory: SensorFactory = point.load()
    except EdgeEmoError:
        raise
    except Exception as error:  # whatever a package's import raises
        raise SensorError(
            f"the sensor {name!r} of {sensor.package} cannot be loaded: "
            f"{type(error).__name__}: {error} ({sensor.target})"
        ) from error
    if not callable(factory):
        raise SensorError(f"the sensor {name!r} of {sensor.package} is no function: {sensor.target}")
    return factory


def sensor_from_spec(spec: str) -> Sensor:
    """Returns the sensor that ``NAME`` or ``NAME:ARGUMENT`` says, built in or registered by a package.

    Raises:
        SensorError: no such sensor, or a package whose factory fails; the message says why.
    """
    name, _, argument = spec.partition(":")
    factory = load_factory(name)
    try:
        sensor = factory(argument or None)
    except EdgeEmoError:
        raise
    except Exception as error:  # a package's own
        raise SensorError(f"the sensor {spec!r} cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(sensor, Sensor):
        raise SensorError(f"the sensor {spec!r} is a {type(sensor).__name__}, not an edgeemo.sensors.Sensor")
    return sensor
