"""A recording as live sensors, on a virtual clock and at its real pace."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edgeemo.clock import VirtualClock
from edgeemo.errors import InputError
from edgeemo.sensors import Chunk, LiveSensor, MediaFile, play

DEMO = Path(__file__).resolve().parents[2] / "edgeemo" / "assets" / "demo.mp4"
pytest.importorskip("av", reason="needs PyAV")


def play_all(sensors: list[LiveSensor], clock: VirtualClock, *, until_s: float) -> dict[str, list[Chunk]]:
    heard: dict[str, list[Chunk]] = {sensor.modality: [] for sensor in sensors}
    while clock() < until_s:
        for sensor in sensors:
            for chunk in sensor.poll():
                assert chunk.time_s + chunk.duration_s <= clock() + 1e-6
                heard[sensor.modality].append(chunk)
        clock.advance(0.02)
    return heard


def test_everything_comes_once_when_it_is_due_and_the_end_is_told() -> None:
    with MediaFile(DEMO) as media:
        expected = list(media)
        sensors: list[LiveSensor] = list(play(media, connection="inline"))
        assert [sensor.modality for sensor in sensors] == list(media.modalities)
        clock = VirtualClock(50.0)
        for sensor in sensors:
            sensor.start(clock)
        heard = play_all(sensors, clock, until_s=50.0 + (media.duration_s or 0.0) + 0.5)
        for modality, chunks in heard.items():
            mine = [chunk for chunk in expected if chunk.modality == modality]
            assert [chunk.time_s for chunk in chunks] == pytest.approx(
                [50.0 + chunk.time_s for chunk in mine]
            )
            for ours, theirs in zip(chunks, mine, strict=True):
                np.testing.assert_array_equal(np.asarray(ours.data), np.asarray(theirs.data))
        for sensor in sensors:
            assert sensor.status.why == f"{sensor.name} has ended"
            assert (sensor.status.drops, sensor.status.reconnects) == (0, 0)
            sensor.close()


def test_what_is_muted_goes_on_where_the_recording_is() -> None:
    with MediaFile(DEMO) as media:
        sensors: list[LiveSensor] = list(play(media, connection="inline"))
        clock = VirtualClock()
        for sensor in sensors:
            sensor.start(clock)
        play_all(sensors, clock, until_s=1.0)
        sensors[0].close()
        play_all(sensors[1:], clock, until_s=2.5)
        sensors[0].start(clock)
        heard = play_all(sensors, clock, until_s=3.0)
        assert heard[sensors[0].modality][0].time_s == pytest.approx(2.5, abs=0.1)
        for sensor in sensors:
            sensor.close()


def test_real_time_passes_while_it_plays() -> None:
    with MediaFile(DEMO) as media:
        (video,) = (sensor for sensor in play(media) if sensor.modality == "video")
        with video:
            begun_s = time.monotonic()
            video.start(time.monotonic)
            chunks: list[Chunk] = []
            while len(chunks) < 8:
                chunks.extend(video.poll(1.0))
            passed_s = time.monotonic() - begun_s
            assert passed_s >= chunks[-1].time_s - chunks[0].time_s
            assert video.status.state == "running"


def test_a_modality_that_the_recording_has_not_is_refused() -> None:
    with MediaFile(DEMO) as media, pytest.raises(InputError, match=r"has no smell; it has: audio, video"):
        media.chunks_of("smell")
