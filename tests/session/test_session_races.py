"""A session used from several threads at once, and by sensors and functions that do what they may not."""

from __future__ import annotations

import faulthandler
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeemo import Session
from edgeemo.errors import InputError, NoticeError, SensorError
from edgeemo.sensors import Chunk, PatternCamera, PatternMicrophone, Sensor, SensorStatus
from edgeemo.sensors.base import Clock
from edgeemo.session import EventKind, Reading, State
from edgeemo.session.settings import LEAST_HOP_S

STUCK_S = 60.0
QUICK = {"hop_s": 0.05}


@pytest.fixture(autouse=True)
def no_deadlock_holds_up_the_tests() -> Any:
    faulthandler.dump_traceback_later(STUCK_S, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


class Scripted(Sensor):
    """A foreign sensor of sound: what it is given it does."""

    def __init__(
        self,
        poll: Callable[[float], object] = lambda now_s: [],
        status: Callable[[], object] = lambda: SensorStatus("running", ""),
        start: Callable[[], object] = lambda: None,
    ) -> None:
        self.modality, self.name = "audio", "scripted"
        self._poll, self._status, self._start = poll, status, start
        self.is_open = False
        self.opening_s = 0.0

    def start(self, clock: Clock) -> None:
        self._start()
        time.sleep(self.opening_s)
        self._clock, self.is_open = clock, True

    def poll(self, timeout_s: float = 0.0) -> Any:
        return self._poll(self._clock()) if self.is_open else []

    def close(self) -> None:
        self.is_open = False

    @property
    def status(self) -> Any:
        return self._status()


def sound(now_s: float, samples: float = 0.0) -> Chunk:
    return Chunk("audio", now_s, np.full(160, samples, np.float32), 16_000)


def test_a_live_session_may_be_reset_at_any_time() -> None:
    with Session(sensors=[PatternMicrophone(), PatternCamera()], settings=QUICK) as session:
        readings: list[Reading] = []
        session.start(on_reading=readings.append)
        until_s = time.monotonic() + 2.0
        while time.monotonic() < until_s:
            session.reset()
        seen = len(readings)
        while len(readings) == seen:
            time.sleep(0.01)


def test_a_thread_that_reads_ends_no_iteration() -> None:
    with Session(sensors=[PatternMicrophone()], settings={"hop_s": 0.02}) as session:
        readings = iter(session)
        next(readings)
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                session.read()

        thread = threading.Thread(target=read)
        thread.start()
        try:
            times = [next(readings).time_s for _ in range(60)]
        finally:
            done.set()
            thread.join()
    assert times == sorted(times)


def test_the_last_of_two_switches_counts_while_a_device_takes_its_time() -> None:
    sensor = Scripted()
    with Session(sensors=[sensor], settings=QUICK) as session:
        session.start()
        session.mute("audio")
        assert not sensor.is_open
        sensor.opening_s = 0.5
        unmuting = threading.Thread(target=session.unmute, args=("audio",))
        unmuting.start()
        time.sleep(0.1)
        begun_s = time.monotonic()
        session.read()
        assert time.monotonic() - begun_s < 0.4, "readings wait for a device that opens"
        session.mute("audio")
        unmuting.join()
        assert not sensor.is_open
        assert session.read().states["audio"].state is State.MUTED


def test_no_sensor_stays_open_where_the_acknowledgement_is_taken_back_meanwhile() -> None:
    sensor = Scripted()
    with Session(sensors=[sensor], notice="We listen.") as session:
        session.acknowledge(by="a visitor")
        sensor._start = session.withdraw
        with pytest.raises(NoticeError, match="taken back"):
            session.start()
        assert not sensor.is_open


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (lambda now_s: None, "poll.. gave a NoneType"),
        (lambda now_s: [np.zeros(5)], "poll.. gave a ndarray"),
        (lambda now_s: [Chunk("text", now_s, "hello")], "gave a chunk of text"),
    ],
)
def test_a_sensor_that_gives_no_chunks_is_lost(given: Callable[[float], object], why: str) -> None:
    with Session(sensors=[Scripted(given)], settings=QUICK) as session:
        status = next(iter(session)).states["audio"]
    assert status.state is State.LOST
    assert re.search(why, status.why)


@pytest.mark.parametrize("said", [None, SensorStatus("happy", "")])  # type: ignore[arg-type]
def test_a_sensor_that_gives_no_status_is_lost(said: object) -> None:
    with Session(sensors=[Scripted(status=lambda: said)], settings=QUICK) as session:
        status = next(iter(session)).states["audio"]
    assert status.state is State.LOST
    assert "does not say how it is" in status.why


def test_data_that_cannot_be_used_is_said_in_the_state() -> None:
    with Session(sensors=[Scripted(lambda now_s: [sound(now_s, np.nan)])], settings=QUICK) as session:
        readings = iter(session)
        why = ""
        while "cannot be used" not in why:
            status = next(readings).states["audio"]
            why = status.why
    assert status.state is State.POOR
    assert "is nan" in why


def test_a_sensor_that_does_not_start_is_one_sentence() -> None:
    def fail() -> None:
        raise ValueError("no such port")

    with Session(sensors=[Scripted(start=fail)]) as session, pytest.raises(SensorError, match="no such port"):
        session.start()


def test_what_is_no_sensor_is_refused() -> None:
    with pytest.raises(InputError, match="got int"):
        Session(sensors=[42])  # type: ignore[list-item]


def test_hops_without_end_are_refused() -> None:
    with pytest.raises(InputError, match=f"at least {LEAST_HOP_S}"):
        Session(settings={"hop_s": 1e-9})


def test_a_function_that_exits_is_told_and_the_session_goes_on() -> None:
    calls: list[Reading] = []

    def leave(reading: Reading) -> None:
        calls.append(reading)
        sys.exit(3)

    with Session(sensors=[PatternMicrophone()], settings=QUICK) as session:
        session.start(on_reading=leave)
        while len(calls) < 3:
            time.sleep(0.01)
        told = [event for event in session.events() if event.kind is EventKind.CALLBACK_FAILED]
    assert "SystemExit" in told[0].message


def test_a_notice_without_standard_input_is_not_acknowledged() -> None:
    command = [sys.executable, "-m", "edgeemo", "run", "--mic", "pattern", "--camera", "none"]
    ran = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command, "--notice", "We listen."],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "was not acknowledged" in ran.stderr
    assert "Traceback" not in ran.stderr
