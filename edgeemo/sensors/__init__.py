"""Sources of samples: microphone, camera, media files, text; and what becomes of them when they fail."""

from edgeemo.sensors.base import Chunk, Clock, Sensor, SensorState, SensorStatus
from edgeemo.sensors.captions import Caption, parse_srt, read_srt
from edgeemo.sensors.drop import Drop, drop_chunks, find_drop, parse_drop
from edgeemo.sensors.media import MediaFile

__all__ = [
    "Caption",
    "Chunk",
    "Clock",
    "Drop",
    "MediaFile",
    "Sensor",
    "SensorState",
    "SensorStatus",
    "drop_chunks",
    "find_drop",
    "parse_drop",
    "parse_srt",
    "read_srt",
]
