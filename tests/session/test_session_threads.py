"""Callbacks, asyncio, fork, two sessions, early ends: everything is let go, and soon."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeemo.clock import VirtualClock
from edgeemo.errors import InputError, SessionClosedError
from edgeemo.sensors import CallableText, TextQueue
from edgeemo.sensors.base import Chunk, Clock, Sensor, SensorStatus
from edgeemo.session import EngineOptions, Event, EventKind, Reading, Session, State
from edgeemo.shipped import RECORDING

INT8 = EngineOptions(variant="int8")
WORDS = EngineOptions(subsets=("text",), variant="int8")
PATIENCE_S = 20.0  # for a busy machine; nothing here takes long on an idle one


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    until_s = time.monotonic() + PATIENCE_S
    while (left := set(threading.enumerate()) - before) and time.monotonic() < until_s:
        time.sleep(0.02)
    assert not left


def test_a_function_gets_every_reading_of_a_recording() -> None:
    with Session(media=RECORDING, engines=INT8) as session:
        expected = [reading.to_json() for reading in session]
        got: list[Reading] = []
        session.start(on_reading=got.append)
        assert session.wait(PATIENCE_S)
        assert [reading.to_json() for reading in got] == expected
        assert session.stats().missed_by_callbacks == 0


def test_a_function_that_raises_is_told_and_the_session_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Reading] = []
    events: list[Event] = []

    def fail(reading: Reading) -> None:
        seen.append(reading)
        raise ValueError("my own mistake")

    with Session(media=RECORDING, engines=INT8) as session, caplog.at_level(logging.CRITICAL + 1):
        hops = len(list(session))
        session.start(on_reading=fail, on_event=events.append)
        assert session.wait(PATIENCE_S)
        assert len(seen) == hops
    failed = [event for event in events if event.kind is EventKind.CALLBACK_FAILED]
    assert failed
    assert "ValueError: my own mistake" in failed[0].message


def test_a_slow_function_misses_readings_and_holds_up_no_hop() -> None:
    release = threading.Event()
    words = TextQueue()
    with Session(sensors=[words], engines=WORDS) as session:
        session.start(on_reading=lambda reading: release.wait(PATIENCE_S))
        until_s = time.monotonic() + PATIENCE_S
        while session.stats().missed_by_callbacks == 0 and time.monotonic() < until_s:
            time.sleep(0.05)
        stats = session.stats()
        assert stats.missed_by_callbacks > 0
        assert stats.hops > stats.missed_by_callbacks
        release.set()


@pytest.mark.parametrize("after", [1, 2, 3, 5])
def test_a_function_may_close_the_session(after: int) -> None:
    got: list[Reading] = []
    with Session(media=RECORDING, engines=INT8) as session:

        def enough(reading: Reading) -> None:
            got.append(reading)
            if len(got) == after:
                session.close()  # while another thread decodes the recording

        session.start(on_reading=enough)
        assert session.wait(PATIENCE_S)
    assert len(got) == after


def test_waiting_for_nothing_is_refused() -> None:
    with Session(engines=WORDS) as session:
        with pytest.raises(InputError, match="on_reading"):
            session.wait()
        with pytest.raises(InputError, match="nothing to open"):
            session.start()


def test_asyncio_gets_the_same_readings() -> None:
    async def collect(session: Session) -> list[Reading]:
        return [reading async for reading in session]

    with Session(media=RECORDING, engines=INT8) as session:
        expected = [reading.to_json() for reading in session]
        assert [reading.to_json() for reading in asyncio.run(collect(session))] == expected


def test_a_cancelled_task_leaves_nothing_behind_and_the_loop_is_never_held_up() -> None:
    async def follow(session: Session) -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        async def read() -> None:
            async for _ in session:
                pass

        tasks = [asyncio.create_task(tick()), asyncio.create_task(read())]
        await asyncio.sleep(1.2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return ticks

    with Session(sensors=[TextQueue()], engines=WORDS) as session:
        assert asyncio.run(follow(session)) > 20
        assert session.stats().hops >= 1


def test_readings_can_be_asked_for_while_sensors_run() -> None:
    words = TextQueue()
    with Session(sensors=[words], engines=WORDS) as session:
        session.start()
        words.push("I am so happy")
        assert session.read().subset == "text"


def test_a_forked_process_is_told_and_closes_nothing_of_its_parent() -> None:
    words = TextQueue()
    with Session(sensors=[words], engines=WORDS) as session:
        session.start()
        answers = multiprocessing.get_context("fork").SimpleQueue()

        def child() -> None:
            try:
                session.read()
                answers.put("read")
            except SessionClosedError as error:
                answers.put(str(error))
            session.close()
            os._exit(0)

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(PATIENCE_S)
        assert process.exitcode == 0
        assert f"belongs to process {os.getpid()}" in answers.get()
        words.push("I am so happy")
        assert session.read().subset == "text"


def test_two_sessions_in_one_process_know_nothing_of_each_other() -> None:
    with Session(media=RECORDING, engines=INT8) as alone:
        expected = [reading.to_json() for reading in alone]
    with Session(media=RECORDING, engines=INT8) as one, Session(media=RECORDING, engines=INT8) as other:
        pairs = list(zip(one, other, strict=True))
    assert [reading.to_json() for reading, _ in pairs] == expected
    assert [reading.to_json() for _, reading in pairs] == expected


class Hanging(Sensor):
    """A sensor whose driver does not let go."""

    def __init__(self, modality: str) -> None:
        self.modality, self.name = modality, f"hanging {modality}"
        self.release = threading.Event()

    def start(self, clock: Clock) -> None:
        pass

    def poll(self, timeout_s: float = 0.0) -> list[Chunk]:
        return []

    def close(self) -> None:
        self.release.wait(PATIENCE_S)

    @property
    def status(self) -> SensorStatus:
        return SensorStatus("lost", f"{self.name} hangs")


def test_closing_waits_for_no_driver() -> None:
    sensors = [Hanging("audio"), Hanging("video"), CallableText(lambda: None)]
    session = Session(sensors=sensors, engines=INT8)
    session.start()
    begun_s = time.monotonic()
    session.close()
    took_s = time.monotonic() - begun_s
    for sensor in sensors[:2]:
        assert isinstance(sensor, Hanging)
        sensor.release.set()
    # Two hanging drivers, closed one after the other, would hold it for twice PATIENCE_S.
    assert took_s < PATIENCE_S / 2


FORGETFUL = """
import time
from edgeemo import EngineOptions, Session, TextQueue
words = TextQueue()
session = Session(sensors=[words], engines=EngineOptions(subsets=("text",), variant="int8"))
session.start(on_reading=lambda reading: print("reading", flush=True))
time.sleep(1.2)
{end}
"""


@pytest.mark.parametrize("end", ["", "raise SystemExit(0)"])
def test_a_program_that_forgets_to_close_ends_all_the_same(end: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORGETFUL.format(end=end)],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "reading" in done.stdout
    assert "Fatal" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_live_run_cleanly(number: signal.Signals, code: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgeemo.cli.main", "run", "--mic", "none", "--camera", "none"]
    errors = tmp_path / "errors.txt"
    with (
        errors.open("w") as sink,
        subprocess.Popen(
            [*command, "--text", "stdin", "--json"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
        ) as run,
    ):
        assert run.stdout is not None
        assert run.stdout.readline().startswith("{")
        run.send_signal(number)
        assert run.wait(PATIENCE_S) == code
    assert "Traceback" not in errors.read_text()


class Faulty(TextQueue):
    """Somebody's sensor with a mistake in it."""

    def __init__(self) -> None:
        super().__init__("faulty words")
        self.fails = False

    def poll(self, timeout_s: float = 0.0) -> list[Chunk]:
        if self.fails:
            raise KeyError("a mistake")
        return super().poll(timeout_s)

    def close(self) -> None:
        super().close()
        if self.fails:
            raise OSError("another one")


