"""Says of a face why it cannot be read, before anything is recognised in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeemo.faces.source import FoundFace
from edgeemo.features.face import FaceSpec
from edgeemo.quality.face import face_quality, turn_from_landmarks
from edgeemo.session.settings import Settings


class FaceGate:
    """Compares what is measured on a face with the thresholds of the session.

    Args:
        spec: how faces are framed.
        settings: the thresholds.
    """

    def __init__(self, spec: FaceSpec, settings: Settings) -> None:
        self._spec, self._settings = spec, settings

    def turned_away(self, face: FoundFace) -> str:
        """Returns why the face does not look at the camera, empty where it does or nobody can tell."""
        if face.landmarks is None:
            return ""
        turn = turn_from_landmarks(face.landmarks)
        limits = self._settings
        if abs(turn.yaw) > limits.face_max_yaw_deg:
            return f"the face is turned away ({turn.yaw:.0f} degrees to the side)"
        if abs(turn.roll) > limits.face_max_roll_deg:
            return f"the head is tilted too far ({turn.roll:.0f} degrees)"
        return ""

    def flaw(self, face: FoundFace, crop: NDArray[np.uint8], shape: tuple[int, ...]) -> str:
        """Returns what is wrong with a face, empty where it can be read.

        Args:
            face: where it is.
            crop: what `crop_face` cut there.
            shape: (H, W, ...) of the frame.
        """
        found, limits = face_quality(crop, face.box, shape, self._spec), self._settings
        flaws = (
            (
                found.side_px < limits.face_min_side_px,
                f"the face is too small ({found.side_px:.0f} of {limits.face_min_side_px:.0f} pixels)",
            ),
            (
                found.outside > limits.face_max_outside,
                f"the face is cut off by the edge of the picture ({found.outside:.0%} of it)",
            ),
            (
                found.burnt > limits.face_max_burnt,
                f"the face is overexposed ({found.burnt:.0%} of it is white)",
            ),
            (
                found.contrast < limits.face_min_contrast,
                f"the face is too dark or flat (contrast {found.contrast:.1f}, "
                f"needs {limits.face_min_contrast:.1f})",
            ),
            (
                found.detail < limits.face_min_detail,
                f"the face is blurred (detail {found.detail:.3f}, needs {limits.face_min_detail:.3f})",
            ),
            (
                found.noise > limits.face_max_noise,
                f"the face is lost in noise ({found.noise:.2f}, at most {limits.face_max_noise:.2f})",
            ),
        )
        return next((why for wrong, why in flaws if wrong), "")
