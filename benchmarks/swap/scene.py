"""A scene in which voice, face and words go on for ever, and sensors over it that die when told to."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeemo.sensors import Chunk, LiveSensor, MediaFile, Patience
from edgeemo.sensors.base import Clock
from edgeemo.sensors.connections import ConnectionKind, Device, Gone
from edgeemo.shipped import RECORDING

Fault = Literal["hang", "error"]

BEGIN_S, END_S = 8.7, 13.6
"""The part of the demo recording in which a face is in view and somebody talks without a pause."""
PIECE_S = 0.05
FRAME_S = 0.1
WORDS_S = 2.0
DEADLINE_S = {"hang": 0.5, "error": 0.1}
"""After which a dead sensor must be noticed."""


@dataclass(frozen=True)
class Scene:
    """What there is to see and to hear, played in a circle.

    Attributes:
        sound: (N,) mono float32.
        rate_hz: of the sound.
        frames: (H, W, 3) uint8 BGR, `FRAME_S` apart.
        words: said one after the other, `WORDS_S` apart.
    """

    sound: NDArray[np.float32]
    rate_hz: int
    frames: tuple[NDArray[np.uint8], ...]
    words: tuple[str, ...]

    def at(self, modality: str, number: int) -> Chunk:
        """Returns piece ``number`` of a modality's endless stream, stamped as if it began at 0."""
        if modality == "video":
            # To the end and back, so that nobody jumps.
            turn = 2 * len(self.frames) - 2
            place = number % turn
            frame = self.frames[place if place < len(self.frames) else turn - place]
            return Chunk("video", number * FRAME_S, frame)
        if modality == "text":
            return Chunk("text", number * WORDS_S, self.words[number % len(self.words)])
        size = round(PIECE_S * self.rate_hz)
        first = number * size % len(self.sound)
        piece = np.take(self.sound, np.arange(first, first + size), mode="wrap")
        return Chunk("audio", number * PIECE_S, piece, self.rate_hz)


STEP_S = {"audio": PIECE_S, "video": FRAME_S, "text": WORDS_S}


def read_scene() -> Scene:
    """Returns the scene of the demo recording."""
    sound: list[NDArray[np.float32]] = []
    frames: list[NDArray[np.uint8]] = []
    words: list[str] = []
    rate_hz = 0
    with MediaFile(RECORDING, chunk_s=PIECE_S, max_fps=1 / FRAME_S) as media:
        for chunk in media:
            if chunk.modality == "text":
                words.append(chunk.text)
            elif BEGIN_S <= chunk.time_s < END_S:
                if chunk.modality == "audio":
                    sound.append(chunk.array)
                    rate_hz = chunk.rate_hz or 0
                else:
                    frames.append(chunk.array)
    return Scene(np.concatenate(sound), rate_hz, tuple(frames), tuple(words))


class ScenePlayer(LiveSensor):
    """A sensor that plays a scene, and dies and comes back when it is told to.

    Args:
        scene: what it plays.
        modality: which part of it.
        connection: ``"inline"`` for a virtual clock, ``"thread"`` for real time.
    """

    def __init__(self, scene: Scene, modality: str, *, connection: ConnectionKind) -> None:
        patience = Patience() if modality != "text" else Patience(deadline_s=None)
        super().__init__(
            modality,
            f"scene's {modality}",
            capacity=64,
            policy="drop-oldest",
            patience=patience,
            connection=connection,
            seed=0,
        )
        self.scene = scene
        self.dead: tuple[float, Fault] | None = None

    def open_device(self, clock: Clock) -> Device | Gone:
        """Opens the device, unless it is dead just now."""
        if self.is_dead(clock()):
            return Gone("lost", f"{self.name} is gone")
        return _Playing(self, clock)

    def die(self, at_s: float, fault: Fault) -> None:
        """Gives nothing that is captured at ``at_s`` or later, silently or with an error."""
        self.dead = (at_s, fault)

    def revive(self) -> None:
        """Gives data again."""
        self.dead = None

    def is_dead(self, now_s: float) -> bool:
        """Whether it gives nothing."""
        return self.dead is not None and now_s >= self.dead[0]


class _Playing:
    """The scene from the moment at which the device was opened."""

    def __init__(self, player: ScenePlayer, clock: Clock) -> None:
        self._player, self._clock = player, clock
        self._step_s = STEP_S[player.modality]
        self._number = int(clock() / self._step_s) + 1

    def read(self) -> Chunk | Gone | None:
        player = self._player
        if player.is_dead(self._clock()):
            if player.dead and player.dead[1] == "error":
                return Gone("lost", f"{player.name} was unplugged")
            self._rest()
            return None
        chunk = player.scene.at(player.modality, self._number)
        end_s = chunk.time_s + chunk.duration_s
        if player.is_dead(end_s) or end_s > self._clock() + 1e-9:
            self._rest()
            return None
        self._number += 1
        return chunk

    def _rest(self) -> None:
        if self._player.connection_kind == "thread":
            time.sleep(0.002)

    def close(self) -> None:
        """Nothing to release."""
