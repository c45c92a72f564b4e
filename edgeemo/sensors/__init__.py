"""Sources of samples: microphone, camera, media files, text; and what becomes of them when they fail."""

from edgeemo.sensors.base import Chunk, Clock, Sensor, SensorState, SensorStatus
from edgeemo.sensors.captions import Caption, parse_srt, read_srt
from edgeemo.sensors.media import MediaFile

__all__ = [
    "Caption",
    "Chunk",
    "Clock",
    "MediaFile",
    "Sensor",
    "SensorState",
    "SensorStatus",
    "parse_srt",
    "read_srt",
]
