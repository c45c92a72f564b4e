"""The demo recording as a world without end: a voice that never pauses long, a face always in view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeemo.modality import AUDIO, TEXT, VIDEO
from edgeemo.sensors import MediaFile
from edgeemo.shipped import RECORDING

_FACE_UNTIL_S = 5.0  # until then the demo's camera looks at a face without a break
_VOICE_DBFS = -50.0  # pieces below are pauses; the demo's lie at -66
_PIECE_S, _AROUND = 0.05, 3  # a pause is kept this many pieces after and before the voice


@dataclass(frozen=True, eq=False)
class Recording:
    """Real sound, pictures and captions, without the stretches in which nothing is to be recognised.

    Attributes:
        sound: (N,) float32 mono in [-1, 1].
        rate_hz: its samples a second.
        frames: uint8 (H, W, 3) BGR, in order; played to and fro they have no cut.
        lines: captions, in order.
    """

    sound: NDArray[np.float32]
    rate_hz: int
    frames: tuple[NDArray[np.uint8], ...]
    lines: tuple[str, ...]

    def samples(self, first: int, count: int) -> NDArray[np.float32]:
        """Returns (count,) samples from number `first` of the endless sound."""
        return self.sound[np.arange(first, first + count) % len(self.sound)]

    def frame(self, number: int) -> NDArray[np.uint8]:
        """Returns a picture of the endless stream: forwards, then backwards."""
        last = len(self.frames) - 1
        place = number % (2 * last)
        return self.frames[place if place <= last else 2 * last - place]

    def line(self, number: int) -> str:
        """Returns a caption of the endless stream."""
        return self.lines[number % len(self.lines)]


def load_recording() -> Recording:
    """Decodes the recording that ships with edgeemo; pictures at half their size cost half the search."""
    blocks, frames, lines = [], [], []
    rate_hz = 0
    with MediaFile(RECORDING) as media:
        for chunk in media:
            if chunk.modality == AUDIO:
                blocks.append(chunk.array)
                rate_hz = chunk.rate_hz or rate_hz
            elif chunk.modality == VIDEO and chunk.time_s < _FACE_UNTIL_S:
                frames.append(_halved(chunk.array))
            elif chunk.modality == TEXT:
                lines.append(chunk.text)
    sound = _voiced(np.concatenate(blocks), rate_hz)
    return Recording(sound, rate_hz, tuple(frames), tuple(lines))


def _voiced(sound: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    """Returns the sound without the middle of its pauses."""
    size = round(_PIECE_S * rate_hz)
    pieces = sound[: len(sound) // size * size].reshape(-1, size)
    loud = np.mean(np.square(pieces), axis=1) > 10 ** (_VOICE_DBFS / 10)
    near = np.convolve(loud, np.ones(2 * _AROUND + 1), mode="same") > 0
    return np.ascontiguousarray(pieces[near]).reshape(-1)


def _halved(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width, _ = frame.shape
    four = frame[: height // 2 * 2, : width // 2 * 2].reshape(height // 2, 2, width // 2, 2, 3)
    return np.asarray(four.mean(axis=(1, 3)).round(), dtype=np.uint8)
