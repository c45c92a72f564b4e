"""The session: windows, states, subset choice, readings."""

from edgeemo.session.engines.options import EngineOptions
from edgeemo.session.events import Event, EventKind
from edgeemo.session.reading import NO_SIGNAL, Reading
from edgeemo.session.session import Session
from edgeemo.session.settings import Settings
from edgeemo.session.states import State, Status
from edgeemo.session.stats import SessionStats

__all__ = [
    "NO_SIGNAL",
    "EngineOptions",
    "Event",
    "EventKind",
    "Reading",
    "Session",
    "SessionStats",
    "Settings",
    "State",
    "Status",
]
