"""The session: windows, states, subset choice, readings."""

from edgeemo.session.engines.options import EngineOptions
from edgeemo.session.engines.stats import PartStats, PoolStats
from edgeemo.session.events import Event, EventKind
from edgeemo.session.faces import FaceReading
from edgeemo.session.notice import Acknowledgement
from edgeemo.session.reading import NO_SIGNAL, Reading
from edgeemo.session.reading_json import reading_from_json
from edgeemo.session.session import Session
from edgeemo.session.settings import Settings
from edgeemo.session.states import State, Status
from edgeemo.session.stats import SessionStats

__all__ = [
    "NO_SIGNAL",
    "Acknowledgement",
    "EngineOptions",
    "Event",
    "EventKind",
    "FaceReading",
    "PartStats",
    "PoolStats",
    "Reading",
    "Session",
    "SessionStats",
    "Settings",
    "State",
    "Status",
    "reading_from_json",
]
