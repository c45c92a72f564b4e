"""Pictures: a few face crops for each slot of stream time, through the stem."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle.manifest import ModalitySpec
from edgeemo.errors import InputError, MissingDependencyError
from edgeemo.faces.source import FaceSource, FoundFace, open_face_source
from edgeemo.features.face import FaceBox, FaceSpec, check_frame, crop_face, normalize_face
from edgeemo.quality.picture import PictureMeter, PictureQuality
from edgeemo.runtimes.base import Runner
from edgeemo.session.settings import Settings
from edgeemo.session.states import State
from edgeemo.session.streams.base import USABLE, Stream, Usability, check_time
from edgeemo.session.streams.face_gate import FaceGate
from edgeemo.session.streams.main_face import Candidate, MainFace
from edgeemo.windows import FeatureWindow, Float32


@dataclass(frozen=True)
class _Face:
    """A face in one frame; `crop` (48, 48) is standardised, None where `why` says that it cannot be read."""

    track: int
    box: tuple[float, float, float, float]
    size: float
    crop: Float32 | None
    why: str
    turned_away: bool


@dataclass(frozen=True)
class _Look:
    """What one frame showed."""

    time_s: float
    slot: int
    trouble: str  # why the picture as a whole cannot be used
    light: str  # why there is no face in it, where it is too dark or too bright to tell
    faces: tuple[_Face, ...]
    main: int | None  # track

    def face(self, track: int | None) -> _Face | None:
        """The face of a track, None where it is not in this frame."""
        for face in self.faces:
            if face.track == track:
                return face
        return None


@dataclass(frozen=True)
class SeenFace:
    """A face in view, with what an engine needs to read it.

    Attributes:
        track: its number in this session.
        box: left, top, width and height as fractions of the frame; it may reach beyond 0 to 1.
        main: whether the session's own reading is of this face.
        turned_away: whether it does not look at the camera.
        why: why it cannot be read; empty where it can.
        age_s: age of its newest usable picture; None where there is none.
        features: (1, T, D), the newest last.
        mask: (1, T).
    """

    track: int
    box: tuple[float, float, float, float]
    main: bool
    turned_away: bool
    why: str
    age_s: float | None
    features: Float32
    mask: Float32


class VideoStream(Stream):
    """A camera's or file's picture as windows of features, one for each face in view.

    What the session reads itself is the main face; the others are there where the detector gives them.

    Args:
        spec: the modality as the manifest has it.
        stem: the stem's runner; its owner closes it.
        settings: how long a face may be away, whose face counts, what cannot be trusted.
        source: where faces come from; None for what the settings say.

    Raises:
        InputError: the face model cannot be used, or there is no such policy.
        MissingDependencyError: there is a face model and OpenCV cannot be used with it.
    """

    modality = "video"

    def __init__(
        self, spec: ModalitySpec, stem: Runner, settings: Settings, *, source: FaceSource | None = None
    ) -> None:
        self._front_end = FaceSpec.from_json(spec.front_end)
        self._spec, self._stem, self._settings = spec, stem, settings
        self.deadline_s = settings.video_deadline_s
        self._input, self._output = f"input.{spec.name}", f"features.{spec.name}"
        self._gate = FaceGate(self._front_end, settings)
        self._meter = PictureMeter()
        self._chooser = MainFace(settings.face_policy, patience_s=settings.quiet_after_s)
        self._windows: dict[int, FeatureWindow] = {}
        # A detector that was asked for by name fails now; the other one waits for the first frame, so
        # that a session without frames needs no OpenCV.
        self._source = self._open_source() if source is None and settings.face_model is not None else source
        self.reset()

    @property
    def many_faces(self) -> bool:
        """Whether every face is followed, not just the main one."""
        return self._source is not None and self._source.many

    @property
    def searches(self) -> int:
        """How often a whole frame was searched for faces."""
        return 0 if self._source is None else self._source.searches

    def reset(self) -> None:
        """Starts again as if nothing had ever been pushed; new faces get numbers of their own."""
        self.newest_s, self.patience_s = None, 0.0
        self._looks: list[_Look] = []  # oldest first, bounded by the window
        self._advanced_slot = -1
        self._windows.clear()
        self._meter.reset()
        self._chooser.reset()
        if self._source is not None:
            self._source.reset()

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
        source = self._source or self._opened_late()
        slot = math.floor(time_s / self._spec.window.period_s + 1e-6)
        if self._looks and slot <= self._looks[-1].slot:
            self.newest_s = time_s
            return
        picture = self._meter.measure(frame, time_s)
        trouble = self._trouble(picture)
        found = [] if trouble else source.find(frame, time_s)
        faces = tuple(self._look_at(frame, face) for face in self._kept(found))
        light = "" if found else self._light(picture)
        main = self._main(source, found, faces, frame.shape, time_s)
        self.newest_s = time_s
        self._looks.append(_Look(time_s, slot, trouble, light, faces, main))
        # An application that pushes and seldom reads must not make the buffers grow.
        oldest = slot - self._spec.window.length
        if self._looks[0].slot <= oldest:
            self.advance(self._looks[0].time_s)
            self._looks = [look for look in self._looks if look.slot > oldest]
            in_view = {face.track for look in self._looks for face in look.faces}
            self._windows = {track: kept for track, kept in self._windows.items() if track in in_view}

    def advance(self, at_s: float) -> None:
        """Runs the stem on every face captured by `at_s` that it has not seen."""
        for look in self._looks:
            if look.time_s > at_s or look.slot <= self._advanced_slot:
                continue
            self._advanced_slot = look.slot
            for face in look.faces:
                if face.crop is not None:
                    features = self._stem.run({self._input: face.crop[None, None]})[self._output]  # (1, 1, D)
                    self._window(face.track).put(look.slot, features[0, 0])

    def usability(self, at_s: float) -> Usability:
        """Poor where picture or face cannot be trusted, quiet where no face was in view for a while."""
        newest = self._newest(at_s)
        if newest is None:
            return Usability(State.QUIET, "no frame has arrived yet")
        if newest.trouble:
            return Usability(State.POOR, newest.trouble)
        if newest.main is not None and newest.time_s > at_s - self._settings.quiet_after_s:
            main = newest.face(newest.main)
            if main is not None and main.crop is not None:
                return USABLE  # as mostly
        recent = [face for _, face in self._recent(newest.main, at_s)]
        if any(face.crop is not None for face in recent):
            return USABLE
        if recent or newest.light:
            return Usability(State.POOR, recent[0].why if recent else newest.light)
        return Usability(State.QUIET, "no face in view")

    def fill(self, at_s: float) -> tuple[float, float]:
        """Returns for how many seconds of the window there is a face and how many are needed."""
        newest = self._newest(at_s)
        window = None if newest is None else self._windows.get(newest.main or 0)
        filled = 0 if newest is None or window is None else window.count(newest.slot)
        return filled * self._spec.window.period_s, self._settings.video_min_fill_s

    def window(self, at_s: float) -> tuple[Float32, Float32]:
        """Returns features (1, T, D) and mask (1, T) of the main face, the newest frame's slot last."""
        newest = self._newest(at_s)
        return self._view((newest and newest.main) or 0, newest)

    def evidence_s(self, at_s: float) -> float | None:
        """Returns the capture time of the newest frame whose main face is in the window."""
        newest = self._newest(at_s)
        return None if newest is None else self._evidence_s(newest.main, newest)

    def faces(self, at_s: float) -> tuple[SeenFace, ...]:
        """Returns the faces that were in view in the last moments, the main one first, then by size.

        Empty where the detector follows one face alone, or the picture cannot be used.
        """
        newest = self._newest(at_s)
        if newest is None or newest.trouble or not self.many_faces:
            return ()
        since_s = at_s - self._settings.quiet_after_s
        shown: dict[int, _Face] = {}
        for look in self._looks:
            if since_s < look.time_s <= at_s:
                shown.update({face.track: face for face in look.faces})
        order = sorted(shown, key=lambda track: (track != newest.main, -shown[track].size, track))
        seen = []
        for track in order[: self._settings.max_faces]:
            usable = any(face.crop is not None for _, face in self._recent(track, at_s))
            evidence_s = self._evidence_s(track, newest) if usable else None
            seen.append(
                SeenFace(
                    track,
                    shown[track].box,
                    track == newest.main,
                    shown[track].turned_away,
                    "" if evidence_s is not None else shown[track].why or "too little was seen of it",
                    None if evidence_s is None else at_s - evidence_s,
                    *self._view(track, newest),
                )
            )
        return tuple(seen)

    def forget(self) -> None:
        """Empties the windows and looks for faces afresh."""
        for window in self._windows.values():
            window.clear()
        if self._source is not None:
            self._source.forget()

    def _trouble(self, picture: PictureQuality) -> str:
        """Why the picture as a whole cannot be used; faces are not even looked for then."""
        limits = self._settings
        if picture.contrast < limits.face_min_contrast:
            return self._light(picture) or f"the picture is blank (contrast {picture.contrast:.1f})"
        if picture.unchanged_s > limits.video_frozen_s:
            return f"the same frame for {picture.unchanged_s:.1f} s: the camera hangs"
        return ""

    def _light(self, picture: PictureQuality) -> str:
        """What keeps anybody from being seen in a picture, empty where it is lit."""
        if picture.brightness < self._settings.video_dark_level:
            return f"the picture is black (mean brightness {picture.brightness:.0f} of 255)"
        if picture.brightness > self._settings.video_white_level:
            return f"the picture is white (mean brightness {picture.brightness:.0f} of 255)"
        return ""

    def _kept(self, found: list[FoundFace]) -> list[FoundFace]:
        """As many faces as may be read: the main one, then the largest."""
        main = self._looks[-1].main if self._looks else None
        return sorted(found, key=lambda face: (face.track != main, -face.box.size))[
            : self._settings.max_faces
        ]

    def _look_at(self, frame: NDArray[np.uint8], found: FoundFace) -> _Face:
        height, width = frame.shape[:2]
        box: FaceBox = found.box
        part = (box.left / width, box.top / height, box.size / width, box.size / height)
        why = turned = self._gate.turned_away(found)
        crop = None
        if not why:
            try:
                levels = crop_face(frame, box, self._front_end)
            except InputError:
                why = "the face lies beyond the edge of the picture"
            else:
                why = self._gate.flaw(found, levels, frame.shape)
                crop = None if why else normalize_face(levels, self._front_end)
        return _Face(found.track, part, box.size, crop, why, bool(turned))

    def _main(
        self,
        source: FaceSource,
        found: list[FoundFace],
        faces: tuple[_Face, ...],
        shape: tuple[int, ...],
        time_s: float,
    ) -> int | None:
        if not source.many:  # the detector keeps to the policy itself
            return faces[0].track if faces else self._looks[-1].main if self._looks else None
        boxes = {face.track: face.box for face in found}
        candidates = [Candidate(face.track, boxes[face.track], face.crop is not None) for face in faces]
        return self._chooser.choose(candidates, shape, time_s)

    def _recent(self, track: int | None, at_s: float) -> Iterator[tuple[_Look, _Face]]:
        """Yields a track's looks of the last moments before `at_s`, the newest first."""
        for look in reversed(self._looks):
            if at_s - self._settings.quiet_after_s < look.time_s <= at_s:
                face = look.face(track)
                if face is not None:
                    yield look, face

    def _evidence_s(self, track: int | None, newest: _Look) -> float | None:
        window = self._windows.get(track or 0)
        if window is None or not window.count(newest.slot):
            return None
        for look in reversed(self._looks):
            face = look.face(track)
            if look.slot <= newest.slot and face is not None and face.crop is not None:
                return look.time_s
        return None

    def _view(self, track: int, newest: _Look | None) -> tuple[Float32, Float32]:
        length, width = self._spec.window.length, self._spec.feature_width
        window = self._windows.get(track)
        if window is None or newest is None:
            return np.zeros((1, length, width), np.float32), np.zeros((1, length), np.float32)
        return window.view(newest.slot)

    def _window(self, track: int) -> FeatureWindow:
        if track not in self._windows:
            self._windows[track] = FeatureWindow(
                length=self._spec.window.length, width=self._spec.feature_width
            )
        return self._windows[track]

    def _newest(self, at_s: float) -> _Look | None:
        for look in reversed(self._looks):
            if look.time_s <= at_s:
                return look
        return None

    def _opened_late(self) -> FaceSource:
        try:
            self._source = self._open_source()
        except MissingDependencyError as error:
            self.unavailable = str(error)
            raise
        return self._source

    def _open_source(self) -> FaceSource:
        settings = self._settings
        return open_face_source(self._front_end, policy=settings.face_policy, model=settings.face_model)
