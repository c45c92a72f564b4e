"""The state of one modality: what its sensor, its data and its window together amount to."""

from __future__ import annotations

import math

from edgeemo.session.states import Outage, State, Status
from edgeemo.session.streams.base import Stream


class Judge:
    """Follows one modality from hop to hop.

    Leaving is immediate. Joining waits until the window is filled far enough and no trouble was seen for
    `hold_s`, so that a flickering sensor does not make the engines flap.

    Args:
        stream: the modality's stream.
        deadline_s: time without data after which it is lost; infinite where silence is normal (text),
            whose data then counts until it has grown too old, even after its source has gone.
        hold_s: see above.
    """

    def __init__(self, stream: Stream, *, deadline_s: float, hold_s: float) -> None:
        self._stream, self._deadline_s, self._hold_s = stream, deadline_s, hold_s
        self.reset()

    def reset(self) -> None:
        """Starts again as if the modality had never been seen."""
        self.status = Status(State.ABSENT, "no data yet", 0.0)
        self.muted = False
        self._trouble_s: float | None = None  # the last hop at which it could not be used

    def judge(self, at_s: float, outage: Outage | None) -> Status:
        """Returns the status at `at_s`; the stream must have been advanced to it.

        Args:
            at_s: capture time of the hop.
            outage: what the sensor says where it knows that it gives nothing, else None.
        """
        state, why = self._state(at_s, outage)
        if state is not self.status.state:
            if state in (State.LOST, State.MUTED, State.POOR, State.ABSENT):
                self._stream.forget()
            self.status = Status(state, why, at_s)
        else:
            self.status = Status(state, why, self.status.since_s)
        return self.status

    def _state(self, at_s: float, outage: Outage | None) -> tuple[State, str]:
        trouble = self._trouble(at_s, outage)
        if trouble is not None:
            self._trouble_s = at_s
            return trouble
        if self.status.state is State.LIVE:
            return State.LIVE, ""
        filled, needed = self._stream.fill(at_s)
        if filled < needed:
            return State.QUIET, f"filling: {filled:.2g} of {needed:.2g}"
        if self._trouble_s is not None and at_s - self._trouble_s < self._hold_s:
            return State.QUIET, f"holding: usable for {at_s - self._trouble_s:.2g} of {self._hold_s:.2g} s"
        return State.LIVE, ""

    def _trouble(self, at_s: float, outage: Outage | None) -> tuple[State, str] | None:
        if self.muted:
            return State.MUTED, "switched off by the application"
        newest_s = self._stream.newest_s
        if outage is not None and (newest_s is None or self._deadline_s < math.inf):
            return outage.state, outage.why
        if newest_s is None:
            return State.ABSENT, "no data yet"
        if at_s - newest_s >= max(self._deadline_s, self._stream.patience_s):
            return State.LOST, f"no data for {at_s - newest_s:.1f} s"
        usability = self._stream.usability(at_s)
        if usability.state is State.LIVE:
            return None
        return (outage.state, outage.why) if outage is not None else (usability.state, usability.why)
