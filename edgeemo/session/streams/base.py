"""What a session asks of a modality's stream, whatever it carries."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from edgeemo.errors import InputError
from edgeemo.session.states import State
from edgeemo.windows import Float32


@dataclass(frozen=True)
class Usability:
    """What a stream thinks of its own newest data.

    Attributes:
        state: `LIVE` (usable), `QUIET` (nothing in it) or `POOR` (cannot be trusted).
        why: one sentence; empty where it is usable.
        spoils: whether poor data must not stay in the window. What is true but covered by something else
            may: once that has gone, a whole window is worth more than a fresh one.
    """

    state: State
    why: str
    spoils: bool = True


USABLE = Usability(State.LIVE, "")
MOST_TIME_S = 1e11
"""Seconds; far beyond the time stamps of any clock, and small enough to count samples exactly."""


class Stream(ABC):
    """From pushed data to a window of features, in capture time.

    Every answer about a time looks at data captured before that time alone, so a recording gives the
    same answers however it is cut into pushes.

    Attributes:
        modality: its name.
        newest_s: capture time at which the newest data ends, None before the first.
        patience_s: how long to wait for the next data even where the deadline is shorter, because the
            application pushes in long pieces.
        deadline_s: time without data after which its sensor counts as lost; infinite where silence is normal.
        unavailable: why no data can be used on this machine at all; empty where it can.
    """

    modality: str
    newest_s: float | None = None
    patience_s: float = 0.0
    deadline_s: float = math.inf
    unavailable: str = ""

    @abstractmethod
    def advance(self, at_s: float) -> None:
        """Runs the stem on everything captured before `at_s` that it has not seen."""

    @abstractmethod
    def usability(self, at_s: float) -> Usability:
        """Judges the data of the last moments before `at_s`; call `advance` first."""

    @abstractmethod
    def fill(self, at_s: float) -> tuple[float, float]:
        """Returns how much of the window is filled and how much is needed (seconds, or words)."""

    @abstractmethod
    def window(self, at_s: float) -> tuple[Float32, Float32]:
        """Returns the features (1, T, D) and mask (1, T) for an engine; call `advance` first."""

    @abstractmethod
    def evidence_s(self, at_s: float) -> float | None:
        """Returns the capture time of the newest data in the window; None where it is empty."""

    @abstractmethod
    def forget(self) -> None:
        """Empties the window, so that nothing from before a loss counts after it."""

    @abstractmethod
    def reset(self) -> None:
        """Starts again as if nothing had ever been pushed."""


def check_time(modality: str, time_s: float, newest_s: float | None) -> None:
    """Refuses a capture time that is not finite or lies before the one before it.

    Raises:
        InputError: the time cannot be used; the stream is unchanged.
    """
    if not 0 <= time_s < MOST_TIME_S:
        raise InputError(f"{modality}: a capture time must be finite and at least 0 s, got {time_s}")
    if newest_s is not None and time_s < newest_s:
        raise InputError(
            f"{modality}: time stamps go back, from {newest_s:.3f} s to {time_s:.3f} s; push in the order "
            "of capture, or call reset() before a new recording"
        )
