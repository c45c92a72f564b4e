"""Rooms to hear a voice in: noise of known kind and strength, before, under and after what is said.

`augment.voice` makes training data varied; this makes it known, for thresholds and for measuring. The
ratio of voice to noise is always against the loudest quarter of the clip, so that silence does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeemo.training.augment.voice import trim_silence

Samples = NDArray[np.float32]

KINDS = ("pink", "white", "babble", "hum", "burst", "clipping")
RATIOS_DB = (20, 10, 5, 0, -5)
QUIET_ROOM_DB = 40.0  # pink noise of every room, this far below the voice
TALKERS = 4
BURST_S = 4.0  # of white noise that begins in the middle of the clip
_LOWEST_HZ = 50.0  # what is lower, no microphone of a device hears


@dataclass(frozen=True)
class Scene:
    """A voice in a room.

    Attributes:
        samples: (N,) mono float32 in [-1, 1].
        starts_s: when the clip begins.
        ends_s: when it ends.
    """

    samples: Samples
    starts_s: float
    ends_s: float


def scene(
    clip: Samples,
    kind: str,
    ratio_db: float,
    rng: np.random.Generator,
    *,
    lead_s: float = 3.0,
    tail_s: float = 2.5,
    loud_dbfs: float = -20.0,
    talkers: Sequence[Samples] = (),
    rate_hz: int = 16000,
) -> Scene:
    """Returns a clip with the noise of a room before, under and after it.

    Every room is a little noisy, 40 dB below the voice. A burst is white noise of 4 s from the middle of the
    clip on. Clipping has full scale lie `ratio_db` above the
    level of the loudest quarter; the other kinds are added, and the sum kept off full scale.

    Args:
        clip: (N,) mono speech.
        kind: one of `KINDS`.
        ratio_db: voice to noise, or full scale to voice.
        rng: source of the noise.
        lead_s: of room before the clip.
        tail_s: of room after it.
        loud_dbfs: level of the loudest quarter of the clip.
        talkers: clips to make babble of; needed for it alone.
        rate_hz: of everything.
    """
    before, after = round(lead_s * rate_hz), round(tail_s * rate_hz)
    voice = np.pad(clip.astype(np.float64), (before, after))
    loud_dbfs = -ratio_db if kind == "clipping" else loud_dbfs
    level = 10 ** (loud_dbfs / 20)
    voice *= level / max(loud_level(clip, rate_hz=rate_hz), 1e-9)
    heard = voice + level * 10 ** (-QUIET_ROOM_DB / 20) * room_noise("pink", len(voice), rng, rate_hz=rate_hz)
    if kind != "clipping":
        noise = room_noise(kind, len(voice), rng, talkers, rate_hz=rate_hz)
        if kind == "burst":
            begins = before + len(clip) // 2
            noise[:begins] = noise[begins + round(BURST_S * rate_hz) :] = 0.0
        heard += level * 10 ** (-ratio_db / 20) * noise
    if kind != "clipping":
        heard *= min(1.0, 0.95 / max(float(np.abs(heard).max()), 1e-9))
    starts_s = before / rate_hz
    samples: Samples = np.clip(heard, -1.0, 1.0).astype(np.float32)
    return Scene(samples, starts_s, starts_s + len(clip) / rate_hz)


def room_noise(
    kind: str,
    count: int,
    rng: np.random.Generator,
    talkers: Sequence[Samples] = (),
    *,
    rate_hz: int = 16000,
) -> NDArray[np.float64]:
    """Returns (count,) noise with a mean square of 1.

    Args:
        kind: ``"pink"``, ``"white"`` or ``"burst"`` (white), ``"babble"`` (four other voices at once), or
            ``"hum"`` (50 or 60 Hz with harmonics).
        count: samples.
        rng: source of all chance.
        talkers: clips to make babble of.
        rate_hz: samples a second.
    """
    if kind in ("white", "burst"):
        noise = rng.standard_normal(count)
    elif kind == "babble":
        noise = sum(_talk(talkers, count, rng) for _ in range(TALKERS)) + np.zeros(count)
    elif kind == "hum":
        noise = _hum(count, rng, rate_hz)
    else:
        spectrum = np.fft.rfft(rng.standard_normal(count))
        lowest = max(_LOWEST_HZ * count / rate_hz, 1.0)
        noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), lowest)), n=count)
    scaled: NDArray[np.float64] = noise / max(float(np.sqrt(np.mean(noise**2))), 1e-12)
    return scaled


def loud_level(clip: Samples, *, rate_hz: int = 16000) -> float:
    """Returns the root mean square of the loudest quarter of a clip, by pieces of 10 ms."""
    step = rate_hz // 100
    power = np.mean(clip[: len(clip) // step * step].astype(np.float64).reshape(-1, step) ** 2, axis=1)
    return float(np.sqrt(np.mean(np.sort(power)[-max(1, len(power) // 4) :])))


def _talk(talkers: Sequence[Samples], count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Returns one voice that says clip after clip, every one equally loud."""
    said = np.zeros(count)
    at = -int(rng.integers(0, 16000))
    while at < count:
        clip = trim_silence(talkers[int(rng.integers(len(talkers)))], keep_s=0.05).astype(np.float64)
        clip = clip / max(float(np.sqrt(np.mean(clip**2))), 1e-9)
        start, stop = max(at, 0), min(at + len(clip), count)
        if stop > start:
            said[start:stop] = clip[start - at : stop - at]
        at += max(len(clip), 1)
    return said


def _hum(count: int, rng: np.random.Generator, rate_hz: int) -> NDArray[np.float64]:
    """Returns the mains: 50 or 60 Hz and eleven harmonics that grow weaker, steady."""
    mains_hz = float(rng.choice([50.0, 60.0])) * (1 + rng.normal(0.0, 5e-4))
    time_s = np.arange(count) / rate_hz
    hum = np.zeros(count)
    for harmonic in range(1, 13):
        strength = rng.uniform(0.3, 1.0) / harmonic
        hum += strength * np.sin(2 * np.pi * harmonic * mains_hz * time_s + rng.uniform(0, 2 * np.pi))
    return hum
