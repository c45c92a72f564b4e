"""What happened to a session beside its readings: numbered, bounded, kept until asked for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from heapq import merge
from typing import Any

KEPT_EVENTS = 256
_NO_DETAIL: Mapping[str, Any] = {}


class EventKind(str, Enum):
    """What kind of thing happened."""

    RELOADED = "reloaded"
    """Newer engines serve from the next reading on."""
    RELOAD_FAILED = "reload_failed"
    """Newer engines could not be used; those from before go on serving."""
    STATE_CHANGED = "state_changed"
    """A modality is in another state than in the reading before."""
    SUBSET_CHANGED = "subset_changed"
    """Another set of modalities serves, or none."""
    EMOTION_CHANGED = "emotion_changed"
    """The momentary emotion is another one, came, or went."""
    MOOD_CHANGED = "mood_changed"
    """The sustained mood is another one, came, or went."""
    ENGINE_SET_ASIDE = "engine_set_aside"
    """An engine failed at run time and is not used any more; another one answers in its place."""
    ENGINE_CHANGED = "engine_changed"
    """Another engine, variant or backend answers for a subset."""
    MOVE_FAILED = "move_failed"
    """An engine could not be moved to a faster backend; the one in use goes on serving."""
    NOTICE_ACKNOWLEDGED = "notice_acknowledged"
    """Somebody has acknowledged the notice that had to be given before sensors opened."""
    CALLBACK_FAILED = "callback_failed"
    """A function of the application raised; the session went on without it."""

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
        detail: the same for programs, as plain data for ``json.dumps``; which keys depends on the kind.
    """

    number: int
    time_s: float
    kind: EventKind
    message: str
    detail: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns the event as plain data for ``json.dumps``."""
        return {
            "number": self.number,
            "time_s": round(self.time_s, 6),
            "kind": str(self.kind),
            "message": self.message,
            "detail": dict(self.detail),
        }


class EventLog:
    """The newest events of a session; safe to use from several threads.

    Each kind has room of its own, so that emotions that come and go all day push out no failure.

    Args:
        kept: how many of a kind are kept; an older one goes when a newer of its kind comes.
    """

    def __init__(self, kept: int = KEPT_EVENTS) -> None:
        self._events: dict[EventKind, deque[Event]] = {kind: deque(maxlen=kept) for kind in EventKind}
        self._lock = threading.Lock()
        self._count = 0

    def add(
        self, kind: EventKind, message: str, *, time_s: float, detail: Mapping[str, Any] = _NO_DETAIL
    ) -> Event:
        """Appends an event and returns it.

        Args:
            kind: see `EventKind`.
            message: what happened, in a sentence.
            time_s: when, on the session's clock.
            detail: the same as plain data for ``json.dumps``; copied.
        """
        with self._lock:
            self._count += 1
            event = Event(self._count, time_s, kind, message, dict(detail))
            self._events[kind].append(event)
            return event

    def after(self, number: int) -> tuple[Event, ...]:
        """Returns the kept events with a higher number, oldest first."""
        with self._lock:
            ordered = merge(*self._events.values(), key=lambda event: event.number)
            return tuple(event for event in ordered if event.number > number)
