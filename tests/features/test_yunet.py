"""YuNet through the real cv2.FaceDetectorYN: where faces are, how they are turned, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

cv2 = pytest.importorskip("cv2", reason="needs OpenCV")
pytest.importorskip("onnx", reason="writes a network")

from yunet_like import put_face, write_yunet  # noqa: E402 - behind the skips

from edgeemo.errors import InputError, MissingDependencyError  # noqa: E402
from edgeemo.faces.source import YunetFaces, open_face_source  # noqa: E402
from edgeemo.faces.yunet import Yunet, box_from_landmarks  # noqa: E402
from edgeemo.features.face import FaceSpec  # noqa: E402
from edgeemo.quality.face import turn_from_landmarks  # noqa: E402

SPEC = FaceSpec()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_yunet(tmp_path_factory.mktemp("yunet") / "gesicht ä.onnx"))


def patch(size: int) -> NDArray[np.uint8]:
    return np.random.default_rng(size).integers(0, 200, (size, size, 3), dtype=np.uint8)


def scene() -> NDArray[np.uint8]:
    frame = np.full((192, 240, 3), 90, np.uint8)
    put_face(frame, patch(64), 6, 8)
    put_face(frame, patch(64), 20, 10, yaw=50)
    put_face(frame, patch(40), 24, 18)
    return frame


def test_every_face_is_found_where_it_is_the_largest_first(model: str) -> None:
    found = Yunet(model, SPEC).detect(scene())
    places = [(box.left + box.size / 2, box.top + box.size / 2, box.size) for box, _ in found]
    np.testing.assert_allclose(places, [(52, 68, 64), (164, 84, 64), (196, 148, 40)], atol=1.0)
    yaws = [turn_from_landmarks(landmarks).yaw for _, landmarks in found]
    np.testing.assert_allclose(yaws, [0, 50, 0], atol=2.0)


def test_large_frames_are_searched_small_and_answered_in_their_own_pixels(model: str) -> None:
    large = cv2.resize(scene(), None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
    found = Yunet(model, SPEC).detect(large)
    assert [round(box.size / 4) for box, _ in found] == [64, 64, 40]
    assert abs(found[0][0].left - 4 * 20) < 4


def test_bgra_frames_do_as_well_and_grey_ones_are_searched(model: str) -> None:
    yunet = Yunet(model, SPEC)
    bgra = np.dstack([scene(), np.full((192, 240), 255, np.uint8)])
    assert [box for box, _ in yunet.detect(bgra)] == [box for box, _ in yunet.detect(scene())]
    assert yunet.detect(np.full((192, 240), 90, np.uint8)) == []  # this network wants red marks
    assert yunet.searches == 3


def test_faces_keep_their_numbers_from_frame_to_frame(model: str) -> None:
    faces = YunetFaces(SPEC, model=model)
    first = {face.track: face.box.left for face in faces.find(scene(), 0.0)}
    moved = np.roll(scene(), 8, axis=1)
    second = {face.track: face.box.left for face in faces.find(moved, 0.25)}
    assert len(first) == 3
    assert {track: round(left - first[track]) for track, left in second.items()} == dict.fromkeys(first, 8)


def test_a_turned_or_nodding_face_keeps_its_size() -> None:
    front = np.array([[80, 90], [120, 90], [100, 110], [85, 133], [115, 133]], np.float32)
    box = box_from_landmarks(front)
    assert box is not None
    turned, nodding = front.copy(), front.copy()
    turned[:, 0] = 100 + (turned[:, 0] - 100) * 0.5
    nodding[3:, 1] -= 15
    for landmarks in (turned, nodding):
        other = box_from_landmarks(landmarks)
        assert other is not None
        assert abs(other.size - box.size) < 0.05 * box.size
    assert box_from_landmarks(np.zeros((5, 2), np.float32)) is None


def test_a_missing_or_useless_model_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.onnx does not exist; give the path of a YuNet model"):
        open_face_source(SPEC, policy="largest", model=str(tmp_path / "nowhere.onnx"))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    with pytest.raises(InputError, match=r"must be a YuNet model that cv2\.FaceDetectorYN reads"):
        Yunet(str(broken), SPEC)
    bundle = Path(__file__).parents[2] / "edgeemo" / "assets" / "live" / "graphs"
    another = next(bundle.glob("stem.video.fp16.*.onnx"))
    with pytest.raises(InputError, match="must be a YuNet model"):
        Yunet(str(another), SPEC)


def test_an_opencv_without_it_is_named(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "FaceDetectorYN")
    with pytest.raises(MissingDependencyError, match="has no FaceDetectorYN"):
        Yunet(model, SPEC)
