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
    """What a sensor itself reports about not giving data.

    Attributes:
        state: `absent` or `lost` where it gives nothing now; `live` where it gives data again.
        why: one sentence; empty where it gives data.
        trouble_s: the newest time at which it gave nothing, on the session's clock; None for never.
    """

    state: State
    why: str
    trouble_s: float | None = None
