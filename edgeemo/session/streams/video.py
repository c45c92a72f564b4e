"""Pictures: one face crop for each slot of stream time, through the stem."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle.manifest import ModalitySpec
from edgeemo.errors import MissingDependencyError
from edgeemo.features.face import FaceFinder, FaceSpec, check_frame, crop_face, normalize_face
from edgeemo.runtimes.base import Runner
from edgeemo.session.settings import Settings
from edgeemo.session.states import State
from edgeemo.session.streams.base import USABLE, Stream, Usability, check_time
from edgeemo.windows import FeatureWindow, Float32

_GRID = 8  # brightness and repetition are judged on every 8th pixel of every 8th row


@dataclass(frozen=True)
class _Look:
    """What one frame showed."""

    time_s: float
    slot: int
    face: Float32 | None  # (48, 48) standardised crop
    brightness: float
    unchanged_s: float


class VideoStream(Stream):
    """A camera's or file's picture as a window of features of the face in view.

    Args:
        spec: the modality as the manifest has it.
        stem: the stem's runner; its owner closes it.
        settings: how long a face may be away, what counts as dark or frozen.
    """

    modality = "video"

    def __init__(self, spec: ModalitySpec, stem: Runner, settings: Settings) -> None:
        self._front_end = FaceSpec.from_json(spec.front_end)
        self._spec, self._stem, self._settings = spec, stem, settings
        self._input, self._output = f"input.{spec.name}", f"features.{spec.name}"
        self._finder: FaceFinder | None = None
        self._window = FeatureWindow(length=spec.window.length, width=spec.feature_width)
        self.reset()

    def reset(self) -> None:
        """Starts again as if nothing had ever been pushed."""
        self.newest_s, self.patience_s = None, 0.0
        self.forget()
        self._looks: list[_Look] = []  # oldest first, bounded by the window
        self._advanced_slot = -1
        self._signature: int | None = None
        self._changed_s = 0.0

    def push(self, frame: NDArray[np.uint8], *, time_s: float) -> None:
        """Takes a frame (H, W, 3) BGR, (H, W, 4) BGRA or (H, W) grey, uint8, captured at `time_s`.

        The first frame of each slot is looked at, the others are skipped.

        Raises:
            InputError: the frame is of another type or shape, or the time goes back; the stream is
                unchanged.
            MissingDependencyError: faces cannot be found here.
        """
        check_frame(frame)
        check_time(self.modality, time_s, self.newest_s)
        finder = self._face_finder()
        slot = math.floor(time_s / self._spec.window.period_s + 1e-6)
        if self._looks and slot <= self._looks[-1].slot:
            self.newest_s = time_s
            return
        box = finder.find(frame, time_s)
        face = None if box is None else normalize_face(crop_face(frame, box, self._front_end))
        sample = np.ascontiguousarray(frame[::_GRID, ::_GRID])
        signature = zlib.crc32(sample.tobytes())
        if signature != self._signature:
            self._signature, self._changed_s = signature, time_s
        self.newest_s = time_s
        self._looks.append(_Look(time_s, slot, face, float(sample.mean()), time_s - self._changed_s))
        # An application that pushes and seldom reads must not make the buffers grow.
        oldest = slot - self._spec.window.length
        if self._looks[0].slot <= oldest:
            self.advance(self._looks[0].time_s)
            self._looks = [look for look in self._looks if look.slot > oldest]

    def advance(self, at_s: float) -> None:
        """Runs the stem on every face captured by `at_s` that it has not seen."""
        for look in self._looks:
            if look.time_s > at_s or look.slot <= self._advanced_slot:
                continue
            self._advanced_slot = look.slot
            if look.face is not None:
                features = self._stem.run({self._input: look.face[None, None]})[self._output]  # (1, 1, D)
                self._window.put(look.slot, features[0, 0])

    def usability(self, at_s: float) -> Usability:
        """Poor where the picture is black or frozen, quiet where no face was in it for a while."""
        seen = [look for look in self._looks if look.time_s <= at_s]
        if not seen:
            return Usability(State.QUIET, "no frame has arrived yet")
        newest = seen[-1]
        if newest.brightness < self._settings.video_dark_level:
            return Usability(
                State.POOR, f"the picture is black (mean brightness {newest.brightness:.0f} of 255)"
            )
        if newest.unchanged_s > self._settings.video_frozen_s:
            return Usability(State.POOR, f"the same frame for {newest.unchanged_s:.1f} s: the camera hangs")
        since_s = at_s - self._settings.quiet_after_s
        if not any(look.face is not None for look in seen if look.time_s > since_s):
            return Usability(State.QUIET, "no face in view")
        return USABLE

    def fill(self, at_s: float) -> tuple[float, float]:
        """Returns for how many seconds of the window there is a face and how many are needed."""
        filled = self._window.count(self._newest_slot(at_s)) * self._spec.window.period_s
        return filled, self._settings.video_min_fill_s

    def window(self, at_s: float) -> tuple[Float32, Float32]:
        """Returns features (1, T, D) and mask (1, T), the newest frame's slot last."""
        return self._window.view(self._newest_slot(at_s))

    def evidence_s(self, at_s: float) -> float | None:
        """Returns the capture time of the newest frame with a face in the window."""
        faces = [look.time_s for look in self._looks if look.face is not None and look.time_s <= at_s]
        return faces[-1] if faces and self._window.count(self._newest_slot(at_s)) else None

    def forget(self) -> None:
        """Empties the window and looks for the face afresh."""
        self._window.clear()
        if self._finder is not None:
            self._finder.reset()

    def _face_finder(self) -> FaceFinder:
        """Returns the finder, made for the first frame: a session without frames needs no OpenCV."""
        if self._finder is None:
            try:
                self._finder = FaceFinder(self._front_end)
            except MissingDependencyError as error:
                self.unavailable = str(error)
                raise
        return self._finder

    def _newest_slot(self, at_s: float) -> int:
        return max((look.slot for look in self._looks if look.time_s <= at_s), default=-1)
