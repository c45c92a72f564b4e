"""A server of a session in this process, and devices whose failures a test decides on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from edgeemo.modality import AUDIO
from edgeemo.sensors import PatternCamera, PatternMicrophone, Sensor
from edgeemo.sensors.base import Chunk, Clock, SensorStatus
from edgeemo.sensors.pattern import sound_pattern
from edgeemo.serve.address import bind_socket
from edgeemo.serve.hub import Hub
from edgeemo.serve.options import ServeOptions
from edgeemo.serve.server import Server
from edgeemo.serve.taps import Tap, tap_sensors
from edgeemo.session import EngineOptions, Reading, Session

TOKEN = "a token that is long enough".replace(" ", "-")
_RATE_HZ = 16000
_BLOCK = 800


@dataclass
class Served:
    """A running server."""

    url: str
    hub: Hub
    taps: dict[str, Tap]
    server: Server

    @property
    def port(self) -> int:
        return int(self.url.rstrip("/").rpartition(":")[2])

    @property
    def live(self) -> str:
        return self.url.replace("http://", "ws://") + "v1/live"

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=20.0, trust_env=False, **options)


@contextmanager
def served(
    sensors: Sequence[Sensor] | None = None,
    *,
    settings: dict[str, Any] | None = None,
    lasts_s: float | None = None,
    on_reading: Callable[[Reading], object] = lambda reading: None,
    on_silence: Callable[[str], object] = lambda why: None,
    **options: Any,
) -> Iterator[Served]:
    """Serves a session in a thread until the block ends."""
    chosen = ServeOptions(**{"port": 0, **options})
    taps = tap_sensors([PatternMicrophone(), PatternCamera()] if sensors is None else sensors)
    bound = bind_socket(chosen.host, chosen.port)
    session = Session(
        sensors=taps,
        engines=EngineOptions(variant="int8", backend="cpu"),
        settings=settings or {},
        notice=chosen.notice,
    )
    by_modality = {tap.modality: tap for tap in taps}
    hub = Hub(
        session,
        taps=by_modality,
        notice=chosen.notice,
        preview=chosen.preview,
        lasts_s=lasts_s,
        on_reading=on_reading,
        on_silence=on_silence,
    )
    ready = threading.Event()
    server = Server(bound, chosen, hub, announce=lambda url: ready.set())
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert ready.wait(20.0), "the server did not come up"
        yield Served(server.url, hub, by_modality, server)
    finally:
        server.stop()
        thread.join(20.0)
        assert not thread.is_alive()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Waits until something is so; fails only where it never is."""
    until_s = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < until_s, f"not within 20 s: {what}"
        time.sleep(0.02)


class Switchable(Sensor):
    """A microphone of a test: it can be opened and closed, pulled out, and plugged in again.

    Attributes:
        is_lost: set it to pull it out.
        lost_s: when on the session's clock it was pulled out.
    """

    modality, name = AUDIO, "a switchable microphone"

    def __init__(self) -> None:
        self._open = False
        self.is_lost = False
        self.lost_s = 0.0
        self.opened = self.closed = 0
        self.holds_close = threading.Event()
        self.holds_close.set()
        self._clock: Clock = time.monotonic
        self._next_s = 0.0

    def start(self, clock: Clock) -> None:
        self.opened += 1
        self._open, self._clock, self._next_s = True, clock, clock()

    def is_open(self) -> bool:
        """Whether its device is open at this moment."""
        return self._open

    def pull_out(self) -> None:
        self.lost_s, self.is_lost = self._clock(), True

    def poll(self, timeout_s: float = 0.0) -> list[Chunk]:
        chunks = []
        length_s = _BLOCK / _RATE_HZ
        while self._open and not self.is_lost and self._next_s + length_s <= self._clock():
            sound = sound_pattern(round(self._next_s * _RATE_HZ), _BLOCK, _RATE_HZ)
            chunks.append(Chunk(AUDIO, self._next_s, sound, _RATE_HZ))
            self._next_s += length_s
        return chunks

    def close(self) -> None:
        self.holds_close.wait(20.0)
        self.closed += self._open
        self._open = False

    @property
    def status(self) -> SensorStatus:
        if not self._open:
            return SensorStatus("absent", "closed")
        if self.is_lost:
            return SensorStatus("lost", "somebody pulled it out", trouble_s=self._clock())
        return SensorStatus("running", "fine")
