"""Sources of samples: microphone, camera, media files, text; and what becomes of them when they fail.

Names are loaded when they are first used: a child process that reads one device needs few of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeemo.sensors.base import Chunk, Clock, Sensor, SensorState, SensorStatus
    from edgeemo.sensors.camera import Camera
    from edgeemo.sensors.drop import Drop, drop_chunks, find_drop, parse_drop
    from edgeemo.sensors.listing.devices import Device, DeviceGroup, list_devices
    from edgeemo.sensors.live import LiveSensor
    from edgeemo.sensors.media import MediaFile
    from edgeemo.sensors.microphone import Microphone
    from edgeemo.sensors.pattern import PatternCamera, PatternMicrophone
    from edgeemo.sensors.recordings.captions import Caption, parse_srt, read_srt
    from edgeemo.sensors.recordings.playing import MediaSensor, play
    from edgeemo.sensors.registry import RegisteredSensor, registered_sensors, sensor_from_spec
    from edgeemo.sensors.rehearsal import RehearsedSensor
    from edgeemo.sensors.series import CallableSeries, CsvSeries
    from edgeemo.sensors.supervision import Patience
    from edgeemo.sensors.text import CallableText, StdinText, TextQueue

_HOMES = {
    "CallableSeries": "edgeemo.sensors.series",
    "CallableText": "edgeemo.sensors.text",
    "Camera": "edgeemo.sensors.camera",
    "Caption": "edgeemo.sensors.recordings.captions",
    "Chunk": "edgeemo.sensors.base",
    "Clock": "edgeemo.sensors.base",
    "CsvSeries": "edgeemo.sensors.series",
    "Device": "edgeemo.sensors.listing.devices",
    "DeviceGroup": "edgeemo.sensors.listing.devices",
    "Drop": "edgeemo.sensors.drop",
    "LiveSensor": "edgeemo.sensors.live",
    "MediaFile": "edgeemo.sensors.media",
    "MediaSensor": "edgeemo.sensors.recordings.playing",
    "Microphone": "edgeemo.sensors.microphone",
    "Patience": "edgeemo.sensors.supervision",
    "PatternCamera": "edgeemo.sensors.pattern",
    "PatternMicrophone": "edgeemo.sensors.pattern",
    "RegisteredSensor": "edgeemo.sensors.registry",
    "RehearsedSensor": "edgeemo.sensors.rehearsal",
    "Sensor": "edgeemo.sensors.base",
    "SensorState": "edgeemo.sensors.base",
    "SensorStatus": "edgeemo.sensors.base",
    "StdinText": "edgeemo.sensors.text",
    "TextQueue": "edgeemo.sensors.text",
    "drop_chunks": "edgeemo.sensors.drop",
    "find_drop": "edgeemo.sensors.drop",
    "list_devices": "edgeemo.sensors.listing.devices",
    "parse_drop": "edgeemo.sensors.drop",
    "parse_srt": "edgeemo.sensors.recordings.captions",
    "play": "edgeemo.sensors.recordings.playing",
    "read_srt": "edgeemo.sensors.recordings.captions",
    "registered_sensors": "edgeemo.sensors.registry",
    "sensor_from_spec": "edgeemo.sensors.registry",
}

__all__ = [
    "CallableSeries",
    "CallableText",
    "Camera",
    "Caption",
    "Chunk",
    "Clock",
    "CsvSeries",
    "Device",
    "DeviceGroup",
    "Drop",
    "LiveSensor",
    "MediaFile",
    "MediaSensor",
    "Microphone",
    "Patience",
    "PatternCamera",
    "PatternMicrophone",
    "RegisteredSensor",
    "RehearsedSensor",
    "Sensor",
    "SensorState",
    "SensorStatus",
    "StdinText",
    "TextQueue",
    "drop_chunks",
    "find_drop",
    "list_devices",
    "parse_drop",
    "parse_srt",
    "play",
    "read_srt",
    "registered_sensors",
    "sensor_from_spec",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'edgeemo.sensors' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
