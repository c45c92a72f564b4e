"""How usable a face is: large enough, whole, sharp, lit, turned to the camera."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeemo.features.face import FaceBox, FaceSpec

_WHITE = 250  # grey level from which on a pixel holds no detail
_COARSE = 16  # pixels on a side that blur is measured at
_LEAST_VARIANCE = 0.01  # a flat picture is smooth
_NOSE_OUT = 0.5  # the nose's tip lies this many eye distances in front of the eyes and mouth


@dataclass(frozen=True)
class FaceQuality:
    """What was measured on one face.

    Attributes:
        side_px: side of its box in pixels of the frame.
        outside: part of the crop that lies beyond the frame, 0 to 1.
        detail: how much a few pixels' distance changes, at a third of the crop's scale: variance of the
            second differences over that of the levels, along rows or columns, whichever is less. Near 0
            for a face that is out of focus or moves, 6 for white noise.
        noise: the same at the crop's own scale, where a face has little and noise has most.
        contrast: standard deviation of the crop, grey levels.
        burnt: part of the crop's pixels that are white beyond any detail, 0 to 1.
    """

    side_px: float
    outside: float
    detail: float
    noise: float
    contrast: float
    burnt: float


@dataclass(frozen=True)
class FaceTurn:
    """How a face is turned, in degrees.

    Attributes:
        yaw: to the side; 0 looks into the camera, positive to the picture's right.
        roll: tilted; positive clockwise in the picture.
    """

    yaw: float
    roll: float


def face_quality(
    crop: NDArray[np.uint8], box: FaceBox, shape: tuple[int, ...], spec: FaceSpec | None = None
) -> FaceQuality:
    """Returns the measures of one face.

    Blur is measured where the network looks: on the crop, at its fixed scale, so that a far face and a
    near one are judged alike (variance of the Laplacian, J. Pech-Pacheco et al., ICPR 2000, here of its
    two halves apart, since a movement blurs in one direction; over the variance of the levels, so that
    light and contrast do not count). Of 48, 24, 16, 12 and 8 pixels, 16 told best which blurred faces
    are read wrongly.

    Args:
        crop: (S, S) grey levels that `crop_face` cut.
        box: what it was cut by.
        shape: (H, W, ...) of the frame.
        spec: the framing.
    """
    spec = spec or FaceSpec()
    levels = crop.astype(np.float32)
    side = box.size * spec.crop_scale
    left = box.left + (box.size - side) / 2
    top = box.top + (box.size - side) / 2 + spec.crop_offset * box.size
    across = max(0.0, min(left + side, shape[1]) - max(left, 0.0)) / side
    down = max(0.0, min(top + side, shape[0]) - max(top, 0.0)) / side
    return FaceQuality(
        side_px=box.size,
        outside=1 - across * down,
        detail=_roughness(_shrunk(levels)),
        noise=_roughness(levels),
        contrast=float(levels.std()),
        burnt=float(np.mean(crop >= _WHITE)),
    )


def _shrunk(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of each block of pixels of a square picture, 16 or a few more blocks on a side."""
    size = len(levels)
    block = max(1, size // _COARSE)
    whole = levels[: size // block * block, : size // block * block]
    shrunk: NDArray[np.float32] = whole.reshape(len(whole) // block, block, -1, block).mean(axis=(1, 3))
    return shrunk


def _roughness(levels: NDArray[np.float32]) -> float:
    """Variance of the second differences over that of the levels, in the smoother direction."""
    along_rows = levels[:, :-2] + levels[:, 2:] - 2 * levels[:, 1:-1]
    along_columns = levels[:-2] + levels[2:] - 2 * levels[1:-1]
    least = min(float(along_rows.var()), float(along_columns.var()))
    return least / max(float(levels.var()), _LEAST_VARIANCE)


def turn_from_landmarks(landmarks: NDArray[np.floating]) -> FaceTurn:
    """Returns how a face is turned, from where its nose is between eyes and mouth.

    The tip of the nose lies in front of the plane of eyes and mouth, so it leaves the line from the
    middle of the eyes to the middle of the mouth by ``tan(yaw)`` times how far it lies in front.

    Args:
        landmarks: (5, 2) x and y: the eye on the picture's left, the other eye, tip of the nose, corner
            of the mouth on the picture's left, the other corner.
    """
    first, second, nose, corner, other = np.asarray(landmarks, np.float64)
    eyes, mouth = (first + second) / 2, (corner + other) / 2
    across, down = second - first, mouth - eyes
    length = math.hypot(*down)
    if length <= 0:
        return FaceTurn(90.0, 0.0)
    beside = ((nose - eyes)[0] * down[1] - (nose - eyes)[1] * down[0]) / length
    yaw = math.atan2(beside, _NOSE_OUT * max(math.hypot(*across), 1e-6))
    return FaceTurn(math.degrees(yaw), math.degrees(math.atan2(-down[0], down[1])))
