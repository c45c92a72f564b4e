"""YuNet, a face detector that also gives five landmarks (W. Wu et al., Machine Intelligence Research, 2023).

The model is the user's own file; OpenCV reads it (``cv2.FaceDetectorYN``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import InputError, MissingDependencyError
from edgeemo.features.face import FaceBox, FaceSpec, check_frame, load_cv2, resized_picture

Float32 = NDArray[np.float32]

_SCORE = 0.7
_OVERLAP = 0.3  # of two boxes that are taken for one face
_MOST = 50  # candidates before the overlapping ones are taken out
_PROBE = (64, 64)  # rows, columns of the picture that a new model is tried on

# How the Haar cascade's box lies around a face, which the crops are framed by. Measured on FER+ val with
# OpenCV's eye and mouth cascades inside the boxes (medians over 467 faces with two level eyes).
_EYES_APART = 0.387  # of the box's side
_MOUTH_BELOW_EYES = 0.423
_EYES_ABOVE_MIDDLE = 0.113


class Yunet:
    """Finds every face of a frame.

    Args:
        model: path of a YuNet model in ONNX.
        spec: frames are shrunk to its `detect_width` before they are searched.

    Attributes:
        searches: how many frames were searched.

    Raises:
        InputError: there is no such file, or OpenCV cannot use it as a YuNet model.
        MissingDependencyError: OpenCV is not installed, or is one without FaceDetectorYN.
    """

    def __init__(self, model: str, spec: FaceSpec) -> None:
        self._cv2 = load_cv2()
        self._spec = spec
        self.searches = 0
        if not hasattr(self._cv2, "FaceDetectorYN"):
            raise MissingDependencyError(
                f"face_model={model!r} (OpenCV {self._cv2.__version__} has no FaceDetectorYN)",
                "OpenCV 4.8 or newer, below 5",
                "pip install 'edgeemo[camera]'",
            )
        path = Path(model)
        if not path.is_file():
            raise InputError(
                f"the face model {model} does not exist; give the path of a YuNet model such as "
                "face_detection_yunet_2023mar.onnx, or no face_model for the detector that ships with edgeemo"
            )
        self._detector = self._open(path)

    def __repr__(self) -> str:
        return f"Yunet(at {self._spec.detect_width} pixels, {self.searches} frames searched)"

    def detect(self, frame: NDArray[np.uint8]) -> list[tuple[FaceBox, Float32]]:
        """Returns the faces of a frame, the largest first, the leftmost among equals.

        Args:
            frame: (H, W) grey, (H, W, 3) BGR or (H, W, 4) BGRA, of any size.

        Returns:
            for each face the box as the Haar cascade would frame it, and landmarks (5, 2) as in
            `FoundFace`.

        Raises:
            InputError: another shape or dtype, or an empty frame.
        """
        check_frame(frame)
        self.searches += 1
        cv2 = self._cv2
        scale = min(1.0, self._spec.detect_width / max(frame.shape[:2]))
        small = resized_picture(cv2, frame, scale)
        channels = 1 if small.ndim == 2 else small.shape[2]
        if channels != 3:
            small = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR)
        self._detector.setInputSize((small.shape[1], small.shape[0]))
        _, rows = self._detector.detect(small)
        found = []
        for row in rows if rows is not None else ():
            if np.isfinite(row).all():
                landmarks = (row[4:14].reshape(5, 2) / scale).astype(np.float32)
                box = box_from_landmarks(landmarks)
                if box is not None and _inside(box, frame.shape):
                    found.append((box, landmarks))
        return sorted(found, key=lambda face: (-face[0].size, face[0].left, face[0].top))

    def _open(self, path: Path) -> Any:
        """A detector that has answered once: OpenCV reads many files that it cannot run."""
        cv2 = self._cv2
        try:
            detector = cv2.FaceDetectorYN.create(str(path), "", _PROBE[::-1], _SCORE, _OVERLAP, _MOST)
            detector.detect(np.zeros((*_PROBE, 3), np.uint8))
        except cv2.error as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"the face model {path} cannot be used: {reason[:300]}; "
                "it must be a YuNet model that cv2.FaceDetectorYN reads"
            ) from error
        return detector


def box_from_landmarks(landmarks: Float32) -> FaceBox | None:
    """Returns the square that the Haar cascade would put around the face, None where they make no face.

    Of a turned face the eyes are nearer to each other, of a raised or lowered one the mouth is nearer to
    the eyes; the side follows from whichever is less shortened.

    Args:
        landmarks: (5, 2) as in `FoundFace`, pixels.
    """
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    apart = float(np.hypot(*(landmarks[1] - landmarks[0])))
    below = float(np.hypot(*(mouth - eyes)))
    side = max(apart / _EYES_APART, below / _MOUTH_BELOW_EYES)
    if below <= 0 or side < 1:
        return None
    middle = eyes + (mouth - eyes) / below * (_EYES_ABOVE_MIDDLE * side)
    return FaceBox(float(middle[0]) - side / 2, float(middle[1]) - side / 2, side)


def _inside(box: FaceBox, shape: tuple[int, ...]) -> bool:
    """Whether the middle of the box is in the picture; no crop could be cut otherwise."""
    across, down = box.left + box.size / 2, box.top + box.size / 2
    return 0 <= across < shape[1] and 0 <= down < shape[0]
