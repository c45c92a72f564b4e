"""A made-up voice: syllables of a gliding pitch with overtones, pauses between words, a little breath."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def made_voice(
    seconds: float, *, rate_hz: int = 16000, seed: int = 0, level: float = 0.1, noise: float = 1e-3
) -> NDArray[np.float32]:
    """Returns (N,) mono samples; no two stretches of them are the same.

    Args:
        seconds: length.
        rate_hz: samples a second.
        seed: of pitch, words and noise.
        level: root mean square of the voice while it speaks.
        noise: root mean square of the room's white noise.
    """
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    pitch_hz = rng.uniform(110, 220) * np.exp(0.15 * np.sin(2 * np.pi * 0.7 * time_s + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / rate_hz
    tones = sum(np.sin(k * phase) / k for k in range(1, 15)) + np.zeros(len(time_s))
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * time_s + rng.uniform(0, 6)), 0, 1)
    words = np.sin(2 * np.pi * 0.45 * time_s + rng.uniform(0, 3)) > -0.8
    voice = tones * syllables * words
    spoken = np.abs(voice) > 1e-6
    voice *= level / max(float(np.sqrt(np.mean(voice[spoken] ** 2))) if spoken.any() else 0.0, 1e-9)
    samples: NDArray[np.float32] = (voice + noise * rng.standard_normal(len(time_s))).astype(np.float32)
    return samples