def test_a_sensor_that_raises_is_lost_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    words = Faulty()
    with Session(sensors=[words], engines=WORDS, clock=VirtualClock()) as session:
        readings = iter(session)
        next(readings)
        with caplog.at_level(logging.CRITICAL + 1):
            words.fails = True
            broken = next(readings).states["text"]
            assert broken.state is State.LOST
            assert "KeyError" in broken.why
            assert session.stats().sensors["text"].state == "lost"
            words.fails = False
            assert next(readings).states["text"].state is State.ABSENT
            words.fails = True
            session.close()


def test_everything_that_hangs_at_once_is_left_within_two_seconds() -> None:
    sensors = [Hanging("audio"), Hanging("video"), TextQueue()]
    release = threading.Event()
    session = Session(sensors=sensors, engines=INT8)
    session.start(on_reading=lambda reading: release.wait(PATIENCE_S))
    until_s = time.monotonic() + PATIENCE_S
    while session.stats().hops < 2 and time.monotonic() < until_s:
        time.sleep(0.02)
    begun_s = time.monotonic()
    session.close()
    took_s = time.monotonic() - begun_s
    release.set()
    for sensor in sensors[:2]:
        assert isinstance(sensor, Hanging)
        sensor.release.set()
    assert took_s < PATIENCE_S / 4  # 1.9 s at most on an idle machine


def test_a_function_cannot_wait_for_its_own_end() -> None:
    refused: list[str] = []
    with Session(media=RECORDING, engines=INT8) as session:

        def wait(reading: Reading) -> None:
            with pytest.raises(InputError, match="its own end") as error:
                session.wait()
            refused.append(str(error.value))

        session.start(on_reading=wait)
        assert session.wait(PATIENCE_S)
    assert refused
