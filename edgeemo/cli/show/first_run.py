"""What to say to somebody who starts edgeemo where nothing is there to sense with."""

from __future__ import annotations

from collections.abc import Callable

from edgeemo.session import Reading, State

Advice = Callable[[Reading], str]
"""Gives what to do, in a few lines, where a reading says that no sensor is there; empty where one is."""
_PATIENCE_S = 1.0  # a device that is being opened is absent for a moment
_NOT_GIVEN = "no sensor was given for it"
_WORKS = (
    ("edgeemo demo", "the recording that ships; its sensors fail"),
    ("edgeemo run --media FILE", "a recording of yours"),
    ("edgeemo run --camera pattern --mic pattern", "test patterns, to see the machinery run"),
    ("edgeemo serve --media FILE", "a recording on a live page"),
    ("edgeemo devices", "what is here, and how to install the rest"),
)


def nothing_here(reading: Reading) -> str:
    """Returns what was looked for and what works without it, in a few lines; empty where a sensor is there.

    Args:
        reading: one of the first of the session.
    """
    statuses = reading.states.values()
    if any(status.state is not State.ABSENT for status in statuses):
        return ""
    if reading.time_s - max((status.since_s for status in statuses), default=0.0) < _PATIENCE_S:
        return ""
    sought = [f"  {name}: {each.why}" for name, each in reading.states.items() if _NOT_GIVEN not in each.why]
    width = max(len(command) for command, _ in _WORKS)
    return "\n".join(
        [
            "There is no microphone and no camera to sense with. Looked for:",
            *(sought or ["  nothing: every sensor is switched off"]),
            "What works right now:",
            *(f"  {command:<{width}}  {what}" for command, what in _WORKS),
            "Install what is missing and start again; Ctrl-C ends."
            if any("nstall it with" in line for line in sought)
            else "One that is plugged in now is taken up by itself; Ctrl-C ends.",
        ]
    )
