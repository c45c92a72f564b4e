"""Supervision on a virtual clock: scripted devices read inline, the same way every time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgeemo.clock import VirtualClock
from edgeemo.errors import InputError
from edgeemo.sensors import Chunk, LiveSensor, Patience
from edgeemo.sensors.base import Clock
from edgeemo.sensors.connections import ConnectionKind, Device, Gone
from edgeemo.sensors.rate import RateMeter

STEP_S = 0.05
Outcome = Callable[[float], "Chunk | Gone | None"]


class Scripted(LiveSensor):
    """Asks `script(time_s)` for what each 50 ms of capture time give; what is not due is not read."""

    def __init__(
        self,
        script: Outcome,
        *,
        modality: str = "audio",
        declared: float | None = None,
        connection: ConnectionKind = "inline",
    ) -> None:
        super().__init__(
            modality,
            "scripted",
            capacity=64,
            policy="drop-oldest",
            patience=Patience(),
            connection=connection,
            seed=3,
        )
        self.script, self.declared = script, declared
        self.opened_s: list[float] = []
        self.closed = 0

    def open_device(self, clock: Clock) -> Device | Gone:
        self.opened_s.append(clock())
        return _Scripted(self, clock)


class _Scripted:
    def __init__(self, sensor: Scripted, clock: Clock) -> None:
        self._sensor, self._clock = sensor, clock
        self._next_s = clock()
        self.declared_rate = sensor.declared

    def read(self) -> Chunk | Gone | None:
        while self._next_s + STEP_S <= self._clock() + 1e-9:
            got = self._sensor.script(self._next_s)
            self._next_s += STEP_S
            if got is not None:
                return got
        return None

    def close(self) -> None:
        self._sensor.closed += 1


def sound(time_s: float, *, samples: int = 800) -> Chunk:
    return Chunk("audio", time_s, np.full(samples, 0.1, np.float32), 16000)


def picture(time_s: float) -> Chunk:
    return Chunk("video", time_s, np.zeros((4, 4, 3), np.uint8))


def watch(sensor: LiveSensor, clock: VirtualClock, *, until_s: float) -> list[tuple[float, str]]:
    """Polls every 50 ms; returns when which state was seen first."""
    seen: list[tuple[float, str]] = []
    while clock() < until_s:
        sensor.poll()
        state = sensor.status.state
        if not seen or seen[-1][1] != state:
            seen.append((round(clock(), 2), state))
        clock.advance(STEP_S)
    return seen


def test_a_device_that_falls_silent_is_lost_after_the_deadline_and_opened_again_after_reopen_s() -> None:
    clock = VirtualClock()
    with Scripted(lambda t: None if 3.0 <= t < 8.0 else sound(t)) as sensor:
        sensor.start(clock)
        seen = watch(sensor, clock, until_s=12.0)
        assert [state for _, state in seen] == ["lost", "running", "lost", "running"]
        assert seen[2][0] == pytest.approx(3.5, abs=0.11)
        assert sensor.opened_s[1] == pytest.approx(5.3, abs=0.2)  # 2 s of silence and the first pause
        assert len(sensor.opened_s) == sensor.closed + 1
        assert sensor.status.reconnects == 1


def test_the_same_script_gives_the_same_course_every_time() -> None:
    courses = []
    for _ in range(2):
        clock = VirtualClock()
        with Scripted(lambda t: Gone("lost", "unplugged") if t % 3.0 < 1.0 else sound(t)) as sensor:
            sensor.start(clock)
            courses.append((watch(sensor, clock, until_s=30.0), sensor.opened_s, sensor.status.chunks))
    assert courses[0] == courses[1]
    assert len(courses[0][1]) > 5


def test_trouble_between_two_looks_is_remembered() -> None:
    clock = VirtualClock()
    with Scripted(lambda t: Gone("lost", "unplugged") if 3.0 <= t < 3.05 else sound(t)) as sensor:
        sensor.start(clock)
        watch(sensor, clock, until_s=2.95)
        assert sensor.status.trouble_s == pytest.approx(0.05)
        for _ in range(12):
            sensor.poll()
            clock.advance(STEP_S)
        sensor.poll()
        status = sensor.status
        assert status.state == "running"
        assert status.trouble_s == pytest.approx(3.4, abs=0.15)


def test_a_device_far_below_its_rate_is_lost_until_it_keeps_it() -> None:
    clock = VirtualClock()
    with Scripted(lambda t: sound(t, samples=800 if not 4.0 <= t < 10.0 else 400)) as sensor:
        sensor.start(clock)
        watch(sensor, clock, until_s=4.0)
        assert sensor.status.rate == pytest.approx(16000, rel=0.01)
        seen = watch(sensor, clock, until_s=9.9)
        assert seen[1][1] == "lost"
        assert 4.5 < seen[1][0] < 6.0
        status = sensor.status
        assert status.why == "scripted gives 8000 samples a second where it promises 16000"
        assert status.rate == pytest.approx(8000, rel=0.01)
        assert status.declared_rate == 16000
        assert len(sensor.opened_s) == 2  # opened again once, in case that cures it
        assert watch(sensor, clock, until_s=14.0)[-1][1] == "running"


def test_a_camera_may_be_much_slower_than_it_promises() -> None:
    for share, state in ((0.25, "running"), (0.15, "lost")):
        clock, every = VirtualClock(), round(1 / share)
        with Scripted(
            lambda t, n=every: picture(t) if round(t / STEP_S) % n == 0 else None,  # type: ignore[misc]
            modality="video",
            declared=20.0,
        ) as sensor:
            sensor.start(clock)
            assert watch(sensor, clock, until_s=6.0)[-1][1] == state


def test_a_device_that_is_rarely_polled_is_not_called_silent() -> None:
    clock = VirtualClock()
    with Scripted(sound) as sensor:
        sensor.start(clock)
        watch(sensor, clock, until_s=2.0)
        trouble_s = sensor.status.trouble_s
        for _ in range(6):
            clock.advance(1.2)
            assert sensor.status.state == "running"
            assert len(sensor.poll()) >= 23
        assert (sensor.status.trouble_s, len(sensor.opened_s)) == (trouble_s, 1)


def test_stamps_of_a_clock_that_runs_ahead_or_back_are_counted_as_losses() -> None:
    clock = VirtualClock()
    with Scripted(lambda t: sound(t + 3.0 if 3.0 <= t < 4.0 else t)) as sensor:
        sensor.start(clock)
        watch(sensor, clock, until_s=3.0)
        seen = watch(sensor, clock, until_s=3.9)
        assert seen[-1][1] == "lost"
        assert sensor.status.why.endswith("s: what it sends is stamped 3.0 s ahead of the clock")
        back_s, state = watch(sensor, clock, until_s=5.0)[-1]
        assert state == "running"
        assert back_s <= 4.15
        assert (sensor.status.drops, sensor.status.reconnects) == (20, 0)
    with Scripted(lambda t: sound(t - 1.0 if 3.0 <= t < 3.5 else t)) as sensor:
        clock = VirtualClock()
        sensor.start(clock)
        chunks: list[Chunk] = []
        while clock() < 5.0:
            chunks.extend(sensor.poll())
            clock.advance(STEP_S)
        times = [chunk.time_s for chunk in chunks]
        assert times == sorted(times)
        assert sensor.status.drops == 10


def test_reopen_closes_the_device_and_opens_it_again() -> None:
    clock = VirtualClock()
    with Scripted(sound) as sensor:
        sensor.reopen()  # before the start there is nothing to open again
        sensor.start(clock)
        watch(sensor, clock, until_s=1.0)
        sensor.reopen()
        assert (sensor.closed, sensor.status.state) == (1, "lost")
        assert sensor.status.why == "opening scripted again"
        watch(sensor, clock, until_s=1.5)
        assert (len(sensor.opened_s), sensor.status.state, sensor.status.reconnects) == (2, "running", 1)
    assert sensor.closed == 2


def test_a_closed_sensor_reads_nothing_more() -> None:
    clock = VirtualClock()
    sensor = Scripted(sound)
    sensor.start(clock)
    watch(sensor, clock, until_s=1.0)
    sensor.close()
    clock.advance(5.0)
    assert sensor.poll() == []
    assert (sensor.closed, sensor.status.state, len(sensor.opened_s)) == (1, "absent", 1)


def test_what_an_inline_device_raises_is_told_and_tried_again() -> None:
    def fails(time_s: float) -> Chunk:
        if 1.0 <= time_s < 1.05:
            raise OSError("cable")
        return sound(time_s)

    clock = VirtualClock()
    with Scripted(fails) as sensor:
        sensor.start(clock)
        watch(sensor, clock, until_s=1.15)
        assert sensor.status.why == "scripted failed: cable"
        watch(sensor, clock, until_s=2.0)
        assert sensor.status.state == "running"


def test_unknown_connections_and_impossible_patience_are_refused() -> None:
    with pytest.raises(InputError, match="unknown connection 'telepathy'; there are: thread"):
        Scripted(sound, connection="telepathy")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="reopen_s must be a number of at least 0, got -1"):
        Patience(reopen_s=-1)
    with pytest.raises(InputError, match="jitter is a share of the pause"):
        Patience(jitter=1.5)
    with pytest.raises(InputError, match="deadline_s must be above 0 seconds or None"):
        Patience(deadline_s=0.0)


@pytest.mark.parametrize("block_s", [0.01, 0.1, 0.5, 0.9])
def test_the_rate_does_not_depend_on_the_size_of_the_blocks(block_s: float) -> None:
    meter = RateMeter()
    assert meter.rate(0.0) is None
    time_s = 0.0
    while time_s < 5.0:
        time_s += block_s
        meter.add(time_s, round(16000 * block_s))
    assert meter.rate(time_s) == pytest.approx(16000, rel=1e-6)
    assert meter.rate(time_s + 10.0) == 0.0
    meter.reset()
    assert meter.rate(time_s) is None
