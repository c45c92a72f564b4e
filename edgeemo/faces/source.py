"""Where the faces of a stream of frames come from: one small protocol, two detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeemo.faces.finder import FaceFinder
from edgeemo.faces.tracks import FaceTracker
from edgeemo.faces.yunet import Yunet
from edgeemo.features.face import FaceBox, FaceSpec


@dataclass(frozen=True)
class FoundFace:
    """A face in one frame.

    Attributes:
        track: its number, the same in the next frame, never another face's.
        box: where it is, framed as the front-end wants it; it may reach beyond the frame.
        landmarks: (5, 2) x and y in pixels: the eye on the picture's left, the other eye, tip of the
            nose, corner of the mouth on the picture's left, the other corner. None where the detector
            gives none.
    """

    track: int
    box: FaceBox
    landmarks: NDArray[np.float32] | None = None


class FaceSource(Protocol):
    """Finds the faces of one stream of frames.

    Attributes:
        detector: its name, such as ``"haar"``.
        many: whether it gives every face, not just the one that the policy wants.
    """

    detector: str
    many: bool

    @property
    def searches(self) -> int:
        """How often a whole frame was searched."""

    def find(self, frame: NDArray[np.uint8], time_s: float) -> list[FoundFace]:
        """Returns the faces found in this very frame.

        Args:
            frame: (H, W) grey, (H, W, 3) BGR or (H, W, 4) BGRA uint8.
            time_s: capture time, never less than that of the frame before.
        """

    def forget(self) -> None:
        """Looks for faces afresh; one that is still about where it was keeps its number."""

    def reset(self) -> None:
        """Starts again with the next frame, whatever its time; no number comes a second time."""


class HaarFaces:
    """The one face that the policy wants, followed by the Haar cascade that ships with edgeemo.

    Raises:
        MissingDependencyError: OpenCV is not installed.
    """

    detector = "haar"
    many = False

    def __init__(self, spec: FaceSpec, *, policy: str) -> None:
        self._finder = FaceFinder(spec, policy=policy)
        self._tracker = FaceTracker()

    @property
    def searches(self) -> int:
        """How often a whole frame was searched."""
        return self._finder.searches

    def find(self, frame: NDArray[np.uint8], time_s: float) -> list[FoundFace]:
        """Returns the face, or nothing."""
        box = self._finder.find(frame, time_s)
        boxes = [] if box is None else [box]
        return [
            FoundFace(track, box)
            for track, box in zip(self._tracker.update(boxes, time_s), boxes, strict=True)
        ]

    def forget(self) -> None:
        """Searches the whole of the next frame."""
        self._finder.reset()

    def reset(self) -> None:
        """Starts again with the next frame."""
        self._finder.reset()
        self._tracker.reset()


class YunetFaces:
    """Every face of each frame, by a YuNet model that the user gives.

    Args:
        spec: at which size frames are searched.
        model: path of the model.

    Raises:
        InputError: the model cannot be read.
        MissingDependencyError: OpenCV is not installed, or is one without FaceDetectorYN.
    """

    detector = "yunet"
    many = True

    def __init__(self, spec: FaceSpec, *, model: str) -> None:
        self._yunet = Yunet(model, spec)
        self._tracker = FaceTracker()

    @property
    def searches(self) -> int:
        """How often a whole frame was searched."""
        return self._yunet.searches

    def find(self, frame: NDArray[np.uint8], time_s: float) -> list[FoundFace]:
        """Returns all faces, the largest first."""
        found = self._yunet.detect(frame)
        tracks = self._tracker.update([box for box, _ in found], time_s)
        return [
            FoundFace(track, box, landmarks) for track, (box, landmarks) in zip(tracks, found, strict=True)
        ]

    def forget(self) -> None:
        """Does nothing: every frame is searched afresh."""

    def reset(self) -> None:
        """Starts again with the next frame."""
        self._tracker.reset()


def open_face_source(spec: FaceSpec, *, policy: str, model: str | None = None) -> FaceSource:
    """Returns YuNet where a model is given, else the Haar cascade.

    Raises:
        InputError: the model cannot be read, or there is no such policy.
        MissingDependencyError: OpenCV is not installed, or is one without FaceDetectorYN.
    """
    return HaarFaces(spec, policy=policy) if model is None else YunetFaces(spec, model=model)
