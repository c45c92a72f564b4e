"""Devices that play the recording on the session's clock and fail when their script says so."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.faults.recording import Recording
from benchmarks.faults.scenario import FLAP_S, JUMP_S, Fault, Kind
from edgeemo.modality import AUDIO, TEXT, VIDEO
from edgeemo.sensors.base import Chunk, Clock
from edgeemo.sensors.connections import Gone
from edgeemo.sensors.live import LiveSensor
from edgeemo.sensors.supervision import Patience

STEP_S = {AUDIO: 0.04, VIDEO: 0.1, TEXT: 1.7}
"""One chunk of sound, one picture and one line of words come every so many seconds."""
LINES_AT_ONCE = 10
_ROOM = {AUDIO: 64, VIDEO: 32, TEXT: 16}
_LITTLE_ROOM = {AUDIO: 8, VIDEO: 1, TEXT: 1}  # less than what comes while the application is slow
_ELSEWHERE = 40  # chunks, frames or lines further on in the recording
_LOOK_S = 0.05  # shorter than a flap
_STUCK_S = 0.25  # length of the sound that a stuck driver hands out over and over
_NOISE_DB = 10.0  # above the voice
_JUNK = ("xq", "brzt", "oom", "ffp", "zzkl", "wvv", "tch", "grmbl")
DEADLINE_S, LONGEST_PAUSE_S = 0.5, 1.0


Script = Callable[[float], Fault | None]
"""Tells which fault a device has at a time on the session's clock."""


@dataclass(frozen=True)
class Delivery:
    """What a device handed over, noted by itself.

    Attributes:
        modality: of the device.
        handed_s: when, on the session's clock.
        captured_s: when it was really captured; for sound, when the last sample was.
        is_truthful: whether its time stamp says so too.
        words: how many words, for text.
    """

    modality: str
    handed_s: float
    captured_s: float
    is_truthful: bool
    words: int


class ScriptedSensor(LiveSensor):
    """A live sensor, supervised like any other, over a device that plays the recording.

    Args:
        modality: which part of the recording.
        recording: what is to be heard, seen and read.
        script: what goes wrong with the device at a time; None where nothing does.
        note: takes a note of everything that is handed over.
        seed: of the noise.
        has_little_room: whether the sensor keeps less than comes while the application is slow.
        elsewhere_until_s: until then another part of the recording is played.
    """

    def __init__(
        self,
        modality: str,
        recording: Recording,
        *,
        script: Script,
        note: Callable[[Delivery], object],
        seed: int,
        has_little_room: bool = False,
        elsewhere_until_s: float = 0.0,
    ) -> None:
        room = _LITTLE_ROOM if has_little_room else _ROOM
        deadline_s = None if modality == TEXT else DEADLINE_S
        super().__init__(
            modality,
            f"scripted {modality}",
            capacity=room[modality],
            policy="drop-oldest",
            patience=Patience(deadline_s=deadline_s, most_wait_s=LONGEST_PAUSE_S, jitter=0.0),
            connection="inline",
            seed=seed,
        )
        self._player = Player(
            modality, recording, script=script, seed=seed, elsewhere_until_s=elsewhere_until_s
        )
        self._note = note

    def open_device(self, clock: Clock) -> ScriptedDevice | Gone:
        """Opens the device, unless its script says that it is not there."""
        gone = self._player.missing(clock())
        return gone or ScriptedDevice(self._player, clock, self._note)


