"""What waits for the broker: bounded, so that an hour without it costs no memory and ends in no flood.

========= ================================ =========================================================
what      kept while the broker is away    what goes first where there is no room
========= ================================ =========================================================
readings  those of the last 5 s, 256       the oldest, and all that are older than 5 s
events    64                               the oldest; the gap in their numbers shows it
states    the newest of each topic         the one before it; all are sent again after a connection
========= ================================ =========================================================
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from edgeemo.mqtt.messages import Message

KEPT_READINGS = 256
KEPT_EVENTS = 64
READING_LASTS_S = 5.0


class Outbox:
    """Messages on their way from the session's thread to that of the network; safe to use from both.

    Args:
        clock: seconds that never go back.

    Attributes:
        dropped_readings: readings that were never sent.
        dropped_events: events that were never sent.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._readings: deque[tuple[float, Message]] = deque()
        self._events: deque[Message] = deque()
        self._kept: dict[str, Message] = {}
        self._due: dict[str, None] = {}  # topics in the order in which they became due
        self._unconfirmed: list[Message] = []
        self.dropped_readings = self.dropped_events = 0

    def put_reading(self, message: Message) -> None:
        """Adds a reading; the oldest goes where there is no room."""
        with self._changed:
            self._readings.append((self._clock(), message))
            while len(self._readings) > KEPT_READINGS:
                self._drop_reading()
            self._drop_old()

    def put_event(self, message: Message) -> None:
        """Adds an event; the oldest goes where there is no room."""
        with self._changed:
            self._events.append(message)
            while len(self._events) > KEPT_EVENTS:
                self._events.popleft()
                self.dropped_events += 1

    def keep(self, message: Message) -> None:
        """Takes what a topic says from now on, in place of what it said before."""
        with self._changed:
            self._kept[message.topic] = message
            self._due[message.topic] = None

    def renew(self) -> None:
        """Lets everything that is kept be sent again: a broker may have forgotten it."""
        with self._changed:
            self._due = dict.fromkeys(self._kept)

    def take(self, *, events: bool) -> Message | None:
        """Returns the next message, None where nothing waits: states first, then events, then readings.

        Args:
            events: whether events may be taken, which must be confirmed.
        """
        with self._changed:
            self._drop_old()
            message = None
            if self._due:
                topic = next(iter(self._due))
                del self._due[topic]
                message = self._kept[topic]
            elif self._events and events:
                message = self._events.popleft()
                self._unconfirmed.append(message)
            elif self._readings:
                message = self._readings.popleft()[1]
            self._changed.notify_all()
            return message

    def confirm(self, message: Message) -> None:
        """Says that a message has arrived; those that nobody waits for are no matter."""
        with self._changed:
            if message in self._unconfirmed:
                self._unconfirmed.remove(message)
            self._changed.notify_all()

    def give_back(self) -> None:
        """Takes the events back that may not have arrived; the oldest go where there is no room."""
        with self._changed:
            room = KEPT_EVENTS - len(self._events)
            lost = max(0, len(self._unconfirmed) - room)
            self._events.extendleft(reversed(self._unconfirmed[lost:]))
            self._unconfirmed.clear()
            self.dropped_events += lost

    def wait_empty(self, timeout_s: float) -> bool:
        """Waits until nothing waits any more and every event was confirmed; False where it lasts longer."""
        with self._changed:
            return self._changed.wait_for(lambda: self.is_empty, timeout_s)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be sent or confirmed."""
        with self._changed:
            return not (self._readings or self._events or self._due or self._unconfirmed)

    def _drop_old(self) -> None:
        oldest_s = self._clock() - READING_LASTS_S
        while self._readings and self._readings[0][0] < oldest_s:
            self._drop_reading()

    def _drop_reading(self) -> None:
        self._readings.popleft()
        self.dropped_readings += 1
