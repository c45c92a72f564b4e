"""Where a YuNet model is given: one reading for each face, and turned faces are not read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

cv2 = pytest.importorskip("cv2", reason="needs OpenCV")
pytest.importorskip("onnx", reason="writes a network")
pytest.importorskip("av", reason="reads the recording")

from yunet_like import put_face, write_yunet  # noqa: E402 - behind the skips

from edgeemo.errors import InputError  # noqa: E402
from edgeemo.sensors import MediaFile  # noqa: E402
from edgeemo.session import EngineOptions, Reading, Session, Settings, State  # noqa: E402
from edgeemo.session.faces import FaceReading, face_from_json  # noqa: E402
from edgeemo.shipped import RECORDING  # noqa: E402

Frame = NDArray[np.uint8]
Face = tuple[int, int, int, float]  # column and row of its middle in blocks of 8, size, yaw
ONLY = EngineOptions(subsets=("video",), variant="int8")
HOP_S = 0.25


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_yunet(tmp_path_factory.mktemp("yunet") / "marks.onnx"))


@pytest.fixture(scope="module")
def portrait() -> Frame:
    from edgeemo.faces.finder import FaceFinder

    frame = next(chunk.array for chunk in MediaFile(RECORDING) if chunk.modality == "video")
    box = FaceFinder().find(frame, 0.0)
    assert box is not None
    top, left, size = max(0, round(box.top)), max(0, round(box.left)), round(box.size)
    cut: Frame = frame[top : top + size, left : left + size]
    return cut


def watch(
    model: str,
    portrait: Frame,
    scene: Callable[[int], Sequence[Face]],
    *,
    hops: int = 8,
    settings: Settings | None = None,
) -> list[Reading]:
    """A reading for each quarter of a second of a scene: hop -> faces."""
    rng = np.random.default_rng(1)
    readings = []
    with Session(engines=ONLY, settings=settings or Settings(face_model=model)) as session:
        for hop in range(hops):
            frame = rng.integers(80, 100, (192, 240, 3), dtype=np.uint8)
            for column, row, size, yaw in scene(hop):
                put_face(frame, cv2.resize(portrait, (size, size)), column, row, yaw=yaw)
            session.push_frame(frame, time_s=hop * HOP_S)
            readings.append(session.read(at_s=hop * HOP_S))
    return readings


def by_track(reading: Reading) -> dict[int, FaceReading]:
    return {face.track_id: face for face in reading.faces}


def test_every_face_has_a_reading_of_its_own_and_the_largest_is_the_sessions(
    model: str, portrait: Frame
) -> None:
    reading = watch(model, portrait, lambda hop: [(6, 9, 64, 0), (20, 12, 96, 0)])[-1]
    assert [(face.track_id, face.main) for face in reading.faces] == [(1, True), (2, False)]
    large, small = reading.faces
    np.testing.assert_allclose(large.box, (116 / 240, 52 / 192, 0.4, 0.5), atol=0.01)
    assert small.box[0] == pytest.approx(20 / 240, abs=0.01)
    for face in reading.faces:
        assert sum(face.probabilities.values()) == pytest.approx(1.0)
        assert face.label is not None
        assert face.confidence == face.probabilities[face.label]
        assert face.age_s == 0.0
        assert face.why == ""
    assert reading.states["video"].state is State.LIVE
    # Both went through the same engine with the same window.
    assert dict(large.probabilities) == pytest.approx(dict(reading.probabilities))


def test_the_policy_says_whose_face_the_reading_is_of(model: str, portrait: Frame) -> None:
    settings = Settings(face_model=model, face_policy="nearest_to_centre")
    reading = watch(model, portrait, lambda hop: [(15, 12, 56, 0), (24, 12, 96, 0)], settings=settings)[-1]
    main = next(face for face in reading.faces if face.main)
    assert main.box[2] == pytest.approx(56 / 240, abs=0.01)


def test_a_turned_face_is_shown_and_not_read(model: str, portrait: Frame) -> None:
    settings = Settings(face_model=model, face_max_yaw_deg=40)
    readings = watch(model, portrait, lambda hop: [(8, 10, 64, 55), (20, 10, 56, 0)], settings=settings)
    turned, front = (by_track(readings[-1])[track] for track in (1, 2))
    assert turned.turned_away
    assert turned.label is None
    assert turned.probabilities == {}
    assert turned.age_s is None
    assert turned.why.startswith("the face is turned away")
    assert front.label is not None
    assert front.main  # the larger face cannot be read
    assert readings[-1].states["video"].state is State.LIVE


def test_where_everybody_looks_away_the_video_is_poor(model: str, portrait: Frame) -> None:
    settings = Settings(face_model=model, face_max_yaw_deg=40)
    reading = watch(
        model, portrait, lambda hop: [(15, 12, 64, 0 if hop < 6 else 60)], hops=12, settings=settings
    )
    assert reading[5].states["video"].state is State.LIVE
    assert reading[7].states["video"].state is State.LIVE  # a glance aside
    assert reading[7].age_s == pytest.approx(2 * HOP_S)
    assert reading[-1].states["video"].state is State.POOR
    assert "turned away" in reading[-1].states["video"].why
    assert reading[-1].subset is None


def test_numbers_stay_over_movement_and_gaps_and_are_never_used_again(model: str, portrait: Frame) -> None:
    def scene(hop: int) -> list[Face]:
        if hop in (4, 5):
            return [(6 + hop, 10, 64, 0)]  # the other one is away for half a second
        if hop >= 18:
            return [(24, 12, 64, 0)]  # somebody comes long after both have gone
        return [(6 + hop, 10, 64, 0), (24, 16, 56, 0)] if hop < 9 else []

    readings = watch(model, portrait, scene, hops=22)
    assert set(by_track(readings[3])) == set(by_track(readings[8])) == {1, 2}
    assert by_track(readings[8])[1].box[0] > by_track(readings[0])[1].box[0] + 0.2
    assert by_track(readings[5])[2].age_s == pytest.approx(2 * HOP_S)
    assert readings[17].faces == ()
    assert set(by_track(readings[-1])) == {3}


def test_a_face_that_left_is_gone_within_a_second_and_its_label_with_it(model: str, portrait: Frame) -> None:
    readings = watch(
        model, portrait, lambda hop: [(8, 10, 64, 0)] + ([(22, 10, 56, 0)] if hop < 4 else []), hops=9
    )
    ages = [by_track(reading)[2].age_s if 2 in by_track(reading) else None for reading in readings]
    assert ages == [
        pytest.approx(age) if age is not None else None for age in [0, 0, 0, 0, 0.25, 0.5, 0.75, None, None]
    ]


def test_no_more_faces_are_read_than_the_settings_say(model: str, portrait: Frame) -> None:
    places: list[Face] = [(4, 4, 40, 0), (12, 4, 48, 0), (20, 4, 56, 0), (5, 17, 56, 0), (20, 17, 64, 0)]
    reading = watch(model, portrait, lambda hop: places, settings=Settings(face_model=model, max_faces=3))[-1]
    assert [round(face.box[2] * 240) for face in reading.faces] == [64, 56, 56]


def test_a_face_cut_off_by_the_edge_is_shown_and_not_read(model: str, portrait: Frame) -> None:
    settings = Settings(face_model=model, face_max_outside=0.3)
    reading = watch(model, portrait, lambda hop: [(0, 12, 96, 0), (20, 12, 56, 0)], settings=settings)[-1]
    cut = next(face for face in reading.faces if not face.main)
    assert cut.label is None
    assert not cut.turned_away
    assert "cut off by the edge" in cut.why
    assert cut.box[0] < 0


def test_without_an_engine_for_the_video_alone_faces_have_no_label(model: str, portrait: Frame) -> None:
    frame = np.full((192, 240, 3), 90, np.uint8)
    put_face(frame, cv2.resize(portrait, (64, 64)), 10, 10)
    other = EngineOptions(subsets=("audio+video",), variant="int8")
    with Session(engines=other, settings=Settings(face_model=model)) as session:
        session.push_frame(frame, time_s=0.0)
        (face,) = session.read(at_s=0.0).faces
    assert face.label is None
    assert face.age_s == 0.0
    assert face.why == "no engine for the video alone is open"


def test_a_lost_camera_has_no_faces(model: str, portrait: Frame) -> None:
    frame = np.full((192, 240, 3), 90, np.uint8)
    put_face(frame, cv2.resize(portrait, (64, 64)), 10, 10)
    with Session(engines=ONLY, settings=Settings(face_model=model)) as session:
        for hop in range(4):
            frame[0, 0] = hop
            session.push_frame(frame, time_s=hop * HOP_S)
        assert len(session.read(at_s=0.75).faces) == 1
        assert session.read(at_s=1.5).faces == ()
        session.mute("video")
        assert session.read(at_s=1.75).faces == ()


def test_readings_of_faces_survive_json(model: str, portrait: Frame) -> None:
    settings = Settings(face_model=model, face_max_yaw_deg=40)
    reading = watch(model, portrait, lambda hop: [(8, 10, 64, 0), (20, 10, 56, 60)], settings=settings)[-1]
    plain = json.loads(json.dumps(reading.to_json()))
    assert [face["track_id"] for face in plain["faces"]] == [face.track_id for face in reading.faces]
    for face in reading.faces:
        assert face_from_json(face.to_json()).to_json() == face.to_json()


def test_a_session_refuses_a_face_model_that_it_cannot_use(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Session(engines=ONLY, settings=Settings(face_model=str(tmp_path / "none.onnx")))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x00" * 64)
    with pytest.raises(InputError, match="must be a YuNet model"):
        Session(engines=ONLY, settings=Settings(face_model=str(broken)))
