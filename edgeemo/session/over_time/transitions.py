"""What is other than in the reading before, told once as an event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from edgeemo.session.events import EventKind
from edgeemo.session.reading import Reading


class Tell(Protocol):
    """What takes an event, such as `EventLog.add`."""

    def __call__(self, kind: EventKind, message: str, *, time_s: float, detail: Mapping[str, Any]) -> object:
        """Takes an event; see `Event`."""


class Transitions:
    """Compares each reading with the one before and tells what has changed.

    At most one event a hop for each modality's state, the subset, the emotion and the mood, and none where
    nothing changed; the first reading changes no state. What `Event.detail` holds:

    ================= =====================================================================
    state_changed     modality, from, to (names of states), why (sentence), since_s
    subset_changed    from, to (subset, or null where nothing serves)
    emotion_changed   from, to (label, or null without a signal), subset
    mood_changed      from, to (label, or null where there is no mood)
    ================= =====================================================================

    A reading without a signal shows no mood, but the mood is kept through the gap: it is another one
    only when it is told here.

    Args:
        tell: takes the events.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.reset()

    def reset(self) -> None:
        """Forgets the reading before; tells nothing."""
        self._before: Reading | None = None
        self._mood: str | None = None

    def update(self, reading: Reading, *, mood: str | None) -> None:
        """Takes the newest reading.

        Args:
            reading: complete.
            mood: the mood that is kept, shown or not.
        """
        before, self._before = self._before, reading
        if before is not None and reading.states != before.states:
            self._compare_states(before, reading)
        old = None if before is None else before.subset
        if reading.subset != old:
            detail: dict[str, Any] = {"from": old, "to": reading.subset}
            message = _served(old, reading.subset)
            self._tell(EventKind.SUBSET_CHANGED, message, time_s=reading.time_s, detail=detail)
        old = None if before is None else before.emotion
        if reading.emotion != old:
            detail = {"from": old, "to": reading.emotion, "subset": reading.subset}
            message = _changed("emotion", old, reading.emotion)
            self._tell(EventKind.EMOTION_CHANGED, message, time_s=reading.time_s, detail=detail)
        old, self._mood = self._mood, mood
        if mood != old:
            message = _changed("mood", old, mood)
            detail = {"from": old, "to": mood}
            self._tell(EventKind.MOOD_CHANGED, message, time_s=reading.time_s, detail=detail)

    def _compare_states(self, before: Reading, reading: Reading) -> None:
        for modality, now in reading.states.items():
            then = before.states.get(modality)
            if then is not None and now.state is not then.state:
                message = f"{modality} is {now.state}, it was {then.state}" + (now.why and f": {now.why}")
                detail = {
                    "modality": modality,
                    "from": str(then.state),
                    "to": str(now.state),
                    "why": now.why,
                    "since_s": round(now.since_s, 6),
                }
                self._tell(EventKind.STATE_CHANGED, message, time_s=reading.time_s, detail=detail)


def _served(old: str | None, new: str | None) -> str:
    if new is None:
        return f"nothing is live any more; {old} served before"
    return f"{new} serves" + (f" in the place of {old}" if old else "; nothing was live before")


def _changed(what: str, old: str | None, new: str | None) -> str:
    if new is None:
        return f"there is no {what} any more; it was {old}"
    return f"the {what} is {new}" + (f", it was {old}" if old else "")
