"""Whether a live picture may be shown, found out without loading what draws it."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Iterable

from edgeemo.cli.show.first_run import Advice
from edgeemo.session import Reading, Session

log = logging.getLogger(__name__)


def may_show_view() -> bool:
    """Tells whether standard output is a terminal that can show a picture, and rich is there to draw it."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return False
    if not (sys.stdout.encoding or "").lower().startswith("utf"):
        return False  # the signs would be question marks
    if importlib.util.find_spec("rich") is None:
        log.info("readings are lines: a live picture needs rich, pip install 'edgeemo[live]'")
        return False
    return True


def show_view(readings: Iterable[Reading], session: Session, advice: Advice) -> None:
    """Shows readings as a live picture, to the last.

    Args:
        readings: of the session.
        session: asked for its figures now and then.
        advice: gives what to do where no sensor is there.
    """
    from edgeemo.cli.show.live_view import LiveView

    with LiveView(session, advice=advice) as view:
        for reading in readings:
            view.show(reading)
