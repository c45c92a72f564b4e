"""Other throats, rooms, microphones and noises for a clip of speech: on samples and on frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Frames = NDArray[np.float32]

_EQ_POINTS = 8


def augment_voice(samples: Samples, rng: np.random.Generator, *, rate: int = 16000) -> Samples:
    """Returns the clip as another voice in another room through another microphone.

    Speed (and pitch with it), silence on both sides, reverberation, equalisation, coloured noise and
    gain, each drawn at random; the length changes, so it tells nothing about the clip.

    Args:
        samples: (N,) mono speech, peak at most 1.
        rng: source of every choice.
        rate: samples per second.

    Returns:
        (M,) mono float32, peak at most 1.
    """
    voice = samples.astype(np.float64)
    if rng.random() < 0.7:
        voice = change_speed(voice, float(np.exp(rng.normal(0.0, 0.09))))
    before, after = (rng.uniform(0.0, 0.6, 2) * rate).astype(int)
    voice = np.pad(voice, (int(before), int(after)))
    room = room_response(rng, rate=rate) if rng.random() < 0.5 else None
    curve_db = _microphone_db(rng) if rng.random() < 0.7 else None
    voice = _filter(voice, room, curve_db)
    if rng.random() < 0.85:
        voice = add_noise(voice, rng, snr_db=float(rng.uniform(3.0, 38.0)))
    peak = 10.0 ** (rng.uniform(-36.0, -1.0) / 20.0)
    voice *= peak / max(float(np.abs(voice).max()), 1e-9)
    if rng.random() < 0.05:  # an overdriven input
        voice = np.clip(voice, -0.4 * peak, 0.4 * peak)
    return voice.astype(np.float32)


def change_speed(samples: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Returns the clip played ``factor`` times as fast: tempo, pitch and formants move together."""
    positions = np.arange(0.0, len(samples) - 1, factor)
    faster: NDArray[np.float64] = np.interp(positions, np.arange(len(samples)), samples)
    return faster


def room_response(rng: np.random.Generator, *, rate: int = 16000) -> NDArray[np.float64]:
    """Returns an impulse response: the direct sound, then noise that decays by 60 dB in 0.1 to 0.8 s.

    The model is Polack's (exponentially decaying Gaussian noise); the direct sound is 0 to 15 dB
    above the rest.
    """
    decay_s = float(rng.uniform(0.1, 0.8))
    time_s = np.arange(int(min(decay_s, 0.5) * rate)) / rate
    tail = rng.normal(size=len(time_s)) * 10.0 ** (-3.0 * time_s / decay_s)
    tail[: int(rng.uniform(0.001, 0.02) * rate)] = 0.0
    tail *= 10.0 ** (-rng.uniform(0.0, 15.0) / 20.0) / np.sqrt(np.sum(tail**2) + 1e-12)
    tail[0] = 1.0
    return tail


