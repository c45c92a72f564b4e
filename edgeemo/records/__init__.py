"""Records of readings: kept as JSON lines, as Parquet, or as EmotionML.

Only readings are recorded: numbers, labels, states and their reasons. There is no code here that could
write sound, pictures or words; an application that wants those has to keep them itself.
"""

from edgeemo.records.emotionml import emotionml_from_reading, emotionml_from_readings
from edgeemo.records.header import RecordHeader, header_from_manifest
from edgeemo.records.open import SUFFIXES, convert_record, open_recorder
from edgeemo.records.read import RecordedSession, read_records, read_sessions
from edgeemo.records.recorder import Recorder

__all__ = [
    "SUFFIXES",
    "RecordHeader",
    "RecordedSession",
    "Recorder",
    "convert_record",
    "emotionml_from_reading",
    "emotionml_from_readings",
    "header_from_manifest",
    "open_recorder",
    "read_records",
    "read_sessions",
]
