"""Sources of samples: microphone, camera, media files, text; and what becomes of them when they fail."""

from edgeemo.sensors.base import Chunk, Clock, Sensor, SensorState, SensorStatus
from edgeemo.sensors.camera import Camera
from edgeemo.sensors.captions import Caption, parse_srt, read_srt
from edgeemo.sensors.devices import Device, DeviceGroup, list_devices
from edgeemo.sensors.drop import Drop, drop_chunks, find_drop, parse_drop
from edgeemo.sensors.live import LiveSensor
from edgeemo.sensors.media import MediaFile
from edgeemo.sensors.microphone import Microphone
from edgeemo.sensors.supervision import Patience
from edgeemo.sensors.text import CallableText, StdinText, TextQueue

__all__ = [
    "CallableText",
    "Camera",
    "Caption",
    "Chunk",
    "Clock",
    "Device",
    "DeviceGroup",
    "Drop",
    "LiveSensor",
    "MediaFile",
    "Microphone",
    "Patience",
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
    "read_srt",
]
