"""The log-mel front-end: same numbers for every chunking, deaf to gain, strict about its input."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeemo.errors import InputError
from edgeemo.features.audio import LogMelSpec, LogMelStream, log_mel, mel_filters, mel_power

SPEC = LogMelSpec(mean=tuple(np.linspace(-40, -50, 64).tolist()), std=(12.0,) * 64)


def voice_like(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """Noise whose level swings by 40 dB, with a stretch of exact zeros."""
    rng = np.random.default_rng(seed)
    count = int(seconds * 16000)
    swing = 10.0 ** (np.sin(np.arange(count) / 2500.0) - 1.5)
    samples = (rng.normal(size=count) * swing).astype(np.float32)
    samples[count // 3 : count // 3 + 1500] = 0.0
    return samples


@pytest.mark.parametrize("chunk", [1, 7, 200, 399, 1600, 1601, 8000, 40000])
def test_every_chunking_gives_the_same_bits(chunk: int) -> None:
    samples = voice_like(1.3 if chunk < 10 else 6.0)
    whole = log_mel(samples, SPEC)
    stream = LogMelStream(SPEC)
    parts = [stream.push(samples[at : at + chunk]) for at in range(0, samples.size, chunk)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert whole.shape == (samples.size // 200, 64)
    assert whole.dtype == np.float32


def test_ragged_chunks_and_reset_give_the_same_bits() -> None:
    samples = voice_like(4.0, seed=3)
    whole = log_mel(samples, SPEC)
    stream = LogMelStream(SPEC)
    stream.push(voice_like(0.7, seed=4))
    stream.reset()
    rng = np.random.default_rng(5)
    cuts = np.sort(rng.integers(0, samples.size, 60))
    parts = [stream.push(part) for part in np.split(samples, cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_recording_longer_than_one_slice_is_seamless() -> None:
    samples = voice_like(30.0)
    stream = LogMelStream(SPEC)
    halves = [stream.push(samples[:100_001]), stream.push(samples[100_001:])]
    np.testing.assert_array_equal(np.concatenate(halves), log_mel(samples, SPEC))


def test_products_of_any_number_of_frames_round_alike() -> None:
    # In float64: the final float32 hides nearly every such difference, not all of them.
    power = np.random.default_rng(0).random((61, 257))
    filters = mel_filters(SPEC)
    whole = mel_power(power, filters, first=0)
    for count in (1, 2, 3, 5, 8, 40):
        parts = [mel_power(power[at : at + count], filters, first=at) for at in range(0, 61, count)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_allclose(whole, power @ filters, rtol=1e-12)


def test_frames_look_at_the_past_alone() -> None:
    samples = voice_like(1.0)
    changed = samples.copy()
    changed[8000:] = 0.5
    np.testing.assert_array_equal(log_mel(samples, SPEC)[:40], log_mel(changed, SPEC)[:40])
    assert not np.array_equal(log_mel(samples, SPEC)[40], log_mel(changed, SPEC)[40])


def test_the_gain_of_the_microphone_does_not_show() -> None:
    samples = voice_like(3.0) * np.float32(0.9)
    loud, soft = log_mel(samples, SPEC), log_mel(samples * np.float32(0.2), SPEC)
    # 14 dB apart, both above the floor: exact zeros stay at the clip, the rest moves with the level.
    assert np.abs(loud - soft).max() < 1e-3


def test_the_level_falls_at_the_stated_rate_and_stops_at_the_floor() -> None:
    spec = LogMelSpec(decay_db_per_s=8.0, floor_dbfs=-40.0)
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000 * 8) / 16000)
    gain = np.where(np.arange(tone.size) < 16000, 1.0, 1e-2)  # 0 dB, then -40 dB
    top = log_mel((tone * gain).astype(np.float32), spec).max(axis=1)
    assert top[160] - top[100] == pytest.approx(8.0 * 60 / 80, abs=0.05)
    # A -43 dBFS tone under a floor of -40 dBFS never comes closer than 3 dB to the level.
    assert top[-1] == pytest.approx(top[40] - 3.0, abs=0.2)


def test_a_tone_lights_its_band() -> None:
    tone = (0.3 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 16000)).astype(np.float32)
    band = int(log_mel(tone, LogMelSpec())[20].argmax())
    centre_hz = np.arange(257) @ mel_filters(LogMelSpec())[:, band] / mel_filters(LogMelSpec())[:, band].sum()
    assert abs(centre_hz * 31.25 - 1000) < 50


def test_silence_is_the_clip_and_finite() -> None:
    frames = log_mel(np.zeros(4000, np.float32), LogMelSpec())
    np.testing.assert_array_equal(frames, np.full((20, 64), -60.0, np.float32))


def test_every_filter_holds_at_least_two_bins() -> None:
    assert ((mel_filters(LogMelSpec()) > 0).sum(axis=0) >= 2).all()


def test_spec_survives_json() -> None:
    plain = json.loads(json.dumps(SPEC.to_json()))
    assert plain["kind"] == "log_mel"
    assert LogMelSpec.from_json(plain) == SPEC


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "mfcc"}, "'log_mel', got 'mfcc'"),
        ({"colour": 1}, r"unknown fields \['colour'\]"),
        ({"mean": [0.0] * 3}, "64 finite numbers in mean, got 3"),
        ({"std": [0.0] * 64}, "positive numbers in std"),
        ({"hop": 600}, "hop <= window"),
        ({"high_hz": 9000.0}, "high_hz <= 8000"),
        ({"bands": "many"}, "log_mel"),
    ],
)
def test_a_spec_that_cannot_work_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LogMelSpec.from_json(SPEC.to_json() | change)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(10, np.int16), "int16.*to_mono_float32"),
        (np.zeros((10, 2), np.float32), r"\(10, 2\).*to_mono_float32"),
        (np.array([0.0, np.nan], np.float32), "sample 1 of 2 is nan"),
        (np.array([np.inf, 0.0], np.float32), "sample 0 of 2 is inf"),
        ([0.0, 1.0], "got list"),
    ],
)
def test_bad_samples_are_refused_and_nothing_is_lost(samples: NDArray[np.float32], message: str) -> None:
    good = voice_like(1.0)
    stream = LogMelStream(SPEC)
    first = stream.push(good[:5000])
    with pytest.raises(InputError, match=message):
        stream.push(samples)
    rest = stream.push(good[5000:])
    np.testing.assert_array_equal(np.concatenate([first, rest]), log_mel(good, SPEC))


def test_the_caller_may_reuse_its_buffer() -> None:
    samples = voice_like(0.5)
    stream = LogMelStream(SPEC)
    buffer = samples[:4100].copy()
    first = stream.push(buffer)
    buffer[:] = 1.0
    rest = stream.push(samples[4100:])
    np.testing.assert_array_equal(np.concatenate([first, rest]), log_mel(samples, SPEC))
