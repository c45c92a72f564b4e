from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgeemo.clock import VirtualClock
from edgeemo.errors import InputError
from edgeemo.sensors import Chunk, PatternCamera, PatternMicrophone, Sensor
from edgeemo.sensors.pattern import picture_pattern, sound_pattern


def record(sensor: Sensor, *, seconds: float, every_s: float) -> list[Chunk]:
    clock, chunks = VirtualClock(5.0), []
    with sensor:
        sensor.start(clock)
        while clock() < 5.0 + seconds - 1e-9:
            clock.advance(every_s)
            chunks.extend(sensor.poll())
        assert sensor.status.state == "running"
    return chunks


@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100])
def test_the_sound_is_the_same_however_it_is_polled(rate_hz: int) -> None:
    once, often = (
        record(PatternMicrophone(rate_hz=rate_hz), seconds=2.0, every_s=every_s) for every_s in (0.5, 0.01)
    )
    assert [chunk.time_s for chunk in once] == [chunk.time_s for chunk in often]
    samples = np.concatenate([chunk.array for chunk in once])
    np.testing.assert_array_equal(samples, np.concatenate([chunk.array for chunk in often]))
    np.testing.assert_array_equal(samples, sound_pattern(0, len(samples), rate_hz))
    assert len(samples) == 2 * rate_hz
    assert np.abs(samples).max() == pytest.approx(0.1, rel=0.01)
    first = samples[: rate_hz // 2]
    hz = np.abs(np.fft.rfft(first)).argmax() * rate_hz / len(first)
    assert hz == pytest.approx(262, abs=2)


def test_pictures_move_and_come_at_their_rate() -> None:
    sensor = PatternCamera(fps=8, size=(64, 48))
    chunks = record(sensor, seconds=2.0, every_s=0.25)
    assert [chunk.time_s for chunk in chunks] == [5.0 + n / 8 for n in range(16)]
    assert {chunk.array.shape for chunk in chunks} == {(48, 64, 3)}
    assert all((a.array != b.array).any() for a, b in itertools.pairwise(chunks))
    np.testing.assert_array_equal(chunks[3].array, picture_pattern(3 / 8, (64, 48)))
    assert sensor.status.declared_rate is None  # closed


def test_options_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(InputError, match="rate_hz must be at least 1000, got 10"):
        PatternMicrophone(rate_hz=10)
    with pytest.raises(InputError, match="fps must be above 0 and at most 1000, got 0"):
        PatternCamera(fps=0)
    with pytest.raises(InputError, match="at least 8x8 pixels, got 4x100"):
        PatternCamera(size=(4, 100))
