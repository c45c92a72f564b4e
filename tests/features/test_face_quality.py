"""What is measured on pictures and faces says what it is called after, whatever the light."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeemo.features.face import FaceBox, FaceSpec
from edgeemo.quality.face import face_quality, turn_from_landmarks
from edgeemo.quality.picture import PictureMeter

BOX, SHAPE = FaceBox(100, 60, 96), (240, 320)
Crop = NDArray[np.uint8]


def textured(seed: int = 0) -> Crop:
    """Smooth blobs with fine grain, as a face has."""
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.normal(0, 1, (8, 8)), np.ones((6, 6)))
    return np.clip(128 + 35 * coarse + 6 * rng.normal(0, 1, (48, 48)), 0, 255).astype(np.uint8)


def smeared(crop: Crop, *, axis: int, reach: int) -> Crop:
    """The mean of neighbours along one axis."""
    rolled = [np.roll(crop.astype(float), shift, axis) for shift in range(-reach, reach + 1)]
    mean: Crop = np.mean(rolled, axis=0).round().astype(np.uint8)
    return mean


def detail(crop: Crop) -> float:
    return face_quality(crop, BOX, SHAPE).detail


def test_blur_takes_detail_and_more_blur_takes_more() -> None:
    crop = textured()
    blurred = [smeared(smeared(crop, axis=0, reach=n), axis=1, reach=n) for n in (0, 3, 6, 12)]
    details = [detail(picture) for picture in blurred]
    assert details == sorted(details, reverse=True)
    assert details[-1] < details[0] / 20


@pytest.mark.parametrize("axis", [0, 1])
def test_movement_in_one_direction_is_blur_too(axis: int) -> None:
    assert detail(smeared(textured(), axis=axis, reach=9)) < detail(textured()) / 8


def test_detail_does_not_depend_on_light_or_contrast() -> None:
    crop = textured()
    dim = (crop / 3 + 20).round().astype(np.uint8)
    assert detail(dim) == pytest.approx(detail(crop), rel=0.05)


def test_noise_is_told_from_a_face() -> None:
    rng = np.random.default_rng(1)
    pure = rng.normal(128, 30, (48, 48)).clip(0, 255).astype(np.uint8)
    assert face_quality(pure, BOX, SHAPE).noise == pytest.approx(6, rel=0.15)
    assert face_quality(textured(), BOX, SHAPE).noise < 1.5


def test_flat_white_and_small_faces_are_measured() -> None:
    white = np.full((48, 48), 100, np.uint8)
    white[:, :12] = 255
    found = face_quality(white, BOX, SHAPE)
    assert found.burnt == 0.25
    assert found.side_px == 96
    flat = face_quality(np.full((48, 48), 7, np.uint8), BOX, SHAPE)
    assert (flat.contrast, flat.detail, flat.noise) == (0, 0, 0)


@pytest.mark.parametrize(
    ("box", "outside"),
    [(BOX, 0.0), (FaceBox(-48, 60, 96), 0.5), (FaceBox(272, 60, 96), 0.5), (FaceBox(-48, -48, 96), 0.75)],
)
def test_the_part_beyond_the_frame_is_told(box: FaceBox, outside: float) -> None:
    spec = FaceSpec(crop_scale=1.0, crop_offset=0.001)
    assert face_quality(textured(), box, SHAPE, spec).outside == pytest.approx(outside, abs=0.01)


def landmarks(*, yaw: float = 0.0, roll: float = 0.0) -> NDArray[np.float64]:
    """Landmarks of a head in perspective-free view, turned and then tilted."""
    head = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0, 0.6, 0.5], [-0.35, 1.1, 0], [0.35, 1.1, 0]])
    c, s = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    turned = np.stack([c * head[:, 0] + s * head[:, 2], head[:, 1]], axis=1)
    c, s = math.cos(math.radians(roll)), math.sin(math.radians(roll))
    points: NDArray[np.float64] = 40 * turned @ np.array([[c, s], [-s, c]]) + [150, 100]
    return points


@pytest.mark.parametrize("yaw", [-60, -30, 0, 15, 45, 75])
@pytest.mark.parametrize("roll", [-40, 0, 25, 90])
def test_a_head_is_turned_as_its_landmarks_say(yaw: float, roll: float) -> None:
    turn = turn_from_landmarks(landmarks(yaw=yaw, roll=roll))
    assert turn.yaw == pytest.approx(yaw, abs=0.5)
    assert turn.roll == pytest.approx(roll, abs=0.5)


def test_landmarks_on_one_spot_are_no_face_that_looks_here() -> None:
    assert turn_from_landmarks(np.zeros((5, 2))).yaw == 90


def test_a_meter_tells_light_contrast_and_how_long_nothing_changed() -> None:
    meter = PictureMeter()
    frame = np.zeros((80, 80, 4), np.uint8)
    frame[:40, :, :3] = 200
    frame[..., 3] = 255  # opaque, which is no light
    first = meter.measure(frame, 1.0)
    assert (first.brightness, first.contrast, first.unchanged_s) == (100, 100, 0)
    assert meter.measure(frame, 2.5).unchanged_s == 1.5
    frame[0, 0, 0] = 201
    assert meter.measure(frame, 3.0).unchanged_s == 0
    meter.reset()
    assert meter.measure(frame, 9.0).unchanged_s == 0
