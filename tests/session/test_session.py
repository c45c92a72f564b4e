"""A session over the bundle that ships: follows its sensors, refuses bad input, never repeats itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_voice import made_voice

import edgeemo
from edgeemo.errors import InputError, SubsetError
from edgeemo.sensors import MediaFile
from edgeemo.sensors.base import Chunk, Sensor, SensorStatus
from edgeemo.sensors.drop import parse_drop
from edgeemo.session import NO_SIGNAL, EngineOptions, Reading, Session, Settings, State
from edgeemo.session.engines import preload
from edgeemo.shipped import RECORDING

INT8 = EngineOptions(variant="int8")


@pytest.fixture(scope="module")
def chunks() -> list[Chunk]:
    return list(MediaFile(RECORDING))


@pytest.fixture
def session() -> Iterator[Session]:
    with Session(engines=INT8) as opened:
        yield opened


def readings(*drops: str, chunk_s: float | None = None, engines: EngineOptions = INT8) -> list[Reading]:
    media = MediaFile(RECORDING, chunk_s=chunk_s)
    with Session(media=media, drops=[parse_drop(text) for text in drops], engines=engines) as session:
        return list(session)


def test_a_recording_is_followed_from_engine_to_engine() -> None:
    result = readings("video@2-4", "audio@9-11")
    subsets = {reading.time_s: reading.subset for reading in result}
    assert subsets[2.0] == "audio+video+text"
    assert subsets[3.0] == "audio+text"
    assert subsets[5.0] == "audio+video+text"
    assert subsets[10.0] == "video+text"
    assert all(reading.time_s == number * 0.5 for number, reading in enumerate(result, 1))


def test_a_lost_camera_is_out_within_one_hop_of_its_deadline_and_nothing_of_it_remains() -> None:
    settings = Settings()
    for reading in readings("video@2-4"):
        gone_s = reading.time_s - 2.0
        if settings.video_deadline_s + 0.1 < gone_s < 2.0:
            assert reading.states["video"].state is State.LOST
            assert "video" not in reading.evidence
            assert "video" not in (reading.subset or "")


def test_what_the_camera_saw_before_the_loss_does_not_count_after_it(chunks: list[Chunk]) -> None:
    def probabilities(before: Callable[[Chunk], Chunk]) -> dict[str, float]:
        with Session(engines=EngineOptions(subsets=("video",), variant="int8")) as session:
            for chunk in chunks:
                if chunk.modality == "video" and chunk.time_s < 4.5:
                    if chunk.time_s < 2:
                        session.push_frame(before(chunk).array, time_s=chunk.time_s)
                    elif chunk.time_s >= 3:
                        session.push_frame(chunk.array, time_s=chunk.time_s)
                if chunk.time_s >= 2 and chunk.time_s < 3 and chunk.modality == "video":
                    session.read(at_s=chunk.time_s)
            return dict(session.read(at_s=4.5).probabilities)

    def mirrored(chunk: Chunk) -> Chunk:
        return replace(chunk, data=np.ascontiguousarray(chunk.array[:, ::-1]))

    assert probabilities(lambda chunk: chunk) == probabilities(mirrored)


@pytest.mark.parametrize("chunk_s", [0.01, 0.37, 1.7, 5.0])
def test_readings_do_not_depend_on_the_chunks(chunk_s: float) -> None:
    drops = ("audio@3-4.1", "video@6-7")
    expected = [json.dumps(r.to_json()) for r in readings(*drops)]
    assert [json.dumps(r.to_json()) for r in readings(*drops, chunk_s=chunk_s)] == expected


def test_a_second_pass_gives_the_same_readings() -> None:
    with Session(media=RECORDING, engines=INT8) as session:
        first = [reading.to_json() for reading in session]
        assert [reading.to_json() for reading in session] == first


def test_probabilities_and_evidence_are_complete() -> None:
    with_signal = [reading for reading in readings() if reading.has_signal]
    assert with_signal
    for reading in with_signal:
        assert sum(reading.probabilities.values()) == pytest.approx(1.0)
        assert reading.confidence == max(reading.probabilities.values())
        assert set(reading.evidence) == set((reading.subset or "").split("+"))
        assert reading.valence is not None
        assert -1 <= reading.valence <= 1
        assert reading.age_s is not None
        assert 0 <= reading.age_s <= Settings().text_ttl_s
        assert reading.backend == "cpu"
        assert reading.engine == f"{reading.subset}.int8"


def test_without_data_there_is_no_signal(session: Session) -> None:
    reading = session.read(at_s=1.0)
    assert reading.label == NO_SIGNAL
    assert not reading.has_signal
    assert reading.emotion is reading.mood is reading.subset is None
    assert {status.state for status in reading.states.values()} == {State.ABSENT}


def test_words_fade(session: Session) -> None:
    session.push_text("I am so happy", time_s=1.0)
    reading = session.read(at_s=1.5)
    assert (reading.subset, reading.age_s) == ("text", 0.5)
    assert session.read(at_s=11.0).age_s == 10.0
    reading = session.read(at_s=11.5)
    assert reading.label == NO_SIGNAL
    assert reading.states["text"].state is State.QUIET
    assert reading.states["text"].why == "no words in the last 10 s: the newest are 10.5 s old"
    session.push_text("and glad", time_s=12.0)
    assert session.read(at_s=12.5).age_s == 0.5


def test_zeros_are_quiet_and_full_scale_is_poor(session: Session) -> None:
    session.push_audio(np.zeros(32000, np.float32), rate_hz=16000, time_s=0.0)
    status = session.read(at_s=2.0).states["audio"]
    assert status.state is State.QUIET
    assert "exact zeros" in status.why
    square = np.where(np.arange(16000) % 100 < 50, 1.0, -1.0)
    session.push_audio(square, rate_hz=16000, time_s=2.0)
    status = session.read(at_s=3.0).states["audio"]
    assert status.state is State.POOR
    assert "clipped" in status.why


def test_black_and_frozen_pictures_are_poor(session: Session, chunks: list[Chunk]) -> None:
    for tick in range(4):
        session.push_frame(np.zeros((120, 160, 3), np.uint8), time_s=tick * 0.25)
    assert "black" in session.read(at_s=1.0).states["video"].why
    frame = next(chunk.array for chunk in chunks if chunk.modality == "video")
    for tick in range(4, 12):
        session.push_frame(frame, time_s=tick * 0.25)
    status = session.read(at_s=3.0).states["video"]
    assert status.state is State.POOR
    assert "the same frame" in status.why


def test_a_picture_without_a_face_is_quiet_and_never_an_emotion(session: Session) -> None:
    rng = np.random.default_rng(0)
    for tick in range(12):
        session.push_frame(rng.integers(80, 120, (240, 320, 3), dtype=np.uint8), time_s=tick * 0.25)
        reading = session.read(at_s=tick * 0.25 + 0.1)
        assert reading.label == NO_SIGNAL
        assert reading.states["video"].state is State.QUIET


def test_a_muted_modality_is_not_looked_at(session: Session) -> None:
    session.push_text("I am so happy", time_s=1.0)
    assert session.read(at_s=1.5).subset == "text"
    session.mute("text")
    session.push_text("and glad", time_s=1.6)
    reading = session.read(at_s=2.0)
    assert reading.label == NO_SIGNAL
    assert reading.states["text"].state is State.MUTED
    session.unmute("text")
    assert session.read(at_s=2.5).label == NO_SIGNAL
    session.push_text("hello again", time_s=3.0)
    assert session.read(at_s=3.5).subset == "text"


def test_bad_input_is_refused_and_nothing_is_lost(session: Session) -> None:
    def refused(match: str, push: Callable[[], None]) -> None:
        with pytest.raises(InputError, match=match):
            push()

    good = made_voice(1.0)
    session.push_audio(good, rate_hz=16000, time_s=0.0)
    refused("nan", lambda: session.push_audio(good * np.nan, rate_hz=16000, time_s=1.0))
    refused("rate|Hz", lambda: session.push_audio(good, rate_hz=0, time_s=1.0))
    refused("at least 0", lambda: session.push_audio(good, rate_hz=16000, time_s=-1.0))
    refused("shape|channels", lambda: session.push_audio(np.zeros((2, 3, 4)), rate_hz=16000, time_s=1.0))
    session.push_audio(made_voice(1.0, seed=1), rate_hz=16000, time_s=1.0)
    refused("go back", lambda: session.push_audio(good, rate_hz=16000, time_s=0.5))
    refused("uint8", lambda: session.push_frame(np.zeros((4, 4, 3)), time_s=1.0))  # type: ignore[arg-type]  # on purpose
    refused("str", lambda: session.push_text(b"bytes", time_s=1.0))  # type: ignore[arg-type]  # on purpose
    refused("finite", lambda: session.push_text("late", time_s=float("nan")))
    assert session.read(at_s=2.0).subset == "audio"
    with pytest.raises(InputError, match="readings go forward"):
        session.read(at_s=1.0)
    with pytest.raises(SubsetError, match="no 'smell'"):
        session.mute("smell")


def test_empty_and_enormous_text(session: Session) -> None:
    session.push_text("", time_s=0.0)
    session.push_text("   \n\t", time_s=0.1)
    assert session.read(at_s=0.5).label == NO_SIGNAL
    session.push_text("so happy " * 500_000, time_s=1.0)
    assert session.read(at_s=1.5).subset == "text"


def test_audio_at_another_rate_and_in_stereo_gives_about_the_same(chunks: list[Chunk]) -> None:
    sound = np.concatenate([chunk.array for chunk in chunks if chunk.modality == "audio"])[: 22050 * 3]

    def probabilities(samples: np.ndarray) -> np.ndarray:
        with Session(engines=EngineOptions(subsets=("audio",), variant="int8")) as session:
            session.push_audio(samples, rate_hz=22050, time_s=0.0)
            return np.array(list(session.read(at_s=3.0).probabilities.values()))

    mono = probabilities(sound)
    stereo = probabilities((np.stack([sound, sound], axis=1) * 32767).astype(np.int16))
    assert np.abs(mono - stereo).max() < 0.02


def test_the_newest_time_is_read_where_none_is_given(session: Session) -> None:
    session.push_text("how wonderful", time_s=500.0)
    assert session.read().time_s >= 500.0


def test_subsets_can_be_restricted() -> None:
    with Session(
        media=RECORDING, engines=EngineOptions(subsets=("text", "video"), variant="int8")
    ) as session:
        assert {reading.subset for reading in session} <= {None, "text", "video"}
        assert "audio" not in session.stats().engines
    with pytest.raises(SubsetError, match="this model has"):
        Session(engines=EngineOptions(subsets=("smell",)))


class Scripted(Sensor):
    """A live sensor whose data the test hands in."""

    modality = "text"
    name = "scripted"

    def __init__(self) -> None:
        self.words: list[tuple[float, object]] = []
        self.state: SensorStatus = SensorStatus("running", "")
        self.closed = False

    def start(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.closed = False

    def poll(self, timeout_s: float = 0.0) -> list[Chunk]:
        now_s = self.clock()
        ready = [text for at_s, text in self.words if at_s <= now_s]
        self.words = [(at_s, text) for at_s, text in self.words if at_s > now_s]
        return [Chunk("text", now_s, text) for text in ready if isinstance(text, str)]

    def close(self) -> None:
        self.closed = True

    @property
    def status(self) -> SensorStatus:
        return self.state


def test_live_sensors_are_followed_and_closed() -> None:
    sensor = Scripted()
    sensor.words = [(0.8, "I am so happy")]
    settings = Settings(text_ttl_s=0.4)
    with Session(sensors=[sensor], engines=INT8, settings=settings) as session:
        seen = []
        for reading in session:
            seen.append((reading.subset, str(reading.states["text"].state)))
            if len(seen) == 2:
                sensor.state = SensorStatus("lost", "unplugged")
            if len(seen) == 3:
                session.mute("text")
                assert sensor.closed
            if len(seen) == 4:
                break
        assert reading.states["audio"].why == "no sensor was given for it"
        assert session.stats().hops == 4
        session.unmute("text")
        assert not sensor.closed
    assert [subset for subset, _ in seen] == [None, "text", None, None]
    assert [state for _, state in seen][2:] == ["lost", "muted"]
    assert sensor.closed


def test_sources_that_exclude_each_other() -> None:
    with pytest.raises(InputError, match="not both"):
        Session(media=RECORDING, sensors=[Scripted()])
    with pytest.raises(InputError, match="at most one"):
        Session(sensors=[Scripted(), Scripted()])
    with Session(engines=INT8) as session, pytest.raises(InputError, match="nothing to iterate"):
        iter(session)


def test_the_licence_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    preload._said.clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            Session(engines=INT8).close()
    notices = [record for record in caplog.records if "non-commercial" in record.getMessage().lower()]
    assert len(notices) == 1


def test_what_is_this(session: Session) -> None:
    assert "audio+video+text.int8" in repr(session)
    session.close()
    session.close()
    assert "closed" in repr(session)


def test_real_clips(shared_data: Path) -> None:
    folder = shared_data / "media"
    with Session(media=folder / "single_face.mp4", drops=[parse_drop("video@1-2")], engines=INT8) as session:
        used = ["video" in (reading.subset or "") for reading in session]
    assert used == [True, True, False, False, True]
    with Session(media=folder / "no_face.mp4", engines=INT8) as session:
        for reading in session:
            assert reading.states["video"].state is State.QUIET
            assert "video" not in (reading.subset or "")


def test_the_public_names() -> None:
    for name in edgeemo.__all__:
        assert getattr(edgeemo, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        edgeemo.Nonsense  # noqa: B018 - looking it up is the test
