"""Deadlines, back-off and re-opening of live sensors, on a clock that the test turns."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from edgeemo.errors import InputError, MissingDependencyError
from edgeemo.sensors import Chunk, LiveSensor, Patience
from edgeemo.sensors.base import Clock
from edgeemo.sensors.connections import Device, Gone
from edgeemo.sensors.queue import ChunkQueue

PATIENCE = Patience(deadline_s=0.5, reopen_s=2.0, open_s=5.0, first_wait_s=1.0, most_wait_s=4.0, jitter=0.0)


class ScriptedSensor(LiveSensor):
    """A text sensor whose device does what the test feeds it: str = data, Gone = its end, HANG = a driver
    that does not come back until `release` is set."""

    HANG = object()

    def __init__(self, patience: Patience = PATIENCE) -> None:
        super().__init__("text", "scripted", capacity=100, policy="drop-oldest", patience=patience)
        self.script: queue.Queue[object] = queue.Queue()
        self.release = threading.Event()
        self.opening: list[object] = []  # what the next attempts to open meet
        self.opened = self.closed = 0

    def open_device(self, clock: Clock) -> Device | Gone:
        meets = self.opening.pop(0) if self.opening else None
        if isinstance(meets, Exception):
            raise meets
        if isinstance(meets, Gone):
            return meets
        self.opened += 1
        return _ScriptedDevice(self, clock)


class _ScriptedDevice:
    def __init__(self, sensor: ScriptedSensor, clock: Clock) -> None:
        self._sensor, self._clock = sensor, clock

    def read(self) -> Chunk | Gone | None:
        try:
            step = self._sensor.script.get(timeout=0.005)
        except queue.Empty:
            return None
        if step is ScriptedSensor.HANG:
            self._sensor.release.wait()
            return Chunk("text", self._clock(), "from the hung reader")
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, Gone) else Chunk("text", self._clock(), str(step))

    def close(self) -> None:
        self._sensor.closed += 1


class Turned:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def wait_for(condition: Callable[[], bool], what: str) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.005)
    pytest.fail(f"still not so after 5 s: {what}")


def hear(sensor: ScriptedSensor, text: str) -> None:
    heard: list[str] = []

    def arrived() -> bool:
        heard.extend(chunk.text for chunk in sensor.poll())
        return text in heard

    sensor.script.put(text)
    wait_for(arrived, f"{text!r} arrives")


def test_silence_past_the_deadline_is_lost_and_data_brings_it_back_without_reopening() -> None:
    clock = Turned()
    with ScriptedSensor() as sensor:
        assert sensor.status.why == "scripted has not been started"
        sensor.start(clock)
        assert (sensor.status.state, sensor.status.why) == ("lost", "opening scripted")
        hear(sensor, "one")
        for later_s, state in ((0.4, "running"), (0.2, "lost")):
            clock.now_s += later_s
            assert sensor.status.state == state
        assert sensor.status.why == "no data from scripted for 0.6 s"
        hear(sensor, "two")
        status = sensor.status
        assert (status.state, status.reconnects, status.chunks) == ("running", 0, 2)
        assert status.last_data_s == clock.now_s
        assert sensor.opened == 1


def test_a_hanging_device_is_left_behind_and_opened_again() -> None:
    clock = Turned()
    with ScriptedSensor() as sensor:
        sensor.start(clock)
        hear(sensor, "one")
        sensor.script.put(ScriptedSensor.HANG)
        wait_for(sensor.script.empty, "the driver hangs")
        clock.now_s += 2.1
        assert sensor.poll() == []
        assert (sensor.status.state, sensor.opened) == ("lost", 1)
        clock.now_s += 1.1
        sensor.poll()
        hear(sensor, "two")
        assert (sensor.opened, sensor.status.reconnects) == (2, 1)
        sensor.release.set()
        wait_for(lambda: sensor.closed == 1, "the hung reader closes its own device")
        assert sensor.poll() == []  # and what it still read is not taken for news
        assert sensor.status.chunks == 2
    assert sensor.closed == 2


def test_a_device_that_never_gives_data_is_given_up_after_open_s() -> None:
    clock = Turned()
    with ScriptedSensor() as sensor:
        sensor.start(clock)
        wait_for(lambda: sensor.opened == 1, "it is open")
        clock.now_s += 4.9
        assert sensor.status.why == "opening scripted"
        clock.now_s += 0.2
        assert sensor.status.why == "no data from scripted for 5 s"
        wait_for(lambda: sensor.closed == 1, "it is closed")


def test_pauses_between_attempts_double_up_to_the_longest() -> None:
    clock = Turned()
    with ScriptedSensor() as sensor:
        sensor.opening = [Gone("absent", f"attempt {n}") for n in range(6)]
        sensor.start(clock)
        for attempt, pause_s in enumerate((1.0, 2.0, 4.0, 4.0, 4.0)):
            wait_for(lambda n=attempt: sensor.status.why == f"attempt {n}", f"attempt {attempt} is over")  # type: ignore[misc]
            clock.now_s += pause_s - 0.1
            sensor.poll()
            assert len(sensor.opening) == 5 - attempt
            clock.now_s += 0.2
            sensor.poll()
        assert sensor.status.state == "absent"


def test_pauses_vary_by_the_jitter() -> None:
    patience, random = Patience(first_wait_s=1.0, most_wait_s=3.0, jitter=0.25), np.random.default_rng(0)
    first = [patience.pause_s(0, random) for _ in range(100)]
    assert 0.75 <= min(first) < 0.8
    assert 1.2 < max(first) <= 1.25
    assert 2.25 <= patience.pause_s(10_000, random) <= 3.75


def test_errors_are_told_and_tried_again() -> None:
    clock = Turned()
    with ScriptedSensor() as sensor:
        sensor.opening = [OSError("device busy")]
        sensor.start(clock)
        wait_for(lambda: sensor.status.why == "scripted failed: device busy", "the error is told")
        clock.now_s += 1.1
        hear(sensor, "one")
        sensor.script.put(ValueError())
        wait_for(lambda: sensor.status.why == "scripted failed: ValueError", "the error is told")
        assert (sensor.status.state, sensor.closed) == ("lost", 1)
        clock.now_s += 2.1
        hear(sensor, "two")
        assert sensor.status.reconnects == 1


def test_a_missing_library_and_an_ended_source_are_final() -> None:
    for outcome, state in (
        (MissingDependencyError("The thing", "libthing", "pip install thing"), "absent"),
        (Gone("lost", "it has ended", retry=False), "lost"),
    ):
        clock = Turned()
        with ScriptedSensor() as sensor:
            sensor.opening = [outcome]
            sensor.start(clock)
            wait_for(lambda s=sensor: "opening" not in s.status.why, "the outcome is told")  # type: ignore[misc]
            clock.now_s += 1000
            sensor.poll()
            time.sleep(0.02)
            assert (sensor.opened, sensor.status.state) == (0, state)
            assert sensor.status.why.endswith(("Install it with: pip install thing", "it has ended"))


def test_attempts_stop_while_too_many_hang() -> None:
    clock = Turned()
    with ScriptedSensor() as sensor:
        sensor.start(clock)
        for opened in range(1, 5):
            wait_for(lambda n=opened: sensor.opened == n, "it is open")  # type: ignore[misc]
            hear(sensor, f"data {opened}")
            sensor.script.put(ScriptedSensor.HANG)
            wait_for(sensor.script.empty, "the driver hangs")
            clock.now_s += 2.1
            sensor.poll()
            clock.now_s += 4.1
            sensor.poll()
        assert sensor.status.why == "scripted: 4 earlier attempts hang in its driver"
        sensor.release.set()
        wait_for(lambda: sensor.closed == 4, "they come back")
        clock.now_s += 4.1
        hear(sensor, "again")


def test_a_source_without_a_deadline_may_be_silent() -> None:
    clock = Turned()
    with ScriptedSensor(Patience(deadline_s=None)) as sensor:
        sensor.start(clock)
        wait_for(lambda: sensor.status.state == "running", "it is open")
        clock.now_s += 10_000
        assert sensor.status.state == "running"


def test_no_thread_outlives_close() -> None:
    sensor = ScriptedSensor()
    sensor.start(Turned())
    hear(sensor, "one")
    sensor.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "edgeemo scripted"]
    assert (sensor.closed, sensor.status.state) == (1, "absent")
    assert sensor.status.why == "scripted is closed: nothing is read from it"


def test_queues_keep_what_their_policy_says() -> None:
    chunks = [Chunk("text", float(n), str(n)) for n in range(5)]
    for policy, kept, drops in (("latest", "4", 4), ("drop-oldest", "234", 2)):
        held = ChunkQueue(3, policy)  # type: ignore[arg-type]
        for chunk in chunks:
            held.put(chunk, cancelled=lambda: False)
        assert ("".join(c.text for c in held.take()), held.drops, len(held)) == (kept, drops, 0)
    with pytest.raises(
        InputError, match="unknown queue policy 'newest'; there are: latest, drop-oldest, block"
    ):
        ChunkQueue(3, "newest")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="room for at least 1 chunk, got 0"):
        ChunkQueue(0, "latest")


def test_a_blocking_queue_makes_the_reader_wait_and_loses_nothing() -> None:
    held = ChunkQueue(2, "block")
    chunks = [Chunk("text", float(n), str(n)) for n in range(50)]

    def write() -> None:
        for chunk in chunks:
            held.put(chunk, cancelled=lambda: False)

    writer = threading.Thread(target=write)
    writer.start()
    taken: list[Chunk] = []
    while len(taken) < 50:
        taken.extend(held.take(0.5))
    writer.join()
    assert (taken, held.drops) == (chunks, 0)
    for chunk in chunks[:2]:
        held.put(chunk, cancelled=lambda: False)
    held.put(chunks[2], cancelled=lambda: True)  # a closed sensor waits for nobody
    assert (len(held), held.drops) == (2, 0)
