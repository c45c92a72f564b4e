"""What a face crop may look like before a webcam: framing, light, blur, noise, things in front of it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FaceJitter:
    """Strengths of the augmentation; each draw is uniform up to its strength.

    Attributes:
        shift: of the face, as a part of the crop.
        scale: natural logarithm of the zoom.
        stretch: natural logarithm of width over height.
        rotate_deg: in the image plane.
        gamma: natural logarithm of the exponent on light.
        ramp: light falling from one side, in grey levels at the edge.
        blur: part of the crops that is blurred (out of focus, moved, or few pixels on the sensor).
        noise: standard deviation of sensor noise, grey levels.
        erase: part of the crops with one rectangle covered by a flat grey.
        mirror: part of the crops that is mirrored.
    """

    shift: float = 0.1
    scale: float = 0.16
    stretch: float = 0.06
    rotate_deg: float = 14.0
    gamma: float = 0.5
    ramp: float = 30.0
    blur: float = 0.25
    noise: float = 6.0
    erase: float = 0.3
    mirror: float = 0.5


def augment_faces(
    faces: NDArray[np.uint8], rng: np.random.Generator, jitter: FaceJitter | None = None
) -> NDArray[np.uint8]:
    """Returns one altered copy of each face.

    Args:
        faces: (N, H, W) grey crops, H = W.
        rng: the only source of randomness.
        jitter: strengths; the defaults are what the stem is trained with.

    Returns:
        (N, H, W) uint8.
    """
    jitter = jitter or FaceJitter()
    count, size = len(faces), faces.shape[-1]
    moved = np.empty_like(faces)
    matrices = _framings(count, size, rng, jitter)
    blurs = np.where(rng.random(count) < jitter.blur, rng.uniform(0.4, 1.1, count), 0.0)
    for index in range(count):
        moved[index] = cv2.warpAffine(
            faces[index],
            matrices[index],
            (size, size),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        if blurs[index]:
            moved[index] = cv2.GaussianBlur(moved[index], (0, 0), float(blurs[index]))
    return _erase(_relight(moved, rng, jitter), rng, jitter)


def _framings(count: int, size: int, rng: np.random.Generator, jitter: FaceJitter) -> NDArray[np.float64]:
    """(count, 2, 3) affine maps about the centre of the crop, some of them mirrored."""
    angle = np.deg2rad(rng.uniform(-jitter.rotate_deg, jitter.rotate_deg, count))
    zoom = np.exp(rng.uniform(-jitter.scale, jitter.scale, count))
    stretch = np.exp(rng.uniform(-jitter.stretch, jitter.stretch, count) / 2)
    mirror = np.where(rng.random(count) < jitter.mirror, -1.0, 1.0)
    linear = np.empty((count, 2, 2))
    linear[:, 0, 0], linear[:, 0, 1] = np.cos(angle) * zoom * stretch * mirror, -np.sin(angle) * zoom
    linear[:, 1, 0], linear[:, 1, 1] = np.sin(angle) * zoom * mirror, np.cos(angle) * zoom / stretch
    centre = np.full(2, (size - 1) / 2)
    shift = rng.uniform(-jitter.shift, jitter.shift, (count, 2)) * size
    offset = centre + shift - linear @ centre
    return np.concatenate([linear, offset[:, :, None]], axis=2)


def _relight(faces: NDArray[np.uint8], rng: np.random.Generator, jitter: FaceJitter) -> NDArray[np.uint8]:
    count, size = len(faces), faces.shape[-1]
    exponents = np.exp(rng.uniform(-jitter.gamma, jitter.gamma, count))
    tables = 255 * (np.arange(256) / 255) ** exponents[:, None]  # (N, 256)
    light = np.take_along_axis(tables, faces.reshape(count, -1).astype(np.int64), axis=1)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    slopes = rng.uniform(-jitter.ramp, jitter.ramp, (count, 2, 1, 1)).astype(np.float32)
    light = light.reshape(faces.shape).astype(np.float32)
    light += slopes[:, 0] * axis[None, :, None] + slopes[:, 1] * axis[None, None, :]
    deviation = rng.uniform(0, jitter.noise, (count, 1, 1)).astype(np.float32)
    light += deviation * rng.standard_normal(faces.shape, dtype=np.float32)
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


def _erase(faces: NDArray[np.uint8], rng: np.random.Generator, jitter: FaceJitter) -> NDArray[np.uint8]:
    """Covers one rectangle in some of `faces`, in place."""
    size = faces.shape[-1]
    for index in np.flatnonzero(rng.random(len(faces)) < jitter.erase):
        height, width = rng.integers(size // 6, size // 2, 2)
        top, left = rng.integers(0, size - height), rng.integers(0, size - width)
        faces[index, top : top + height, left : left + width] = rng.integers(0, 256)
    return faces
