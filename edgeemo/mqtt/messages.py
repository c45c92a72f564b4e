"""What is published, as plain data: the contents of every topic."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgeemo.session import NO_SIGNAL, Reading, State, Status

ONLINE = "online"
OFFLINE = "offline"
ON = "ON"
OFF = "OFF"


@dataclass(frozen=True)
class Message:
    """One thing to publish.

    Attributes:
        topic: where.
        payload: what.
        qos: 0, at most once; 1, at least once.
        retained: whether the broker gives it to who subscribes later.
    """

    topic: str
    payload: str
    qos: int = 0
    retained: bool = False


def json_text(data: Mapping[str, Any]) -> str:
    """Returns plain data as JSON in one line; never NaN, which is no JSON.

    What cannot be sent as UTF-8 becomes a question mark: the name of a file may hold bytes that are no text.
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf8", errors="replace").decode("utf8")


def state_from_reading(reading: Reading) -> dict[str, Any]:
    """Returns a reading in short: what a display or home automation shows.

    ``signal`` is False, and all but ``time_s``, ``label`` and ``confidence`` are None, where there is
    nothing to recognise an emotion from.
    """
    whole = reading.to_json()
    kept = ("time_s", "label", "emotion", "mood", "confidence", "valence", "arousal", "subset", "engine")
    return {"signal": reading.has_signal} | {key: whole[key] for key in kept}


def words_of_state(state: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns what of `state_from_reading` is news at once; numbers can wait for the next time."""
    return tuple(state[key] for key in ("signal", "label", "emotion", "mood", "subset", "engine"))


def modality_json(status: Status) -> dict[str, Any]:
    """Returns the state of a modality."""
    return {"state": str(status.state), "why": status.why, "since_s": round(status.since_s, 6)}


def silent_reading(modalities: Iterable[str], *, time_s: float, why: str) -> Reading:
    """Returns what is true where nothing is sensed any more, so that what is retained says nothing stale.

    Args:
        modalities: all that the model has.
        time_s: of the last reading, on the session's clock.
        why: as a sentence without its full stop.
    """
    silent = Status(State.ABSENT, why, time_s)
    return Reading(time_s=time_s, label=NO_SIGNAL, states=dict.fromkeys(modalities, silent))
