"""Faces keep their numbers over movement and short gaps, and no number is given twice."""

from __future__ import annotations

import numpy as np
import pytest

from edgeemo.errors import InputError
from edgeemo.faces.policy import preferred_face, takes_over
from edgeemo.faces.tracks import FaceTracker
from edgeemo.features.face import FaceBox
from edgeemo.session.streams.main_face import Candidate, MainFace

FRAME = (240, 320)


def test_two_faces_keep_their_numbers_in_whatever_order_they_come() -> None:
    tracker = FaceTracker()
    left, right = FaceBox(20, 50, 60), FaceBox(200, 60, 50)
    assert tracker.update([left, right], 0.0) == [1, 2]
    assert tracker.update([right, left], 0.25) == [2, 1]


def test_a_walking_face_is_followed_by_its_movement() -> None:
    tracker = FaceTracker()
    # Half a side each quarter of a second: without the movement the boxes overlap too little after a gap.
    assert {tracker.update([FaceBox(10 + 20 * step, 50, 40)], step * 0.25)[0] for step in range(5)} == {1}
    assert tracker.update([FaceBox(10 + 20 * 6, 50, 40)], 1.5) == [1]


def test_a_short_gap_keeps_the_number_and_a_long_one_does_not() -> None:
    tracker = FaceTracker(gap_s=1.0)
    box = FaceBox(100, 50, 60)
    assert tracker.update([box], 0.0) == [1]
    assert tracker.update([], 0.5) == []
    assert tracker.update([box], 1.0) == [1]
    assert tracker.update([box], 2.5) == [2]


def test_a_face_elsewhere_is_another_face() -> None:
    tracker = FaceTracker()
    tracker.update([FaceBox(10, 10, 50)], 0.0)
    assert tracker.update([FaceBox(200, 150, 50)], 0.25) == [2]
    assert tracker.update([FaceBox(200, 150, 150)], 0.5) == [3]  # three times as large at once


def test_faces_that_pass_each_other_do_not_swap() -> None:
    tracker = FaceTracker()
    for step in range(9):
        time_s = step * 0.1
        going, coming = FaceBox(20 + 25 * step, 60, 50), FaceBox(220 - 25 * step, 90, 50)
        assert tracker.update([going, coming], time_s) == [1, 2]


def test_numbers_are_never_used_again_not_even_after_a_reset() -> None:
    tracker = FaceTracker()
    rng = np.random.default_rng(4)
    seen: set[int] = set()
    for step in range(60):
        boxes = [FaceBox(float(x), float(y), 40) for x, y in rng.uniform(0, 900, (3, 2))]
        numbers = tracker.update(boxes, step * 3.0)  # everybody has gone in between
        assert len(set(numbers)) == 3
        assert not seen & set(numbers)
        seen |= set(numbers)
        if step == 30:
            tracker.reset()


def test_policies_want_the_largest_or_the_one_in_the_middle() -> None:
    faces = [FaceBox(0, 0, 80), FaceBox(130, 90, 60), FaceBox(240, 160, 80)]
    assert preferred_face(faces, "largest", FRAME) == 0  # the leftmost of two
    assert preferred_face(faces, "nearest_to_centre", FRAME) == 1
    with pytest.raises(InputError, match="choose one of: largest, nearest_to_centre"):
        preferred_face(faces, "youngest", FRAME)


def test_about_equal_faces_do_not_take_turns() -> None:
    assert not takes_over(FaceBox(0, 0, 70), FaceBox(200, 0, 60), "largest", FRAME)
    assert takes_over(FaceBox(0, 0, 80), FaceBox(200, 0, 60), "largest", FRAME)
    beside, further = FaceBox(110, 90, 60), FaceBox(165, 90, 60)
    assert not takes_over(beside, further, "nearest_to_centre", FRAME)
    assert takes_over(FaceBox(130, 90, 60), FaceBox(230, 90, 60), "nearest_to_centre", FRAME)


def chosen(main: MainFace, time_s: float, *faces: tuple[int, float, bool]) -> int | None:
    """The main face among faces of (track, size, usable)."""
    return main.choose(
        [Candidate(track, FaceBox(track * 60, 50, size), usable) for track, size, usable in faces],
        FRAME,
        time_s,
    )


def test_the_main_face_stays_until_another_is_clearly_larger() -> None:
    main = MainFace("largest", patience_s=1.0)
    assert chosen(main, 0.0, (1, 60, True), (2, 50, True)) == 1
    assert chosen(main, 0.25, (1, 60, True), (2, 66, True)) == 1
    assert chosen(main, 0.5, (1, 60, True), (2, 90, True)) == 2


def test_a_main_face_that_turns_away_is_waited_for_and_then_left() -> None:
    main = MainFace("largest", patience_s=1.0)
    chosen(main, 0.0, (1, 60, True), (2, 50, True))
    assert chosen(main, 0.5, (1, 60, False), (2, 50, True)) == 1
    assert chosen(main, 0.75, (1, 60, True), (2, 50, True)) == 1
    assert chosen(main, 1.5, (1, 60, False), (2, 50, True)) == 1
    assert chosen(main, 1.75, (1, 60, False), (2, 50, True)) == 2


def test_a_main_face_that_left_is_waited_for_and_then_left() -> None:
    main = MainFace("largest", patience_s=1.0)
    chosen(main, 0.0, (1, 60, True))
    assert chosen(main, 0.5, (2, 60, True)) == 1
    assert chosen(main, 0.75) == 1
    assert chosen(main, 1.25, (2, 60, True)) == 2


def test_of_faces_that_cannot_be_read_one_is_still_the_main_one() -> None:
    main = MainFace("largest", patience_s=1.0)
    assert chosen(main, 0.0, (1, 40, False), (2, 60, False)) == 2
    assert chosen(main, 2.0, (1, 40, True), (2, 60, False)) == 1
