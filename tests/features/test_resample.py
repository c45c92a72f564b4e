"""The resampler: exact lengths, the right tone, nothing aliased, the same numbers for every chunking."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeemo.errors import InputError
from edgeemo.features.resample import Resampler, to_mono_float32

RATES = [8000, 11025, 16000, 22050, 32000, 44100, 44101, 48000, 96000]


def resampled(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    resampler = Resampler(rate)
    return np.concatenate([resampler.push(samples), resampler.flush()])


def sine(hz: float, rate: int, seconds: float) -> NDArray[np.float32]:
    return np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
def test_every_chunking_gives_the_same_bits(rate: int) -> None:
    rng = np.random.default_rng(rate)
    samples = rng.normal(size=rate // 2 + 13).astype(np.float32) * np.float32(0.1)
    whole = resampled(samples, rate)
    assert whole.size == -(-samples.size * 16000 // rate)
    for most in (50, 700, 9000):
        resampler = Resampler(rate)
        cuts = np.cumsum(rng.integers(0, most, samples.size // most * 2))
        parts = [resampler.push(part) for part in np.split(samples, cuts[cuts < samples.size])]
        np.testing.assert_array_equal(np.concatenate([*parts, resampler.flush()]), whole)


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_keeps_its_pitch_phase_and_level(rate: int) -> None:
    out = resampled(sine(1000.0, rate, 0.5), rate)
    expected = sine(1000.0, 16000, 0.5)[: out.size]
    # Windowed-sinc ripple: 7 in the Kaiser window keeps it near 70 dB down, 3e-4.
    assert np.abs(out[: expected.size] - expected)[200:-200].max() < 3e-4


@pytest.mark.parametrize("hz", [8400.0, 10000.0, 15000.0, 23000.0])
def test_what_would_alias_is_gone(hz: float) -> None:
    assert np.abs(resampled(sine(hz, 48000, 0.3), 48000)[200:-200]).max() < 1e-3


def test_no_drift_over_many_chunks() -> None:
    resampler = Resampler(44100)
    count = sum(resampler.push(np.zeros(441, np.float32)).size for _ in range(3000))
    assert 0 <= 3000 * 160 - count <= 34  # the 2 ms that the filter still waits for, and no more


def test_flush_resets() -> None:
    resampler = Resampler(44100)
    samples = sine(440.0, 44100, 0.2)
    first = np.concatenate([resampler.push(samples), resampler.flush()])
    second = np.concatenate([resampler.push(samples), resampler.flush()])
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (0, "from 4000 to 384000 Hz, got 0"),
        (44100.5, "whole number"),
        (True, "whole number"),
        (10**7, "got 10"),
    ],
)
def test_a_rate_that_cannot_be_is_refused(rate: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Resampler(rate)


def test_bad_samples_are_refused_and_nothing_is_lost() -> None:
    samples = sine(440.0, 48000, 0.2)
    resampler = Resampler(48000)
    first = resampler.push(samples[:5000])
    with pytest.raises(InputError, match="nan"):
        resampler.push(np.full(10, np.nan, np.float32))
    rest = np.concatenate([resampler.push(samples[5000:]), resampler.flush()])
    np.testing.assert_array_equal(np.concatenate([first, rest]), resampled(samples, 48000))


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([-32768, 0, 16384], np.int16), [-1.0, 0.0, 0.5]),
        (np.array([-(2**31), 0, 2**30], np.int32), [-1.0, 0.0, 0.5]),
        (np.array([0, 128, 192], np.uint8), [-1.0, 0.0, 0.5]),
        (np.array([-1.0, 0.25]), [-1.0, 0.25]),
        (np.array([[0.5, -0.5], [1.0, 0.0]], np.float32), [0.0, 0.5]),
        (np.array([[32767, -32767], [16384, 0]], np.int16), [0.0, 0.25]),
    ],
)
def test_every_sample_type_becomes_mono_float32(samples: NDArray[np.generic], expected: list[float]) -> None:
    mono = to_mono_float32(samples)
    assert mono.dtype == np.float32
    np.testing.assert_allclose(mono, expected, atol=1e-7)


def test_the_result_is_never_a_view() -> None:
    samples = np.zeros(4, np.float32)
    to_mono_float32(samples)[:] = 1.0
    assert not samples.any()


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 48000), np.float32), r"\(channels, N\) needs .T"),
        (np.zeros((2, 2, 2), np.float32), r"\(2, 2, 2\)"),
        (np.array([12000.0, 3.0]), "divide 16-bit values by 32768"),
        (np.array([1 + 1j]), "complex128 is unknown"),
        (np.array([np.nan], np.float32), "nan"),
    ],
)
def test_what_is_no_sound_is_refused(samples: NDArray[np.generic], message: str) -> None:
    with pytest.raises(InputError, match=message):
        to_mono_float32(samples)
