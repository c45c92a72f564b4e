"""Sources of samples: microphone, camera, media files, text; and what becomes of them when they fail."""

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
    "MediaSensor",
    "Microphone",
    "Patience",
    "PatternCamera",
    "PatternMicrophone",
    "RegisteredSensor",
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
