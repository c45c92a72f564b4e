"""Pictures and faces that cannot be trusted are not read, and those that can are, however bad they look."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

cv2 = pytest.importorskip("cv2", reason="needs OpenCV")
pytest.importorskip("av", reason="reads the recording")

from edgeemo.bundle import Bundle  # noqa: E402 - behind the skips
from edgeemo.errors import InputError  # noqa: E402
from edgeemo.faces.finder import FaceFinder  # noqa: E402
from edgeemo.faces.source import FoundFace  # noqa: E402
from edgeemo.features.face import FaceBox  # noqa: E402
from edgeemo.runtimes import open_stem  # noqa: E402
from edgeemo.runtimes.base import Runner  # noqa: E402
from edgeemo.sensors import MediaFile  # noqa: E402
from edgeemo.session import EngineOptions, Session, Settings, State  # noqa: E402
from edgeemo.session.settings import settings_from_thresholds  # noqa: E402
from edgeemo.session.streams.video import VideoStream  # noqa: E402
from edgeemo.shipped import DEFAULT_BUNDLE, RECORDING  # noqa: E402

Frame = NDArray[np.uint8]
PERIOD_S = 0.25


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """Sixteen frames of a face, a quarter of a second apart."""
    chosen: dict[int, Frame] = {}
    for chunk in MediaFile(RECORDING):
        if chunk.modality == "video" and chunk.time_s < 4.2:
            chosen.setdefault(int(chunk.time_s / PERIOD_S), chunk.array)
    return [chosen[slot] for slot in sorted(chosen)][:16]


@pytest.fixture(scope="module")
def stem() -> Iterator[Runner]:
    with open_stem(Bundle.open(DEFAULT_BUNDLE), "video", variant="int8") as opened:
        yield opened


@pytest.fixture
def stream(stem: Runner) -> VideoStream:
    return VideoStream(Bundle.open(DEFAULT_BUNDLE).manifest.modality("video"), stem, Settings())


def shown(stream: VideoStream, frames: list[Frame], *, first: int = 0) -> tuple[State, str]:
    """The usability after the last frame."""
    at_s = 0.0
    for number, frame in enumerate(frames, first):
        at_s = number * PERIOD_S
        stream.push(frame, time_s=at_s)
    stream.advance(at_s)
    verdict = stream.usability(at_s)
    return verdict.state, verdict.why


def darkened(frame: Frame, divisor: float) -> Frame:
    noise = np.random.default_rng(int(frame.sum())).normal(0, 1, frame.shape)
    levels: Frame = np.clip(np.rint(frame / divisor + noise), 0, 255).astype(np.uint8)
    return levels


GOOD: dict[str, Callable[[Frame], Frame]] = {
    "as it is": lambda frame: frame,
    "slightly out of focus": lambda frame: cv2.GaussianBlur(frame, (0, 0), 2.0),
    "a tenth of the light": lambda frame: darkened(frame, 10),
    "noisy": lambda frame: np.clip(
        frame + np.random.default_rng(int(frame.sum())).normal(0, 15, frame.shape), 0, 255
    ).astype(np.uint8),
}


@pytest.mark.parametrize("how", GOOD)
def test_what_the_network_survives_is_read(how: str, stream: VideoStream, frames: list[Frame]) -> None:
    assert shown(stream, [GOOD[how](frame) for frame in frames[:6]]) == (State.LIVE, "")
    assert stream.fill(1.25)[0] >= 1.0


def blank(level: int) -> Callable[[Frame], Frame]:
    return lambda frame: np.full_like(frame, level)


BAD: dict[str, tuple[Callable[[Frame], Frame], State, str]] = {
    "black": (blank(0), State.POOR, "the picture is black"),
    "white": (blank(255), State.POOR, "the picture is white"),
    "grey": (blank(90), State.POOR, "the picture is blank"),
    "only noise": (
        lambda frame: np.random.default_rng(int(frame.sum())).integers(0, 256, frame.shape, dtype=np.uint8),
        State.QUIET,
        "no face",
    ),
}


@pytest.mark.parametrize("how", BAD)
def test_what_shows_nothing_is_not_read(how: str, stream: VideoStream, frames: list[Frame]) -> None:
    spoil, state, words = BAD[how]
    rng = np.random.default_rng(3)
    spoiled = [spoil(frame) for frame in frames[:6]]
    if how in ("black", "white", "grey"):  # a sensor is never quite still
        for frame in spoiled:
            frame[rng.integers(0, 200), rng.integers(0, 300)] ^= 1
    found, why = shown(stream, spoiled)
    assert found is state
    assert any(word in why for word in words.split("|")), why
    assert stream.fill(1.25)[0] == 0
    assert not stream.window(1.25)[1].any()
    assert stream.evidence_s(1.25) is None


def test_black_frames_count_at_once_and_leave_no_old_face_behind(
    stream: VideoStream, frames: list[Frame]
) -> None:
    assert shown(stream, frames[:4])[0] is State.LIVE
    assert shown(stream, [np.zeros_like(frames[0])], first=4)[0] is State.POOR


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"face_min_side_px": 300.0}, "the face is too small"),
        ({"face_min_detail": 2.0}, "the face is blurred"),
        ({"face_max_noise": 1e-4}, "the face is lost in noise"),
        ({"face_min_contrast": 120.0}, "the picture is blank"),
    ],
)
def test_each_threshold_of_the_settings_is_obeyed(
    change: dict[str, float], words: str, stem: Runner, frames: list[Frame]
) -> None:
    video = Bundle.open(DEFAULT_BUNDLE).manifest.modality("video")
    state, why = shown(VideoStream(video, stem, settings_from_thresholds(change)), frames[:6])
    assert state is State.POOR
    assert why.startswith(words)


def test_one_spoiled_frame_is_a_hole_and_the_face_stays_live(
    stream: VideoStream, frames: list[Frame]
) -> None:
    shaken = cv2.blur(frames[3], (81, 81))
    assert shown(stream, [*frames[:3], shaken])[0] is State.LIVE
    assert stream.evidence_s(0.75) == 0.5  # the age tells that the newest picture was not used
    _, mask = stream.window(0.75)
    assert mask[0, -4:].tolist() == [1, 1, 1, 0]


def test_a_face_that_blurs_for_good_is_out_when_its_last_good_picture_is_a_second_old(
    stream: VideoStream, frames: list[Frame]
) -> None:
    shown(stream, frames[:4])
    for number in range(4, 9):
        at_s = number * PERIOD_S
        stream.push(cv2.blur(frames[number], (81, 81)), time_s=at_s)
        stream.advance(at_s)
        live = stream.usability(at_s).state is State.LIVE
        assert live == (at_s - 0.75 < Settings().quiet_after_s)
        assert stream.evidence_s(at_s) == 0.75


def test_frozen_frames_fill_no_window(stream: VideoStream, frames: list[Frame]) -> None:
    state, why = shown(stream, [frames[0]] * 12)
    assert state is State.POOR
    assert "the camera hangs" in why
    stream.forget()
    assert shown(stream, [frames[0]] * 4, first=12)[0] is State.POOR
    assert stream.fill(3.75)[0] == 0


def test_faces_are_searched_for_only_when_needed(stream: VideoStream, frames: list[Frame]) -> None:
    shown(stream, frames)
    assert stream.searches <= 5  # four seconds with a face: about one search a second, not sixteen
    before = stream.searches
    shown(stream, [np.zeros_like(frames[0])] * 4, first=16)
    assert stream.searches == before  # nobody is looked for in the dark


class Placed:
    """A source of faces that are always in the same places."""

    detector = "placed"
    many = True
    searches = 0

    def __init__(self, *boxes: FaceBox) -> None:
        self._found = [FoundFace(track, box) for track, box in enumerate(boxes, 1)]

    def find(self, frame: Frame, time_s: float) -> list[FoundFace]:
        return self._found

    def forget(self) -> None: ...

    def reset(self) -> None: ...


def test_of_many_faces_no_more_go_through_the_stem_than_the_settings_say(
    stem: Runner, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = 0
    run = stem.run

    def counted(feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        nonlocal runs
        runs += 1
        return run(feed)

    monkeypatch.setattr(stem, "run", counted)  # counts, and does the real thing
    video = Bundle.open(DEFAULT_BUNDLE).manifest.modality("video")
    places = [FaceBox(60.0 + 20 * number, 40, 90) for number in range(6)]
    stream = VideoStream(video, stem, Settings(max_faces=3), source=Placed(*places))
    shown(stream, frames[:4])
    assert runs == 4 * 3
    assert [face.track for face in stream.faces(0.75)] == [1, 2, 3]


def test_a_face_beyond_the_edge_is_not_read(stem: Runner, frames: list[Frame]) -> None:
    video = Bundle.open(DEFAULT_BUNDLE).manifest.modality("video")
    stream = VideoStream(video, stem, Settings(), source=Placed(FaceBox(900, 40, 90)))
    assert shown(stream, frames[:4]) == (State.POOR, "the face lies beyond the edge of the picture")


def test_the_live_detector_finds_faces_in_the_dark(frames: list[Frame]) -> None:
    finder = FaceFinder()
    in_light = finder.find(frames[0], 0.0)
    finder.reset()
    in_the_dark = finder.find(darkened(frames[0], 12), 0.0)
    assert in_light is not None
    assert in_the_dark is not None
    assert abs(in_the_dark.left - in_light.left) < 0.1 * in_light.size


def test_the_nearest_to_the_middle_is_followed_where_that_is_wanted(frames: list[Frame]) -> None:
    box = FaceFinder().find(frames[0], 0.0)
    assert box is not None
    left, top, size = round(box.left), max(0, round(box.top)), round(box.size)
    face = frames[0][top : top + size, left : left + size]
    canvas = cv2.GaussianBlur(np.full((240, 320, 3), 90, np.uint8), (0, 0), 1.0)
    canvas[20:120, 10:110] = cv2.resize(face, (100, 100))
    canvas[90:160, 140:210] = cv2.resize(face, (70, 70))
    largest = FaceFinder().find(canvas, 0.0)
    nearest = FaceFinder(policy="nearest_to_centre").find(canvas, 0.0)
    assert largest is not None
    assert nearest is not None
    assert largest.left < 60
    assert nearest.left > 120


def test_a_session_says_why_a_face_is_not_read(frames: list[Frame]) -> None:
    only = EngineOptions(subsets=("video",), variant="int8")
    with Session(engines=only, settings=Settings(face_min_side_px=300)) as session:
        for number, frame in enumerate(frames[:6]):
            session.push_frame(frame, time_s=number * PERIOD_S)
        reading = session.read(at_s=1.25)
    assert reading.subset is None
    assert reading.states["video"].state is State.POOR
    assert reading.states["video"].why.startswith("the face is too small")
    assert reading.faces == ()


def test_policies_and_models_are_the_applications_own() -> None:
    with pytest.raises(InputError, match="choose one of: largest, nearest_to_centre"):
        Settings(face_policy="oldest")
    with pytest.raises(InputError, match="max_faces must be above 0"):
        Settings(max_faces=0)
    taken = settings_from_thresholds({"max_faces": 9, "face_model": 1.0, "face_min_detail": 0.5})
    assert (taken.max_faces, taken.face_model, taken.face_min_detail) == (4, None, 0.5)


@pytest.mark.parametrize(("clip", "face"), [("single_face.mp4", True), ("no_face.mp4", False)])
def test_real_clips_are_live_where_there_is_a_face(clip: str, face: bool, shared_data: Path) -> None:
    only = EngineOptions(subsets=("video",), variant="int8")
    with Session(media=shared_data / "media" / clip, engines=only) as session:
        states = [reading.states["video"].state for reading in session if reading.time_s >= 1.0]
    assert len(states) >= 2
    assert set(states) == ({State.LIVE} if face else {State.QUIET})
