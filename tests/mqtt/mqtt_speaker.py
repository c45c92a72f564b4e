"""A session that says something at each hop, and who publishes it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import Any

from mosquitto import Broker, Listener

from edgeemo.bundle import Bundle
from edgeemo.clock import VirtualClock
from edgeemo.mqtt import Publisher
from edgeemo.sensors.supervision import Patience
from edgeemo.session import Reading, Session
from edgeemo.shipped import RECORDING

RUN = [sys.executable, "-m", "edgeemo", "run", "--media", str(RECORDING), "--json"]
EAGER = Patience(first_wait_s=0.05, most_wait_s=0.2)


class Speaker:
    """A session that says something at each hop, and who publishes it."""

    def __init__(self, bundle: Bundle, url: str, **options: Any) -> None:
        self.told: list[str] = []
        self.session = Session(bundle, clock=VirtualClock())
        self.publisher = Publisher(url, self.session, patience=EAGER, tell=self.told.append, **options)
        self.readings: list[Reading] = []

    def speak(self, hops: int = 1) -> None:
        for _ in range(hops):
            at_s = 0.5 * (len(self.readings) + 1)
            self.session.push_text(f"word {at_s}", time_s=at_s)
            self.readings.append(self.session.read(at_s=at_s))
            self.publisher.publish(self.readings[-1])

    def is_heard(self, listener: Listener) -> bool:
        """Says something new, and whether any of what was said since the last time has arrived."""
        self.speak()
        heard = listener.data(self.publisher.topics.reading)
        return any(reading.to_json() in heard for reading in self.readings[-20:-1])

    def close(self) -> None:
        self.publisher.close()
        self.session.close()


@contextmanager
def speaking(
    bundle: Bundle, broker: Broker, *, scheme: str = "mqtt", user: str = "", port: int = 0, **options: Any
) -> Any:
    speaker = Speaker(bundle, f"{scheme}://{user}{broker.host}:{port or broker.port}/home/robot", **options)
    try:
        yield speaker
    finally:
        speaker.close()