def add_noise(
    samples: NDArray[np.float64], rng: np.random.Generator, *, snr_db: float
) -> NDArray[np.float64]:
    """Returns the clip in noise of a random colour, between white and brown, sometimes with hum.

    The ratio is taken against the loudest quarter of the clip, so that silence does not count.
    """
    count = len(samples)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    frequency = np.maximum(np.arange(len(spectrum)), 1.0 + 0.002 * len(spectrum))
    noise = np.fft.irfft(spectrum * frequency ** -float(rng.uniform(0.0, 1.2)), n=count)
    if rng.random() < 0.15:
        noise /= noise.std() + 1e-12
        turn = 2.0 * np.pi * np.arange(count) * rng.uniform(45.0, 250.0) / 16000.0
        noise += rng.uniform(0.3, 1.5) * np.sin(turn)
    power = np.sort(np.mean(samples[: count // 160 * 160].reshape(-1, 160) ** 2, axis=1))
    speech = np.mean(power[-max(1, len(power) // 4) :])
    scale = np.sqrt(speech / (np.mean(noise**2) + 1e-12)) * 10.0 ** (-snr_db / 20.0)
    noisy: NDArray[np.float64] = samples + scale * noise
    return noisy


def trim_silence(samples: Samples, *, rate: int = 16000, keep_s: float = 0.1) -> Samples:
    """Returns the clip without the silence around it, 35 dB under its loudest 10 ms or less."""
    step = rate // 100
    blocks = len(samples) // step
    if blocks == 0:
        return samples
    power = np.mean(samples[: blocks * step].reshape(blocks, step).astype(np.float64) ** 2, axis=1)
    loud = np.flatnonzero(power > power.max() * 10.0**-3.5)
    if len(loud) == 0:
        return samples
    start = max(0, int(loud[0]) * step - int(keep_s * rate))
    return samples[start : (int(loud[-1]) + 1) * step + int(keep_s * rate)]


def warp_frames(frames: Frames, rng: np.random.Generator) -> Frames:
    """Returns frames of a longer or shorter vocal tract and another tempo.

    Vocal tract length perturbation (Jaitly and Hinton, 2013) by interpolation between bands, tempo
    by interpolation between frames.

    Args:
        frames: (T, bands) in dB, any offset.
        rng: source of the two factors.

    Returns:
        (T', bands).
    """
    count, bands = frames.shape
    places = np.clip((np.arange(bands) + rng.normal(0.0, 1.0)) * np.exp(rng.normal(0.0, 0.05)), 0, bands - 1)
    low = np.minimum(places.astype(int), bands - 2)
    part = (places - low).astype(np.float32)
    warped = frames[:, low] * (1.0 - part) + frames[:, low + 1] * part
    moments = np.arange(0.0, count - 1, np.exp(rng.normal(0.0, 0.12)))
    first = moments.astype(int)
    share = (moments - first).astype(np.float32)[:, None]
    out: Frames = warped[first] * (1.0 - share) + warped[first + 1] * share
    return out


def tilt_frames(frames: Frames, rng: np.random.Generator, *, range_db: float = 60.0) -> Frames:
    """Returns frames through another microphone and after another level, clipped as the front-end clips.

    Args:
        frames: (T, bands) in dB relative to the level, in [-range_db, 0].
        rng: source of curve and level.
        range_db: of the front-end.
    """
    bands = frames.shape[1]
    points = rng.normal(0.0, 3.0, 5)
    curve = np.interp(np.arange(bands), np.linspace(0, bands - 1, 5), points - points.mean())
    shifted = frames + (curve - abs(rng.normal(0.0, 2.0))).astype(np.float32)
    floor_db = rng.uniform(-range_db, -35.0) if rng.random() < 0.3 else -range_db
    clipped: Frames = np.clip(shifted, np.float32(floor_db), np.float32(0.0))
    return clipped


def mask_frames(frames: Frames, rng: np.random.Generator) -> Frames:
    """Returns normalised frames with up to two stripes of time and of bands at their mean (SpecAugment)."""
    masked = frames.copy()
    count, bands = masked.shape
    for _ in range(int(rng.integers(0, 3))):
        width = int(rng.integers(1, 11))
        start = int(rng.integers(0, bands - width))
        masked[:, start : start + width] = 0.0
    for _ in range(int(rng.integers(0, 3))):
        width = int(rng.integers(1, 25))
        start = int(rng.integers(0, max(1, count - width)))
        masked[start : start + width] = 0.0
    return masked


def _microphone_db(rng: np.random.Generator) -> NDArray[np.float64]:
    """Returns gains in dB at points spread over the spectrum; sometimes a narrow-band line."""
    gains = rng.normal(0.0, 4.0, _EQ_POINTS)
    if rng.random() < 0.2:
        gains[int(rng.integers(4, _EQ_POINTS)) :] -= 40.0
    return gains


def _filter(
    samples: NDArray[np.float64], room: NDArray[np.float64] | None, curve_db: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    if room is None and curve_db is None:
        return samples
    size = len(samples) + (len(room) if room is not None else 0)
    size = 1 << (size - 1).bit_length()
    spectrum = np.fft.rfft(samples, n=size)
    if room is not None:
        spectrum *= np.fft.rfft(room, n=size)
    if curve_db is not None:
        # Points lie evenly on a square-root frequency scale, dense where speech is.
        place = np.sqrt(np.linspace(0.0, 1.0, len(spectrum))) * (len(curve_db) - 1)
        spectrum *= 10.0 ** (np.interp(place, np.arange(len(curve_db)), curve_db) / 20.0)
    return np.fft.irfft(spectrum, n=size)[: len(samples)]
