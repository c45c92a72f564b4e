"""The video front-end: finding, cropping and standardising faces."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeemo.errors import InputError, MissingDependencyError
from edgeemo.faces.finder import FaceFinder
from edgeemo.features.face import FaceBox, FaceSpec, check_frame, crop_face, normalize_face

Frames = list[NDArray[np.uint8]]


def frames_of(path: Path) -> Frames:
    cv2 = pytest.importorskip("cv2", reason="needs OpenCV")
    capture = cv2.VideoCapture(str(path))
    frames: Frames = []
    while True:
        there, frame = capture.read()
        if not there:
            return frames
        frames.append(frame)


def beside(frame: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """A wide empty picture with `frame` at another scale in its right half."""
    import cv2

    canvas = np.full((360, 1280, 3), 90, np.uint8)
    small = cv2.resize(frame, None, fx=scale, fy=scale)
    canvas[: small.shape[0], 640 : 640 + small.shape[1]] = small
    return canvas


@pytest.fixture(scope="module")
def face_frames(shared_data: Path) -> Frames:
    return frames_of(shared_data / "media" / "single_face.mp4")


@pytest.fixture
def finder() -> FaceFinder:
    pytest.importorskip("cv2", reason="needs OpenCV")
    return FaceFinder()


def test_face_is_found_in_every_frame(face_frames: Frames, finder: FaceFinder) -> None:
    boxes = [finder.find(frame, index / 30) for index, frame in enumerate(face_frames)]
    assert len(boxes) == 72
    for box in boxes:
        # The man sits still: the whole-frame detector sees him at (196, 81), 194 pixels wide.
        assert box is not None
        assert abs(box.left - 196) < 25
        assert abs(box.top - 81) < 25
        assert abs(box.size - 194) < 40


def test_no_face_where_there_is_none(shared_data: Path, finder: FaceFinder) -> None:
    frames = frames_of(shared_data / "media" / "no_face.mp4")
    assert len(frames) == 95
    assert [finder.find(frame, index / 24) for index, frame in enumerate(frames)] == [None] * 95


def test_face_is_found_with_the_package_own_cascade(
    face_frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    monkeypatch.delattr(cv2, "data", raising=False)  # a system OpenCV has none
    assert FaceFinder().find(face_frames[0], 0.0) is not None


def test_search_runs_on_capture_time(face_frames: Frames, finder: FaceFinder) -> None:
    searches: list[float] = []
    search, now = finder._search_all, 0.0

    def counted(grey: NDArray[np.uint8], followed: FaceBox | None) -> FaceBox | None:
        searches.append(now)
        return search(grey, followed)

    finder._search_all = counted  # type: ignore[method-assign]  # counts, and does the real thing
    for now in np.arange(9) / 4:
        finder.find(face_frames[0], float(now))
    assert searches == [0.0, 1.0, 2.0]


def test_lost_face_is_never_repeated_and_comes_back(face_frames: Frames, finder: FaceFinder) -> None:
    empty = np.full_like(face_frames[0], 90)
    assert finder.find(face_frames[0], 0.0) is not None
    assert finder.find(empty, 0.25) is None
    assert finder.find(face_frames[0], 0.30) is None  # no search is due within search_s
    assert finder.find(face_frames[0], 0.75) is not None


def test_moved_face_is_found_at_once(face_frames: Frames, finder: FaceFinder) -> None:
    before = finder.find(face_frames[0], 0.0)
    after = finder.find(np.roll(face_frames[0], 200, axis=1), 0.25)
    assert before is not None
    assert after is not None
    assert abs(after.left - before.left - 200) < 20


def test_two_finders_and_a_reset_one_agree(face_frames: Frames, finder: FaceFinder) -> None:
    some = face_frames[::12]
    first = [finder.find(frame, index * 0.4) for index, frame in enumerate(some)]
    finder.reset()
    assert "no face" in repr(finder)
    again = [finder.find(frame, index * 0.4) for index, frame in enumerate(some)]
    other = FaceFinder()
    assert first == again == [other.find(frame, index * 0.4) for index, frame in enumerate(some)]


def test_much_larger_face_takes_over(face_frames: Frames, finder: FaceFinder) -> None:
    canvas = beside(face_frames[0], 0.75)
    followed = finder.find(canvas, 0.0)
    assert followed is not None
    assert followed.left > 640
    canvas[:360, :640] = face_frames[0]
    still = finder.find(canvas, 0.25)  # the whole frame is searched once a second
    assert still is not None
    assert still.left > 640
    larger = finder.find(canvas, 1.25)
    assert larger is not None
    assert larger.left < 640


def test_slightly_larger_face_does_not_take_over(face_frames: Frames, finder: FaceFinder) -> None:
    canvas = beside(face_frames[0], 0.9)
    assert finder.find(canvas, 0.0) is not None
    canvas[:360, :640] = face_frames[0]
    for time_s in (0.5, 1.5, 2.5):
        followed = finder.find(canvas, time_s)
        assert followed is not None
        assert followed.left > 640
    finder.reset()
    largest = finder.find(canvas, 0.0)
    assert largest is not None
    assert largest.left < 640


@pytest.mark.parametrize("shape", [(1, 1), (7, 900), (48, 48, 1), (30, 20, 4), (1200, 300, 3)])
def test_frames_of_any_size_are_searched(shape: tuple[int, ...], finder: FaceFinder) -> None:
    assert finder.find(np.full(shape, 128, np.uint8), 0.0) is None


def test_grey_bgra_and_sliced_frames_give_the_same_face(face_frames: Frames, finder: FaceFinder) -> None:
    import cv2

    frame = face_frames[0]
    expected = finder.find(frame, 0.0)
    assert expected is not None
    wide = np.zeros((360, 1280, 3), np.uint8)
    wide[:, ::2] = frame
    variants = [
        cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY),
        cv2.cvtColor(frame, cv2.COLOR_BGR2BGRA),
        wide[:, ::2],
    ]
    for variant in variants:
        assert FaceFinder().find(variant, 0.0) == expected
        np.testing.assert_array_equal(crop_face(variant, expected), crop_face(frame, expected))


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (np.zeros((4, 4, 3), np.float32), "dtype uint8.*float32"),
        ([[0, 1], [2, 3]], "dtype uint8.*list"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
        (np.zeros((0, 4, 3), np.uint8), r"pixels.*\(0, 4, 3\)"),
    ],
)
def test_unusable_frames_are_refused(frame: Any, words: str, finder: FaceFinder) -> None:
    with pytest.raises(InputError, match=words):
        finder.find(frame, 0.0)
    with pytest.raises(InputError, match=words):
        crop_face(frame, FaceBox(0, 0, 4))
    with pytest.raises(InputError, match=words):
        check_frame(frame)


@pytest.mark.parametrize("time_s", [0.9, float("nan"), float("inf")])
def test_bad_times_are_refused_and_nothing_is_lost(
    time_s: float, face_frames: Frames, finder: FaceFinder
) -> None:
    box = finder.find(face_frames[0], 1.0)
    with pytest.raises(InputError, match=r"cannot follow one at 1 s"):
        finder.find(face_frames[0], time_s)
    later = finder.find(face_frames[0], 1.25)
    assert box is not None
    assert later is not None
    assert abs(later.size - box.size) < 0.1 * box.size


def test_crop_shows_what_the_spec_frames() -> None:
    pytest.importorskip("cv2", reason="needs OpenCV")
    column = np.arange(200, dtype=np.uint8)
    frame = np.broadcast_to(column, (200, 200))  # level = x
    crop = crop_face(frame, FaceBox(50, 60, 96), FaceSpec(crop_scale=1.0, crop_offset=0.0))
    # Each pixel of the crop is the mean of columns 50 + 2k and 51 + 2k.
    expected = 50.5 + 2 * np.arange(48)
    assert crop.shape == (48, 48)
    assert np.abs(crop - expected).max() <= 0.5
    wider = crop_face(frame, FaceBox(50, 60, 96), FaceSpec(crop_scale=1.5, crop_offset=0.0))
    assert abs(int(wider[0, 0]) - 27) <= 1
    lower = crop_face(frame.T, FaceBox(50, 60, 96), FaceSpec(crop_scale=1.0, crop_offset=0.25))
    assert abs(int(lower[0, 0]) - 84) <= 1


def test_crop_repeats_the_edge_beyond_the_frame() -> None:
    pytest.importorskip("cv2", reason="needs OpenCV")
    frame = np.full((100, 100), 10, np.uint8)
    frame[:, -1] = 250
    crop = crop_face(frame, FaceBox(76, 0, 48), FaceSpec(crop_scale=1.0, crop_offset=0.0))
    assert (crop[:, :23] == 10).all()
    assert (crop[:, 23:] == 250).all()


@pytest.mark.parametrize("box", [FaceBox(300, 0, 50), FaceBox(0, -80, 50), FaceBox(0, 0, float("nan"))])
def test_boxes_outside_the_frame_are_refused(box: FaceBox) -> None:
    with pytest.raises(InputError, match="100x80 pixels"):
        crop_face(np.zeros((80, 100, 3), np.uint8), box)


def test_normalized_crop_does_not_depend_on_light() -> None:
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 100, (48, 48), dtype=np.uint8)
    standard = normalize_face(crop)
    assert standard.dtype == np.float32
    assert abs(float(standard.mean())) < 1e-5
    assert abs(float(standard.std()) - 1) < 1e-5
    np.testing.assert_allclose(normalize_face(2 * crop + 40), standard, atol=1e-5)
    many = normalize_face(np.stack([crop, 255 - crop]))
    np.testing.assert_allclose(many[0], standard, atol=1e-6)
    np.testing.assert_allclose(many[1], -standard, atol=1e-5)


def test_flat_crop_is_not_blown_up() -> None:
    flat = np.full((48, 48), 7, np.uint8)
    flat[0, 0] = 9
    assert float(np.abs(normalize_face(flat)).max()) <= 2 / 8


@pytest.mark.parametrize(
    "crop", [np.zeros((4, 4), np.float32), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_unusable_crops_are_refused(crop: Any) -> None:
    with pytest.raises(InputError, match="uint8 grey crops"):
        normalize_face(crop)


def test_spec_survives_json() -> None:
    spec = FaceSpec(crop_scale=1.25, refresh_s=2.0)
    plain = json.loads(json.dumps(spec.to_json()))
    assert plain["kind"] == "face_crop"
    assert FaceSpec.from_json(plain) == spec


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "log_mel"}, "kind 'face_crop', got 'log_mel'"),
        ({"zoom": 2}, r"unknown fields \['zoom'\]"),
        ({"size": 0}, "whole size of at least 1, got 0"),
        ({"size": 48.5}, "whole size"),
        ({"refresh_s": -1}, "positive refresh_s, got -1"),
        ({"crop_scale": "1"}, "positive crop_scale"),
        ({"crop_offset": 3}, "crop_offset between -1 and 1"),
    ],
)
def test_unusable_specs_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        FaceSpec.from_json(FaceSpec().to_json() | change)


def test_missing_opencv_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_cv2(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "cv2":
            raise ImportError("no cv2 here")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_cv2)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgeemo\[camera\]'"):
        FaceFinder()
    normalize_face(np.zeros((48, 48), np.uint8))  # numpy is enough for this
