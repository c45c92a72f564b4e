"""What a session says of sound it cannot use, within which time, and that it never says it of a voice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from made_voice import made_voice
from numpy.typing import NDArray

from edgeemo.bundle import Bundle
from edgeemo.runtimes import open_stem
from edgeemo.runtimes.base import Runner
from edgeemo.session import Settings, State
from edgeemo.session.judge import Judge
from edgeemo.session.states import Status
from edgeemo.session.streams.audio import AudioStream
from edgeemo.shipped import DEFAULT_BUNDLE

RATE = 16000
BUNDLE = Bundle.open(DEFAULT_BUNDLE)


@pytest.fixture(scope="module")
def stem() -> Iterator[Runner]:
    with open_stem(BUNDLE, "audio", variant="int8") as opened:
        yield opened


def judged(
    sound: NDArray[np.float32], stem: Runner, *, chunk: int = 4000, settings: Settings | None = None
) -> dict[float, Status]:
    """Returns time -> how audio is at every half second, from pushes of `chunk` samples."""
    stream = AudioStream(BUNDLE.manifest.modality("audio"), stem, settings or Settings())
    judge = Judge(stream, deadline_s=0.5, hold_s=0.25)
    found: dict[float, Status] = {}
    pushed, hop = 0, 1
    while hop / 2 <= len(sound) / RATE:
        while pushed < min(len(sound), hop * RATE // 2):
            piece = sound[pushed : pushed + chunk]
            stream.push(piece, rate_hz=RATE, time_s=pushed / RATE)
            pushed += len(piece)
        stream.advance(hop / 2)
        found[hop / 2] = judge.judge(hop / 2, None)
        hop += 1
    return found


def noise(seconds: float, level: float, *, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(round(seconds * RATE))).astype(np.float32)


def test_a_voice_is_live_all_the_time(stem: Runner) -> None:
    found = judged(made_voice(12.0), stem)
    assert {verdict.state for time_s, verdict in found.items() if time_s >= 1.5} == {State.LIVE}


@pytest.mark.parametrize("chunk", [160, 1234, 96000])
def test_chunks_do_not_matter(stem: Runner, chunk: int) -> None:
    sound = np.concatenate([noise(1.0, 0.01), made_voice(3.0, noise=0.02), noise(2.0, 0.01, seed=1)])
    assert judged(sound, stem, chunk=chunk) == judged(sound, stem)


def test_a_room_without_a_voice_is_quiet_and_says_how_loud_it_is(stem: Runner) -> None:
    for verdict in list(judged(noise(5.0, 0.01), stem).values())[2:]:
        assert verdict.state is State.QUIET
        assert verdict.why == "no voice: the room's noise at -40 dBFS"


def test_a_voice_counts_as_long_as_the_engines_see_it(stem: Runner) -> None:
    found = judged(np.concatenate([made_voice(3.0), noise(6.0, 0.001)]), stem)
    assert found[5.0].state is State.LIVE
    assert found[7.5].state is State.QUIET


def test_zeros_are_quiet_within_a_second_and_a_hop(stem: Runner) -> None:
    found = judged(np.concatenate([made_voice(3.0), np.zeros(3 * RATE, np.float32)]), stem)
    assert found[3.0].state is State.LIVE
    assert found[4.5].state is State.QUIET
    assert "exact zeros" in found[4.5].why


def test_noise_louder_than_the_voice_is_poor_within_a_second_and_a_half(stem: Runner) -> None:
    sound = made_voice(12.0, level=0.05)
    sound[4 * RATE : 8 * RATE] += noise(4.0, 0.16)
    found = judged(sound, stem)
    assert found[4.0].state is State.LIVE
    assert [found[time_s].state for time_s in (5.5, 6.0, 7.0, 8.0)] == [State.POOR] * 4
    assert found[6.0].why == "noise: -16 dBFS without a voice, 10 dB above the voice before"
    assert found[9.5].state is State.LIVE


def test_a_stuck_driver_is_poor_within_a_second_and_a_half(stem: Runner) -> None:
    sound = made_voice(8.0)
    sound[3 * RATE : 6 * RATE] = np.resize(sound[3 * RATE : 3 * RATE + 4000], 3 * RATE)
    found = judged(sound, stem)
    assert found[3.0].state is State.LIVE
    assert [found[time_s].state for time_s in (4.5, 5.0, 6.0)] == [State.POOR] * 3
    assert "again and again" in found[4.5].why
    assert found[8.0].state is State.LIVE


def test_clipping_names_the_part(stem: Runner) -> None:
    found = judged((made_voice(3.0) * 1e5).clip(-1, 1), stem)
    assert found[3.0].state is State.POOR
    assert "at full scale; lower the gain" in found[3.0].why
    assert judged((made_voice(3.0) * 10).clip(-1, 1), stem)[3.0].state is State.LIVE


def test_hum_above_the_voice_is_poor_and_below_it_is_not(stem: Runner) -> None:
    at_s = np.arange(6 * RATE) / RATE
    waves = [np.sin(2 * np.pi * 50 * k * at_s + k) / k for k in range(1, 8)]
    hum = np.sum(waves, axis=0).astype(np.float32)
    loud = judged(made_voice(6.0, level=0.05) + 0.2 * hum, stem)
    assert State.LIVE not in {status.state for time_s, status in loud.items() if time_s >= 1.5}
    assert "mains hum" in " ".join(status.why for status in loud.values())
    assert judged(made_voice(6.0, level=0.05) + 0.01 * hum, stem)[6.0].state is State.LIVE


def test_a_crowd_is_poor(stem: Runner) -> None:
    crowd = np.sum([made_voice(7.0, seed=seed, level=0.05) for seed in range(6)], axis=0)
    verdict = judged(np.concatenate([noise(2.0, 0.001), crowd]), stem)[9.0]
    assert verdict.state is State.POOR
    assert "several voices" in verdict.why


def test_every_sound_counts_where_an_application_wants_it(stem: Runner) -> None:
    music = judged(noise(3.0, 0.05), stem, settings=Settings(voice_activity="off"))
    assert {verdict.state for verdict in list(music.values())[2:]} == {State.LIVE}
    faint = judged(noise(3.0, 0.0001), stem, settings=Settings(voice_activity="off"))[3.0]
    assert faint.state is State.QUIET
    assert "silence" in faint.why
