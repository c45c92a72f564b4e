"""Voices are found in any room, clipping, hum and repetition are measured, and chunks do not matter."""

from __future__ import annotations

import numpy as np
import pytest
from made_voice import made_voice
from numpy.typing import NDArray

from edgeemo.quality.repeats import Repeats
from edgeemo.quality.sound import SILENT_DBFS, SoundQuality, background, compare, is_voiced
from edgeemo.session import Settings

RATE = 16000
LIMITS = Settings()


def noise(seconds: float, level: float, *, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(round(seconds * RATE))).astype(np.float32)


def voiced(samples: NDArray[np.float32]) -> list[bool]:
    return [
        is_voiced(block, excess_db=LIMITS.voice_excess_db, harmonicity=LIMITS.voice_harmonicity)
        for block in SoundQuality(RATE).push(samples)
    ]


@pytest.mark.parametrize("sizes", [[1], [1600], [777, 16000, 3], [100000]])
def test_chunks_do_not_matter(sizes: list[int]) -> None:
    sound = np.concatenate([noise(1.0, 0.01), made_voice(3.0), np.zeros(3000, np.float32)])
    if sizes == [1]:
        sound = sound[14000:20000]
    whole, cut = SoundQuality(RATE), SoundQuality(RATE)
    found, at, turn = [], 0, 0
    while at < len(sound):
        size = sizes[turn % len(sizes)]
        found += cut.push(sound[at : at + size])
        at, turn = at + size, turn + 1
    assert found == whole.push(sound)
    assert len(found) == len(sound) // 1600


@pytest.mark.parametrize("level", [0.0003, 0.003, 0.03])
def test_noise_of_any_level_is_no_voice_and_a_voice_above_it_is(level: float) -> None:
    room = noise(6.0, level)
    assert sum(voiced(room)) == 0
    room[3 * RATE :] += made_voice(3.0, level=10 * level, noise=0.0)
    heard = voiced(room)
    assert sum(heard[:30]) == 0
    assert sum(heard[30:]) >= 8


def test_noise_that_is_switched_on_and_knocks_are_no_voice() -> None:
    room = noise(6.0, 0.001)
    room[2 * RATE :] += noise(4.0, 0.1, seed=1)
    rng = np.random.default_rng(2)
    knocks = range(3000, 30000, 4000)
    for at in knocks:
        room[at : at + 400] += (0.3 * rng.standard_normal(400) * np.exp(-np.arange(400) / 80)).astype("f4")
    assert sum(voiced(room)) < len(knocks) / 2


def test_levels_are_those_of_the_samples() -> None:
    square = np.where(np.arange(RATE) % 40 < 20, 0.5, -0.5).astype(np.float32)
    levels = [block.level_dbfs for block in SoundQuality(RATE).push(square)]
    assert levels[5] == pytest.approx(-6.0, abs=0.3)
    quiet = SoundQuality(RATE).push(np.zeros(RATE, np.float32))
    assert {block.level_dbfs for block in quiet} == {SILENT_DBFS}
    assert {block.peak for block in quiet} == {0.0}


def test_the_clipped_part_is_counted() -> None:
    sound = np.full(RATE, 0.5, np.float32)
    sound[: RATE // 2 : 4] = -1.0
    clipped = [block.clipped for block in SoundQuality(RATE).push(sound)]
    assert clipped == [0.25] * 5 + [0.0] * 5


@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
def test_mains_hum_is_told_from_a_voice(mains_hz: float) -> None:
    at_s = np.arange(4 * RATE) / RATE
    waves = [0.05 * np.sin(2 * np.pi * mains_hz * k * at_s + k) / k for k in range(1, 8)]
    hum = np.sum(waves, axis=0).astype(np.float32)
    assert min(block.hum for block in SoundQuality(RATE).push(hum + noise(4.0, 0.001))[20:]) > 0.95
    assert max(block.hum for block in SoundQuality(RATE).push(made_voice(4.0))[20:]) < 0.5
    assert max(block.hum for block in SoundQuality(RATE).push(noise(4.0, 0.1))[20:]) < 0.3


def test_the_lead_of_a_voice_follows_the_noise() -> None:
    leads = []
    for level in (0.001, 0.01, 0.05):
        sound = made_voice(4.0, level=0.1, noise=level)
        blocks = SoundQuality(RATE).push(sound)
        found = compare(blocks, voiced(sound))
        assert found.noise_dbfs == pytest.approx(20 * np.log10(level), abs=4)
        leads.append(found.lead_db)
    assert leads[0] > leads[1] + 10 > leads[2] + 20


def test_who_speaks_alone_pauses_and_a_crowd_does_not() -> None:
    room = noise(3.0, 0.0005)
    crowd = np.sum([made_voice(6.0, seed=seed, level=0.05) for seed in range(6)], axis=0)
    alone = background(SoundQuality(RATE).push(np.concatenate([room, made_voice(6.0)]))[-40:])
    many = background(SoundQuality(RATE).push(np.concatenate([room, crowd]))[-40:])
    assert alone.range_db > LIMITS.audio_crowd_range_db > many.range_db
    assert many.above_db > LIMITS.audio_crowd_db


@pytest.mark.parametrize("piece_s", [0.02, 0.1003, 0.25])
@pytest.mark.parametrize("chunk", [160, 4096, 1000000])
def test_a_stuck_buffer_is_found_and_real_sound_never(piece_s: float, chunk: int) -> None:
    sound = made_voice(3.0, rate_hz=44100)
    piece = sound[44100 : 44100 + round(piece_s * 44100)]
    stuck = np.concatenate([sound, np.resize(piece, 2 * 44100), made_voice(1.0, rate_hz=44100, seed=5)])
    found: list[bool] = []
    repeats = Repeats(44100)
    for at in range(0, len(stuck), chunk):
        found += repeats.push(stuck[at : at + chunk])
    assert len(found) == 60
    assert not any(found[:30])
    assert all(found[37:50])
    assert not any(found[55:])


def test_silence_and_constant_sound_do_not_repeat() -> None:
    assert not any(Repeats(RATE).push(np.zeros(2 * RATE, np.float32)))
    assert not any(Repeats(RATE).push(np.full(2 * RATE, 0.1, np.float32)))
