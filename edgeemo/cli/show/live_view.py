"""A live picture of a session in a terminal, drawn beside the readings and never in their way."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from edgeemo.cli.show.first_run import Advice
from edgeemo.cli.show.live_frame import STRIP_S, Frame, Moment, draw_frame
from edgeemo.cli.show.stderr_above import stderr_above
from edgeemo.session import Event, EventKind, Reading, Session

if TYPE_CHECKING:
    from typing_extensions import Self

FRAMES_HZ = 4.0
"""Most pictures a second; readings may come faster, and the newest is shown."""
_STATS_S = 1.0  # how often the session is asked for its figures
_SHOWN_EVENTS = frozenset(EventKind) - {
    EventKind.EMOTION_CHANGED,  # the strips show these
    EventKind.MOOD_CHANGED,
    EventKind.STATE_CHANGED,  # the sentences of the modalities say it
}


class LiveView:
    """Shows the newest reading of a session until it is left; a context manager.

    Readings are only noted in `show`; a thread draws them. What is written to standard error meanwhile
    stands above the picture. The last picture stays on the terminal.

    Args:
        session: whose readings are shown.
        advice: gives what to do where no sensor is there.
        console: where to draw; None for standard output.
    """

    def __init__(self, session: Session, *, advice: Advice, console: Console | None = None) -> None:
        self._session, self._advice = session, advice
        self._console = console or Console(file=sys.stdout)
        self._lock = threading.Lock()
        self._reading: Reading | None = None
        self._moments: deque[Moment] = deque()
        self._events: deque[Event] = deque(maxlen=8)
        self._last_event = 0
        self._stats_at = -_STATS_S
        self._frame = Frame(session.manifest.model_id, session.manifest.labels)
        self._live = Live(
            get_renderable=self.draw,
            console=self._console,
            refresh_per_second=FRAMES_HZ,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._stack = ExitStack()

    def show(self, reading: Reading) -> None:
        """Notes a reading; takes no time worth speaking of."""
        with self._lock:
            self._reading = reading
            self._moments.append(Moment(reading.time_s, reading.emotion, reading.mood))
            while self._moments[0].time_s <= reading.time_s - STRIP_S:
                self._moments.popleft()

    def draw(self) -> RenderableType:
        """Returns the picture as it is now."""
        self._take_stats()
        with self._lock:
            reading, moments = self._reading, tuple(self._moments)
        frame = Frame(
            model_id=self._frame.model_id,
            labels=self._frame.labels,
            reading=reading,
            moments=moments,
            events=tuple(self._events),
            latency_ms=self._frame.latency_ms,
            hops=self._frame.hops,
            swaps=self._frame.swaps,
            advice="" if reading is None else self._advice(reading),
        )
        size = self._console.size
        colours = self._console.color_system is not None and not self._console.no_color
        return draw_frame(frame, width=size.width, height=size.height, colours=colours)

    def _take_stats(self) -> None:
        if time.monotonic() - self._stats_at < _STATS_S:
            return
        self._stats_at = time.monotonic()
        stats = self._session.stats()
        for event in self._session.events(after=self._last_event):
            self._last_event = event.number
            if event.kind in _SHOWN_EVENTS:
                self._events.append(event)
        self._frame = Frame(
            self._frame.model_id,
            self._frame.labels,
            latency_ms=stats.latency_ms if stats.hops else {},
            hops=stats.hops,
            swaps=stats.swaps,
        )

    def __enter__(self) -> Self:
        """Begins to draw."""
        self._stack.enter_context(self._live)
        self._stack.enter_context(stderr_above(lambda line: self._console.print(Text(line))))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Draws for the last time and gives the terminal back."""
        self._stats_at = -_STATS_S
        self._stack.close()
