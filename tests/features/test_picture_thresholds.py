"""Thresholds of pictures come out where spoiled faces begin to do harm, and nowhere where they never do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

cv2 = pytest.importorskip("cv2", reason="needs OpenCV")

from edgeemo.datasets.faces import read_ferplus  # noqa: E402 - behind the skip
from edgeemo.faces.finder import FaceFinder  # noqa: E402 - behind the skip
from edgeemo.features.face import FaceBox, FaceSpec, crop_face  # noqa: E402
from edgeemo.quality.face import face_quality  # noqa: E402
from edgeemo.session.settings import Settings, settings_from_thresholds  # noqa: E402
from edgeemo.training.augment.picture import DEFECTS, in_a_picture  # noqa: E402
from edgeemo.training.live.matched import drawn_labels  # noqa: E402
from edgeemo.training.live.picture_gates import (  # noqa: E402
    GATES,
    Trial,
    fitted_angle,
    fitted_threshold,
    found_faces,
    moved_box,
)

RNG = np.random.default_rng(5)
MEASURES = RNG.uniform(0, 1, 4000)
CLEAN = RNG.uniform(0.7, 1, 200)


def gains(harmful: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Right with the face less right without: -1, 0 or 1, more often wrong where it is harmful."""
    shares = np.where(harmful, [[0.25], [0.7], [0.05]], [[0.05], [0.65], [0.3]])
    draw = RNG.uniform(size=len(harmful))
    return np.select([draw < shares[0], draw < shares[0] + shares[1]], [-1.0, 0.0], 1.0)


def test_the_threshold_is_where_harm_begins() -> None:
    found = fitted_threshold(MEASURES, gains(MEASURES < 0.3), CLEAN, below=True)
    assert found == pytest.approx(0.28, abs=0.04)
    above = fitted_threshold(1 - MEASURES, gains(MEASURES < 0.3), 1 - CLEAN, below=False)
    assert above == pytest.approx(1 - 0.28, abs=0.04)


def test_what_never_harms_is_never_left_out() -> None:
    assert fitted_threshold(MEASURES, gains(MEASURES < 0), CLEAN, below=True) <= MEASURES.min() + 5e-4
    assert fitted_threshold(MEASURES, gains(MEASURES < 0), 1 - CLEAN, below=False) >= MEASURES.max() - 5e-4


def test_no_clean_face_is_left_out_even_where_all_do_harm() -> None:
    assert fitted_threshold(MEASURES, gains(MEASURES < 2), CLEAN, below=True) <= CLEAN.min() + 5e-4


def test_an_angle_is_left_out_where_it_adds_next_to_nothing() -> None:
    added = {15: 0.2, 30: 0.2, 45: 0.15, 60: 0.01, 75: 0.0}
    trials = [Trial("turned", angle, {}, gain) for angle, gain in added.items()]
    assert fitted_angle(trials, 0.2) == 52.5
    assert fitted_angle(trials[:3], 0.2) == 45


def test_every_threshold_is_a_setting_and_fitted_on_defects_that_exist() -> None:
    names = {gate.name for gate in GATES}
    assert settings_from_thresholds(dict.fromkeys(names, 0.125)) != Settings()
    assert names <= set(vars(Settings()))
    assert {defect for gate in GATES for defect in gate.defects} <= {defect.name for defect in DEFECTS}


def photo() -> NDArray[np.uint8]:
    rng = np.random.default_rng(2)
    coarse = cv2.resize(
        rng.uniform(40, 215, (9, 9)).astype(np.float32), (48, 48), interpolation=cv2.INTER_CUBIC
    )
    levels: NDArray[np.uint8] = np.clip(coarse + rng.normal(0, 5, (48, 48)), 0, 255).astype(np.uint8)
    return levels


@pytest.mark.parametrize(
    ("defect", "measure", "rises"),
    [
        ("blurred", "detail", False),
        ("moving", "detail", False),
        ("dark", "contrast", False),
        ("noisy", "noise", True),
        ("overexposed", "burnt", True),
        ("small", "side_px", False),
        ("cut off", "outside", True),
    ],
)
def test_a_stronger_defect_moves_its_measure_on(defect: str, measure: str, rises: bool) -> None:
    made = next(entry for entry in DEFECTS if entry.name == defect)
    box = FaceBox(80, 40, 160)
    found = []
    for strength in (made.strengths[0], made.strengths[len(made.strengths) // 2], made.strengths[-1]):
        frame, place = made.make(photo(), strength, np.random.default_rng(1))
        where = moved_box(box, place)
        crop = crop_face(frame, where)
        found.append(getattr(face_quality(crop, where, frame.shape, FaceSpec()), measure))
    assert found == sorted(found, reverse=not rises)
    assert found[0] != found[-1]


def test_a_turned_head_shows_its_middle_at_its_side() -> None:
    turned = next(entry for entry in DEFECTS if entry.name == "turned")
    stripe = np.full((48, 48), 60, np.uint8)
    stripe[:, 22:26] = 250
    frame, (left, _, scale) = turned.make(stripe, 30, np.random.default_rng(0))
    plain, (plain_left, _, _) = in_a_picture(stripe)
    middle = float(np.flatnonzero(frame[120] > 150).mean() - np.flatnonzero(plain[120] > 150).mean())
    assert abs(middle) == pytest.approx(0.55 * 160 * np.sin(np.radians(30)), abs=3)
    assert np.sign(middle) == np.sign(left - plain_left)
    assert scale == 1.0


def test_rows_are_drawn_by_the_prior_and_come_again_only_when_all_were_drawn() -> None:
    held = np.array([0, 1] * 20 + [-1] * 10)
    rows, labels = drawn_labels(held, (0.75, 0.25), 400, seed=3)
    assert (held[rows] == labels).all()
    assert np.mean(labels == 0) == pytest.approx(0.75, abs=0.06)
    counts = np.bincount(rows[labels == 0], minlength=40)[0:40:2]
    assert counts.max() - counts.min() <= 1


def test_faces_of_the_data_are_found_in_the_picture_they_are_put_into(shared_data: Path) -> None:
    every = read_ferplus(shared_data / "ferplus", "val")
    some = replace(
        every, images=every.images[:80], soft=every.soft[:80], share=every.share[:80], label=every.label[:80]
    )
    found, boxes = found_faces(some, FaceSpec(), first=0)
    others, _ = found_faces(some, FaceSpec(), first=1)
    assert len(found) == len(boxes) > 10
    image, _ = found[0]
    frame, _ = in_a_picture(image)
    assert FaceFinder().find(frame, 0.0) == boxes[0]
    assert not any((image == other).all() for image, _ in found for other, _ in others)
