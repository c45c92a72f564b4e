"""What happened to a session beside its readings: numbered, bounded, kept until asked for."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Any

KEPT_EVENTS = 256


class EventKind(str, Enum):
    """What kind of thing happened."""

    RELOADED = "reloaded"
    """Newer engines serve from the next reading on."""
    RELOAD_FAILED = "reload_failed"
    """Newer engines could not be used; those from before go on serving."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        number: 1 for the first of a session; a gap between two tells how many were not kept.
        time_s: when, on the session's clock.
        kind: see `EventKind`.
        message: what happened, in a sentence.
    """

    number: int
    time_s: float
    kind: EventKind
    message: str

    def to_json(self) -> dict[str, Any]:
        """Returns the event as plain data for ``json.dumps``."""
        return {
            "number": self.number,
            "time_s": round(self.time_s, 6),
            "kind": str(self.kind),
            "message": self.message,
        }


class EventLog:
    """The newest events of a session; safe to use from several threads.

    Args:
        kept: how many are kept; an older one goes when a newer comes.
    """

    def __init__(self, kept: int = KEPT_EVENTS) -> None:
        self._events: deque[Event] = deque(maxlen=kept)
        self._lock = threading.Lock()
        self._count = 0

    def add(self, kind: EventKind, message: str, *, time_s: float) -> Event:
        """Appends an event and returns it."""
        with self._lock:
            self._count += 1
            event = Event(self._count, time_s, kind, message)
            self._events.append(event)
            return event

    def after(self, number: int) -> tuple[Event, ...]:
        """Returns the kept events with a higher number, oldest first."""
        with self._lock:
            return tuple(event for event in self._events if event.number > number)
