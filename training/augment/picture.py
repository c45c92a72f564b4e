"""Pictures with one known defect each: what gates are fitted to and measured with.

A face stands in a larger picture, its edges drawn out, as in `benchmarks.robustness`; then the defect is
added to the whole picture, as a lens or a sensor would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Placed = tuple[Picture, tuple[float, float, float]]

FRAME = (240, 320)  # rows, columns of the picture
SIDE = 160  # pixels of the face's crop in it
_SENSOR_NOISE = 2.0  # standard deviation in the dark, grey levels
_HEAD = 0.55  # radius of the head, in sides of the crop
_EYE = 20.0  # degrees from the middle of the face to an eye, on that head


@dataclass(frozen=True)
class Defect:
    """Something that goes wrong with a picture.

    Attributes:
        name: such as ``"blurred"``.
        unit: what its strengths say.
        strengths: from the mildest to the worst.
        make: (48x48 crop, strength, source of noise) -> picture, and where the crop is in it: left, top
            and scale, so that a box found in the plain picture can be found again.
    """

    name: str
    unit: str
    strengths: tuple[float, ...]
    make: Callable[[Picture, float, np.random.Generator], Placed]


def in_a_picture(image: Picture, side: int = SIDE) -> Placed:
    """Returns a grey picture with the crop in its middle, its edges drawn out, and where it is.

    Args:
        image: (48, 48) grey levels.
        side: pixels of the crop in the picture.
    """
    height, width = FRAME
    face = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if side < 48 else cv2.INTER_CUBIC)
    top, left = (height - side) // 2, (width - side) // 2
    border = (top, height - side - top, left, width - side - left)
    picture: Picture = cv2.copyMakeBorder(face, *border, cv2.BORDER_REPLICATE)
    return picture, (float(left), float(top), side / SIDE)


def _levels(picture: NDArray[np.floating]) -> Picture:
    levels: Picture = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    return levels


def _blurred(image: Picture, percent: float, rng: np.random.Generator) -> Placed:
    picture, place = in_a_picture(image)
    return cv2.GaussianBlur(picture, (0, 0), percent / 100 * SIDE), place


def _moved(image: Picture, percent: float, rng: np.random.Generator) -> Placed:
    picture, place = in_a_picture(image)
    length = max(1, round(percent / 100 * SIDE))
    path = np.full((1, length), 1 / length, np.float32)
    path = path if rng.random() < 0.5 else path.T
    return cv2.filter2D(picture, -1, path, borderType=cv2.BORDER_REPLICATE), place


def _dark(image: Picture, divisor: float, rng: np.random.Generator) -> Placed:
    picture, place = in_a_picture(image)
    return _levels(picture / divisor + rng.normal(0, _SENSOR_NOISE, picture.shape)), place


def _noisy(image: Picture, sigma: float, rng: np.random.Generator) -> Placed:
    picture, place = in_a_picture(image)
    return _levels(picture + rng.normal(0, sigma, picture.shape)), place


def _overexposed(image: Picture, gain: float, rng: np.random.Generator) -> Placed:
    picture, place = in_a_picture(image)
    return _levels(picture * np.float64(gain)), place


def _small(image: Picture, side: float, rng: np.random.Generator) -> Placed:
    return in_a_picture(image, round(side))


def _cut_off(image: Picture, percent: float, rng: np.random.Generator) -> Placed:
    picture, (left, top, scale) = in_a_picture(image)
    cut = round(percent / 100 * SIDE)
    edge = int(rng.integers(4))
    if edge == 0:
        return picture[:, int(left) + cut :], (-float(cut), top, scale)
    if edge == 1:
        return picture[:, : int(left) + SIDE - cut], (left, top, scale)
    if edge == 2:
        return picture[int(top) + cut :], (left, -float(cut), scale)
    return picture[: int(top) + SIDE - cut], (left, top, scale)


def _tilted(image: Picture, degrees: float, rng: np.random.Generator) -> Placed:
    picture, place = in_a_picture(image)
    height, width = picture.shape
    turn = degrees if rng.random() < 0.5 else -degrees
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, 1.0)
    return cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), place


def _turned(image: Picture, degrees: float, rng: np.random.Generator) -> Placed:
    """The face on a cylinder that is turned to one side, as a head is; what comes into view is drawn out."""
    picture, (left, top, scale) = in_a_picture(image)
    height, width = picture.shape
    radius, sign = _HEAD * SIDE, 1.0 if rng.random() < 0.5 else -1.0
    column, row = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    across = column - (width - 1) / 2
    angle = np.arcsin(np.clip(across / radius, -1, 1)) - sign * np.radians(degrees)
    source = radius * np.sin(np.clip(angle, -np.pi / 2, np.pi / 2)) + (width - 1) / 2
    turned = cv2.remap(
        picture, source.astype(np.float32), row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    shift = sign * radius * np.sin(np.radians(degrees)) * np.cos(np.radians(_EYE))
    return turned, (left + float(shift), top, scale)


DEFECTS = (
    Defect("blurred", "sigma, % of the face", (1, 2, 3, 4, 6, 8, 12, 16), _blurred),
    Defect("moving", "path, % of the face", (5, 10, 20, 30, 45, 60), _moved),
    Defect("dark", "part of the light", (4, 8, 16, 32, 64, 128, 256), _dark),
    Defect("noisy", "sigma, grey levels", (10, 20, 40, 60, 90, 130), _noisy),
    Defect("overexposed", "times the light", (1.5, 2, 3, 4, 6, 10, 20), _overexposed),
    Defect("small", "pixels of the crop", (80, 48, 32, 24, 18, 14, 10, 8, 6, 4), _small),
    Defect("cut off", "% of the face beyond the edge", (10, 20, 30, 40, 50, 60, 70, 80), _cut_off),
    Defect("tilted", "degrees", (15, 30, 45, 60, 75, 90, 120, 180), _tilted),
    Defect("turned", "degrees", (15, 30, 45, 60, 75, 90), _turned),
)
