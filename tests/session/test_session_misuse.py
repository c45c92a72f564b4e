"""What applications really do to a session: odd clocks, odd orders, missing libraries, early ends."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from made_voice import made_voice

from edgeemo.errors import (
    InputError,
    MissingDependencyError,
    SensorError,
    SessionClosedError,
    SubsetError,
)
from edgeemo.sensors import MediaFile, TextQueue
from edgeemo.sensors.drop import Drop
from edgeemo.session import EngineOptions, Session, State
from edgeemo.shipped import RECORDING

INT8 = EngineOptions(variant="int8")
VOICE = made_voice(6.0)
SPEECH = VOICE[:16000]


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def session(clock: Clock) -> Iterator[Session]:
    with Session(engines=INT8, clock=clock) as opened:
        yield opened


def test_without_opencv_everything_but_video_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with Session(engines=INT8) as session:
        session.push_text("so happy", time_s=0.0)
        with pytest.raises(MissingDependencyError, match=r"edgeemo\[camera\]"):
            session.push_frame(np.zeros((10, 10, 3), np.uint8), time_s=0.1)
        reading = session.read(at_s=0.5)
        assert reading.subset == "text"
        assert reading.states["video"].state is State.ABSENT
        assert "edgeemo[camera]" in reading.states["video"].why
    with Session(media=RECORDING, engines=INT8) as session:
        assert [reading.subset for reading in session][5] == "audio+text"


def test_time_goes_on_from_stamps_of_another_clock(session: Session, clock: Clock) -> None:
    epoch_s = 1.8e9
    for second in range(3):
        spoken = VOICE[second * 16000 :][:16000]
        session.push_audio(spoken, rate_hz=16000, time_s=epoch_s + second)
        clock.now_s += 1.0
    assert session.read().subset == "audio"
    clock.now_s += 2.0
    reading = session.read()
    assert reading.time_s == pytest.approx(epoch_s + 6.0, abs=0.1)
    assert reading.states["audio"].state is State.LOST
    session.push_text("so happy")
    clock.now_s += 0.5
    assert session.read().subset == "text"


def test_a_reset_of_live_sensors_goes_on_at_the_next_hop() -> None:
    words = TextQueue()
    with Session(sensors=[words], engines=INT8) as session:
        readings = iter(session)
        first = [next(readings).time_s for _ in range(2)]
        session.reset()
        words.push("so happy")
        following = next(readings)
        assert following.time_s == first[-1] + 0.5
        assert next(readings).subset == "text"


def test_a_refused_rate_leaves_the_stream_alone(session: Session) -> None:
    session.push_audio(SPEECH, rate_hz=16000, time_s=0.0)
    for rate in (100, 100, 0, -1, None, "x", 44100.5, True):
        with pytest.raises(InputError, match="Hz"):
            session.push_audio(SPEECH, rate_hz=rate, time_s=1.0)  # type: ignore[arg-type]  # on purpose
    session.push_audio(VOICE[16000:32000], rate_hz=16000, time_s=1.0)
    assert session.read(at_s=2.0).subset == "audio"


def test_pushes_beside_sensors_count() -> None:
    with Session(sensors=[TextQueue()], engines=INT8) as session:
        for number, reading in enumerate(session):
            session.push_audio(VOICE[number * 8000 :][:8000], rate_hz=16000)
            if reading.time_s >= 2.0:
                break
    assert reading.states["audio"].state is State.LIVE
    assert reading.states["video"].why == "no sensor was given for it"


def test_closing_ends_an_iteration() -> None:
    session = Session(media=RECORDING, engines=INT8)
    readings = iter(session)
    next(readings)
    session.close()
    assert list(readings) == []
    assert list(session) == []


def test_a_closed_session_says_so(session: Session) -> None:
    session.close()
    calls: list[Callable[[], object]] = [
        lambda: session.push_text("hello"),
        lambda: session.push_audio(SPEECH, rate_hz=16000),
        session.read,
        session.reset,
        lambda: session.unmute("audio"),
    ]
    for call in calls:
        with pytest.raises(SessionClosedError, match="open a new one"):
            call()


class Fragile(TextQueue):
    """A sensor whose device has gone when it is opened again."""

    starts = 0

    def start(self, clock: Callable[[], float]) -> None:
        self.starts += 1
        if self.starts == 2:
            raise SensorError("it was unplugged")
        super().start(clock)


def test_a_device_that_cannot_be_opened_again_stays_muted_until_it_can() -> None:
    sensor = Fragile()
    with Session(sensors=[sensor], engines=INT8) as session:
        next(iter(session))
        session.mute("text")
        with pytest.raises(SensorError, match="unplugged"):
            session.unmute("text")
        assert next(iter(session)).states["text"].state is State.MUTED
        session.unmute("text")
        sensor.push("so happy")
        assert next(iter(session)).subset == "text"


def test_sound_pushed_in_long_pieces_does_not_flap(session: Session, clock: Clock) -> None:
    states = []
    for half in range(1, 21):
        clock.now_s += 0.5
        if half % 2 == 0:
            session.push_audio(SPEECH, rate_hz=16000)
        states.append(session.read().states["audio"].state)
    assert State.LOST not in states
    assert set(states[6:]) == {State.LIVE}
    clock.now_s += 2.0
    assert session.read().states["audio"].state is State.LOST


@pytest.mark.parametrize("at_s", [float("inf"), float("nan"), 1e12, -1.0])
def test_a_time_that_is_none_is_refused_and_forgotten(session: Session, at_s: float) -> None:
    with pytest.raises(InputError, match="readings go forward"):
        session.read(at_s=at_s)
    with pytest.raises(InputError, match="capture time"):
        session.push_text("hello", time_s=at_s)
    assert session.read(at_s=1.0).time_s == 1.0


def test_starting_an_iteration_ends_the_one_before() -> None:
    with Session(media=MediaFile(RECORDING), engines=INT8) as session:
        expected = [reading.to_json() for reading in session]
        first = iter(session)
        next(first)
        assert [reading.to_json() for reading in session] == expected
        assert list(first) == []


@pytest.mark.parametrize("frame", ["abc", None, np.zeros((4, 4)), np.zeros((0, 4, 3), np.uint8)])
def test_a_bad_frame_is_refused_even_where_it_would_be_skipped(session: Session, frame: object) -> None:
    session.push_frame(np.zeros((60, 80, 3), np.uint8), time_s=0.0)
    with pytest.raises(InputError):
        session.push_frame(frame, time_s=0.001)  # type: ignore[arg-type]  # on purpose


def test_options_that_mean_nothing_are_refused() -> None:
    with pytest.raises(SubsetError, match="no subset to serve"):
        Session(engines=EngineOptions(subsets=()))
    with pytest.raises(InputError, match="drops rehearse"):
        Session(drops=[Drop("audio", 0.0, 1.0)])


def test_a_live_modality_that_no_engine_takes_says_so(session: Session) -> None:
    options = EngineOptions(subsets=("audio+text",), variant="int8")
    with Session(engines=options) as partial:
        partial.push_text("so happy", time_s=0.0)
        reading = partial.read(at_s=0.5)
    assert not reading.has_signal
    assert reading.states["text"].state is State.LIVE
    assert "no engine here takes it" in reading.states["text"].why


def test_many_pushes_between_readings_keep_little(session: Session) -> None:
    for number in range(2000):
        session.push_text("a word or two", time_s=number / 1000)
    assert session.read(at_s=2.0).subset == "text"
    assert len(session._core.stream("text")._words) <= 8 * 32


class Unused(TextQueue):
    """A sensor of a modality that nobody asked for."""

    def __init__(self, modality: str) -> None:
        super().__init__(f"unused {modality}")
        self.modality = modality


def test_a_device_that_no_engine_looks_at_stays_closed() -> None:
    camera, words = Unused("video"), TextQueue()
    with Session(
        sensors=[camera, words], engines=EngineOptions(subsets=("text",), variant="int8")
    ) as session:
        session.start()
        assert words.status.state == "running"
        assert camera.status.state == "absent"


def test_a_sensor_of_a_modality_that_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(InputError, match="a sensor gives 'smell'; this model takes: audio, video, text"):
        Session(sensors=[Unused("smell")], engines=INT8)
    with pytest.raises(InputError, match="sensors is a list"):
        Session(sensors="mic", engines=INT8)
    with pytest.raises(InputError, match="threads must be a whole number from 1 to 256"):
        EngineOptions(threads=100_000)


def test_a_session_that_is_forgotten_lets_its_files_go() -> None:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("counts open files where the system lists them; needs /proc")
    Session(engines=INT8).close()
    gc.collect()
    before = len(list(folder.iterdir()))
    for _ in range(3):
        Session(engines=EngineOptions(variant="int8", backend="cpu"))
    gc.collect()
    assert len(list(folder.iterdir())) <= before + 2