class Player:
    """What a device captures at each step, faults included.

    Args:
        modality: see `ScriptedSensor`; so are the others.
    """

    def __init__(
        self, modality: str, recording: Recording, *, script: Script, seed: int, elsewhere_until_s: float
    ) -> None:
        self._elsewhere_until_s = elsewhere_until_s
        self.modality, self.step_s = modality, STEP_S[modality]
        self._recording, self._script = recording, script
        self._random = np.random.default_rng(seed)

    def due_s(self, number: int) -> float:
        """When a chunk, frame or line is complete."""
        return (number + (self.modality == AUDIO)) * self.step_s

    def missing(self, time_s: float) -> Gone | None:
        """What the driver says where the device is not there; None where it is."""
        fault = self._script(time_s)
        if fault is None:
            return None
        if fault.kind is Kind.ABSENT:
            return Gone("absent", f"no {self.modality} device")
        flaps = fault.kind is Kind.FLAPS and int((time_s - fault.start_s) / FLAP_S) % 2 == 0
        if flaps or fault.kind in (Kind.UNPLUGGED, Kind.COMES_BACK):
            return Gone("lost", f"the {self.modality} device was unplugged")
        return None

    def is_silent(self, number: int) -> bool:
        """Whether the device gives nothing where a chunk, frame or line was due."""
        fault = self._script(self.due_s(number))
        kind = fault.kind if fault else None
        slow = kind is Kind.WRONG_RATE and self.modality == VIDEO and number % LINES_AT_ONCE
        return kind is Kind.HANGS or bool(slow)

    def chunk(self, number: int) -> Chunk:
        """Returns what was captured, stamped by the device's own clock."""
        fault = self._script(self.due_s(number))
        kind = fault.kind if fault else None
        stuck_at = math.ceil(fault.start_s / self.step_s) if fault else 0
        stamp_s = number * self.step_s + (JUMP_S if kind is Kind.CLOCK_JUMP else 0.0)
        number += _ELSEWHERE if self.due_s(number) < self._elsewhere_until_s else 0
        if self.modality == AUDIO:
            return Chunk(AUDIO, stamp_s, self._sound(number, kind, stuck_at), self._recording.rate_hz)
        if self.modality == VIDEO:
            return Chunk(VIDEO, stamp_s, self._frame(number, kind, stuck_at))
        return Chunk(TEXT, stamp_s, self._line(number, kind, stuck_at))

    @cached_property
    def _noise_level(self) -> float:
        sound = self._recording.sound
        return float(np.sqrt(np.mean(np.square(sound)))) * 10 ** (_NOISE_DB / 20)

    def _sound(self, number: int, kind: Kind | None, stuck_at: int) -> NDArray[np.float32]:
        recording = self._recording
        count = round(self.step_s * recording.rate_hz)
        if kind is Kind.REPEATS:
            size = round(_STUCK_S * recording.rate_hz)
            places = (np.arange(count) + (number - stuck_at) * count) % size
            return recording.samples(stuck_at * count - size, size)[places]
        sound = recording.samples(number * count, count)
        if kind is Kind.ZEROS:
            return np.zeros_like(sound)
        if kind is Kind.NOISE:
            noise = self._random.normal(0.0, self._noise_level, count)
            return np.clip(sound + noise, -1.0, 1.0).astype(np.float32)
        return sound[: count // 2] if kind is Kind.WRONG_RATE else sound

    def _frame(self, number: int, kind: Kind | None, stuck_at: int) -> NDArray[np.uint8]:
        frame = self._recording.frame(stuck_at if kind is Kind.REPEATS else number)
        if kind is Kind.ZEROS:
            return np.zeros_like(frame)
        if kind is Kind.NOISE:
            return self._random.integers(0, 256, frame.shape, dtype=np.uint8)
        return frame

    def _line(self, number: int, kind: Kind | None, stuck_at: int) -> str:
        if kind is Kind.REPEATS:
            return self._recording.line(stuck_at)
        if kind is Kind.ZEROS:
            return ""
        if kind is Kind.NOISE:
            return " ".join(self._random.choice(_JUNK, size=6))
        many = LINES_AT_ONCE if kind is Kind.WRONG_RATE else 1
        return " ".join(self._recording.line(number + place) for place in range(many))


class ScriptedDevice:
    """The device while it is open: gives what is due by the clock; what it missed before is gone.

    Args:
        player: what it captures.
        clock: the session's time.
        note: takes a note of everything that is handed over.
    """

    def __init__(self, player: Player, clock: Clock, note: Callable[[Delivery], object]) -> None:
        self._player, self._clock, self._take = player, clock, note
        self._looked_s = clock()
        self._next = math.ceil(self._looked_s / player.step_s)
        if player.modality == VIDEO:
            self.declared_rate = 1 / player.step_s

    def read(self) -> Chunk | Gone | None:
        """Returns the next piece that is due, or why there is none; never waits."""
        player, now_s = self._player, self._clock()
        gone_s = self._gone_since(now_s)
        until_s = now_s if gone_s is None else gone_s
        while player.due_s(self._next) <= until_s:
            number, self._next = self._next, self._next + 1
            if not player.is_silent(number):
                chunk = player.chunk(number)
                self._note(chunk, number, now_s)
                return chunk
        if gone_s is not None:
            return player.missing(gone_s)
        self._looked_s = now_s
        return None

    def _gone_since(self, now_s: float) -> float | None:
        """When it was unplugged since somebody looked last: plugged in again it is another device."""
        looks = math.ceil((now_s - self._looked_s) / _LOOK_S)
        times = (now_s - (now_s - self._looked_s) * look / looks for look in range(looks - 1, -1, -1))
        return next((time_s for time_s in times if self._player.missing(time_s)), None)

    def close(self) -> None:
        """Does nothing: there is no driver."""

    def _note(self, chunk: Chunk, number: int, now_s: float) -> None:
        captured_s, due_s = number * self._player.step_s, self._player.due_s(number)
        words = len(chunk.data.split()) if isinstance(chunk.data, str) else 0
        self._take(Delivery(chunk.modality, now_s, due_s, chunk.time_s == captured_s, words))
