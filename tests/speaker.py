"""Somebody who talks to a session without a pause, in sound and in words."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgeemo.sensors import MediaFile
from edgeemo.session import Event, EventKind, Reading, Session
from edgeemo.shipped import RECORDING


@lru_cache(maxsize=1)
def voice() -> tuple[NDArray[np.float32], int]:
    """The demo's voice (N,) without its pauses, and its samples a second."""
    with MediaFile(RECORDING) as media:
        blocks = [(chunk.array, chunk.rate_hz) for chunk in media if chunk.modality == "audio"]
    rate_hz = blocks[0][1] or 0
    size = rate_hz // 10
    sound = np.concatenate([block for block, _ in blocks])
    tenths = sound[: len(sound) // size * size].reshape(-1, size)
    loud = np.sqrt(np.mean(np.square(tenths), axis=1)) > 10 ** (-45 / 20)
    return np.ascontiguousarray(tenths[loud]).reshape(-1), rate_hz


class Speaker:
    """Pushes half a second of voice and a few words before each reading."""

    def __init__(self, session: Session, *, words: str = "so happy that you came") -> None:
        self.session, self.words, self.hops = session, words, 0
        self.sound = True

    def push_sound(self) -> None:
        """Pushes the sound of one hop."""
        sound, rate_hz = voice()
        first, after = (number * rate_hz // 2 for number in (self.hops, self.hops + 1))
        piece = sound[np.arange(first, after) % len(sound)]
        self.session.push_audio(piece, rate_hz=rate_hz, time_s=self.hops / 2)

    def read(self) -> Reading:
        """Pushes a hop of what there is to push and reads."""
        if self.sound:
            self.push_sound()
        if self.words:
            self.session.push_text(self.words, time_s=self.hops / 2)
        self.hops += 1
        return self.session.read(at_s=self.hops / 2)

    def read_until(self, done: Callable[[Reading], bool]) -> Reading:
        """Reads hop after hop until a reading is as wanted."""
        end_s = time.monotonic() + 60
        while not done(reading := self.read()):
            assert time.monotonic() < end_s, reading
            time.sleep(0.005)
        return reading


def told(session: Session, kind: EventKind) -> list[Event]:
    """The events of one kind."""
    return [event for event in session.events() if event.kind is kind]


def wait_until(done: Callable[[], bool]) -> None:
    """Waits for something that another thread does."""
    end_s = time.monotonic() + 60
    while not done():
        assert time.monotonic() < end_s
        time.sleep(0.005)
