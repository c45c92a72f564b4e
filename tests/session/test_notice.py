"""Nothing is sensed before people have acknowledged the notice."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
import pytest

from edgeemo.errors import InputError, NoticeError
from edgeemo.sensors import TextQueue
from edgeemo.session import EngineOptions, EventKind, Session, Settings
from edgeemo.shipped import RECORDING

WORDS = EngineOptions(subsets=("text",), variant="int8")
NOTICE = "This kiosk estimates emotions from your words."


def state_of(sensor: TextQueue) -> str:
    return sensor.status.state


def test_no_sensor_opens_before_the_notice_is_acknowledged() -> None:
    words = TextQueue()
    with Session(sensors=[words], engines=WORDS, notice=NOTICE) as session:
        for begin in (session.start, lambda: iter(session), lambda: session.push_text("hello")):
            with pytest.raises(NoticeError, match="This kiosk estimates"):
                begin()
        assert state_of(words) == "absent"
        before = datetime.now(timezone.utc).replace(microsecond=0)
        kept = session.acknowledge(by="visitor")
        assert kept.text == NOTICE
        assert before <= datetime.fromisoformat(kept.at) <= datetime.now(timezone.utc)
        session.start()
        assert state_of(words) == "running"
        event = next(e for e in session.events() if e.kind is EventKind.NOTICE_ACKNOWLEDGED)
        assert event.detail == {"by": "visitor", "text": NOTICE, "at": kept.at}


def test_a_withdrawal_closes_the_sensors_and_forgets_what_was_seen() -> None:
    words = TextQueue()
    at_once = Settings(hold_s=0.0)
    with Session(sensors=[words], engines=WORDS, settings=at_once, notice=NOTICE) as session:
        session.acknowledge(by="visitor")
        session.start()
        words.push("I am so happy")
        assert session.read().subset == "text"
        session.withdraw()
        assert state_of(words) == "absent"
        assert not session.read().has_signal
        with pytest.raises(NoticeError):
            session.start()
        session.acknowledge(by="the next visitor")
        session.start()
        assert not session.read().has_signal  # of the words before nothing is left
        words.push("how sad")
        assert session.read().subset == "text"


def test_a_function_is_asked_once_and_may_refuse() -> None:
    answers = [False, True]
    asked: list[bool] = []

    def ask() -> bool:
        asked.append(answers[len(asked)])
        return asked[-1]

    with Session(engines=WORDS, notice=ask) as session:
        with pytest.raises(NoticeError, match="not acknowledged"):
            session.push_text("hello")
        session.push_text("hello", time_s=0.0)
        session.push_text("again", time_s=0.1)
        assert asked == [False, True]
        assert [event.kind for event in session.events()] == [EventKind.NOTICE_ACKNOWLEDGED]


def test_a_recording_is_no_sensor() -> None:
    with Session(media=RECORDING, engines=WORDS, notice=NOTICE) as session:
        assert any(reading.has_signal for reading in session)


@pytest.mark.parametrize("notice", ["", " \n", 7])
def test_a_notice_that_says_nothing_is_refused(notice: object) -> None:
    with pytest.raises(InputError, match="notice"):
        Session(engines=WORDS, notice=notice)  # type: ignore[arg-type]  # what a caller may do


def test_sound_and_pictures_wait_too() -> None:
    with Session(engines=EngineOptions(variant="int8"), notice=NOTICE) as session:
        with pytest.raises(NoticeError):
            session.push_audio(np.zeros(100, np.float32), rate_hz=16000)
        with pytest.raises(NoticeError):
            session.push_frame(np.zeros((10, 10, 3), np.uint8))


@pytest.mark.parametrize("by", ["", "  ", 5])
def test_nobody_acknowledges_nothing(by: object) -> None:
    with Session(engines=WORDS, notice=NOTICE) as session:
        with pytest.raises(InputError, match="by whom"):
            session.acknowledge(by=by)  # type: ignore[arg-type]  # what a caller may do
        with pytest.raises(NoticeError):
            session.push_text("hello")
