"""The state of one modality: what its sensor, its data and its window together amount to."""

from __future__ import annotations

import math

from edgeemo.session.states import Outage, State, Status
from edgeemo.session.streams.base import Stream

_EMPTIES = (State.LOST, State.MUTED, State.POOR, State.ABSENT)


class Judge:
    """Follows one modality from hop to hop.

    Leaving is immediate. Joining waits until the window is filled far enough and no trouble was seen for
    `hold_s`, so that a flickering sensor does not make the engines flap; what a sensor reports of trouble
    between two hops counts too.

    Args:
        stream: the modality's stream.
        deadline_s: time without data after which it is lost; infinite where silence is normal (text),
            whose data then counts until it has grown too old, even after its source has gone.
        hold_s: see above.
        suspect_s: how long it may be poor before its device is suspected.
    """

    def __init__(
        self, stream: Stream, *, deadline_s: float, hold_s: float, suspect_s: float = math.inf
    ) -> None:
        self._stream, self._deadline_s = stream, deadline_s
        self._hold_s, self._suspect_s = hold_s, suspect_s
        self.reset()

    def reset(self) -> None:
        """Starts again as if the modality had never been seen."""
        self.status = Status(State.ABSENT, "no data yet", 0.0)
        self.muted = False
        self._trouble_s: float | None = None  # when it could not be used, the newest that is known
        self._judged_s = -math.inf
        self._ran = False  # whether its sensor gave data at the last hop
        self._suspect = self._was_suspect = False
        self._spoils = True  # whether what is in its window must go where it is poor

    def judge(self, at_s: float, outage: Outage | None, *, broken: str = "") -> Status:
        """Returns the status at `at_s`; the stream must have been advanced to it.

        Args:
            at_s: capture time of the hop.
            outage: what the sensor says of not giving data, now or since the last hop; else None.
            broken: why nothing can be computed from its data; empty where that works.
        """
        missed, self._spoils = self._missed(at_s, outage), True
        state, why = self._state(at_s, outage, missed, broken)
        changed = state is not self.status.state
        # What comes while it is poor or broken, or came before a gap, never counts.
        if missed or broken or (state in _EMPTIES and self._spoils):
            self._stream.forget()
        if changed or why != self.status.why:
            self.status = Status(state, why, at_s if changed else self.status.since_s)
        self._judged_s = at_s
        self._ran = outage is None or outage.state is State.LIVE
        self._suspect_poor(at_s)
        return self.status

    def take_suspect(self) -> bool:
        """Tells once that it was poor for `suspect_s`, and again only after it has been live."""
        suspect, self._suspect = self._suspect, False
        return suspect

    def _suspect_poor(self, at_s: float) -> None:
        state, since_s = self.status.state, self.status.since_s
        if state in (State.LIVE, State.MUTED):
            self._suspect = self._was_suspect = False
        elif state is State.POOR and not self._was_suspect and at_s - since_s >= self._suspect_s:
            self._suspect = self._was_suspect = True

    def _missed(self, at_s: float, outage: Outage | None) -> str:
        """Says where its sensor gave nothing for a while between the last hop and this one."""
        if outage is None or outage.state is not State.LIVE or outage.trouble_s is None:
            return ""
        if self._deadline_s == math.inf:
            return ""
        self._trouble_s = max(outage.trouble_s, -math.inf if self._trouble_s is None else self._trouble_s)
        if not self._ran or outage.trouble_s <= self._judged_s:
            return ""
        return f"its device gave nothing {max(0.0, at_s - outage.trouble_s):.2g} s ago"

    def _state(self, at_s: float, outage: Outage | None, missed: str, broken: str) -> tuple[State, str]:
        away = None if outage is None or outage.state is State.LIVE else outage
        trouble = (State.LOST, broken) if broken and not self.muted else self._trouble(at_s, away)
        if trouble is not None:
            self._trouble_s = at_s
            return trouble
        if missed:
            return State.LOST, missed
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
        if outage is None:
            self._spoils = usability.spoils
        return (outage or usability).state, (outage or usability).why
