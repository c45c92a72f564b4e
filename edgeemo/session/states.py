"""The words for how a modality is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(str, Enum):
    """How a modality is; engines are chosen for those that are `LIVE`."""

    ABSENT = "absent"
    LOST = "lost"
    MUTED = "muted"
    QUIET = "quiet"
    POOR = "poor"
    LIVE = "live"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Status:
    """The state of a modality at one moment.

    Attributes:
        state: see `State`.
        why: one sentence; empty where the modality is live.
        since_s: capture time at which it entered this state.
    """

    state: State
    why: str
    since_s: float


@dataclass(frozen=True)
class Outage:
    """What a sensor itself reports when it gives nothing: `absent` or `lost`, and why."""

    state: State
    why: str
