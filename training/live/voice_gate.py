"""Learns what a voice is: the weakest demands that rooms without one hardly ever meet.

On the train people: voices in pink and white noise and hum of 20 to 0 dB are found as often as may be, while
rooms that hum, hiss, are switched on or knocked in pass for a voice in at most 1 % of the readings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from edgeemo.datasets.speech import SPEECH_CORPORA, read_speech
from edgeemo.quality.sound import SoundBlock, SoundQuality, is_voiced
from edgeemo.training.augment.noise import KINDS, Samples, room_noise, scene
from edgeemo.training.live.gate_scenes import RATE_HZ

VOICES = 60  # clips
_FALSE_ALARMS = 0.01
_WINDOW = 40  # blocks

Progress = Callable[[str, int, int], None]
Fitted = dict[str, float]


def voice_blocks(
    data: Path, *, clips: int = VOICES, progress: Progress | None = None
) -> tuple[list[list[SoundBlock]], list[list[SoundBlock]]]:
    """Returns blocks of voices in noise of 20 to 0 dB, while they speak, and of rooms without a voice.

    The rooms hum, hiss, are switched on after two seconds, and somebody knocks in them.
    """
    rng = np.random.default_rng(47)
    spoken, empty = [], []
    for name in SPEECH_CORPORA:
        with read_speech(data / name, "train") as corpus:
            rows = rng.choice(len(corpus), clips // len(SPEECH_CORPORA), replace=False)
            for done, row in enumerate(rows):
                clip = corpus.samples(int(row), RATE_HZ)
                for kind, ratio_db in product(("pink", "white", "hum"), (20, 10, 5, 0)):
                    heard = scene(clip, kind, ratio_db, rng, tail_s=0.0)
                    blocks = SoundQuality(RATE_HZ).push(heard.samples)
                    spoken.append(blocks[round(heard.starts_s * 10) + 5 :])
                if progress is not None:
                    progress(f"voices of {name}", done + 1, len(rows))
    for kind, number in product(("pink", "white", "hum", "switched on", "knocks"), range(clips // 3)):
        empty.append(SoundQuality(RATE_HZ).push(empty_room(kind, np.random.default_rng([number, 53]))))
    return spoken, empty


def empty_room(kind: str, rng: np.random.Generator, *, seconds: float = 10.0) -> Samples:
    """Returns a room in which nobody speaks: noise of a kind, switched on after 2 s, or with knocks."""
    count = round(seconds * RATE_HZ)
    level = 10 ** (rng.uniform(-55, -25) / 20)
    noise = level * room_noise(kind if kind in KINDS else "pink", count, rng)
    if kind == "switched on":
        noise[: 2 * RATE_HZ] *= 10 ** (-rng.uniform(10, 30) / 20)
    if kind == "knocks":
        at = int(rng.uniform(0.5, 1.5) * RATE_HZ)
        while at < count - 2000:
            height, decay = level * 10 ** (rng.uniform(20, 35) / 20), rng.uniform(30, 300)
            noise[at : at + 2000] += height * rng.standard_normal(2000) * np.exp(-np.arange(2000) / decay)
            at += int(rng.uniform(0.4, 2.0) * RATE_HZ)
    samples: Samples = noise.clip(-1, 1).astype(np.float32)
    return samples


def fit_voice_activity(spoken: Sequence[list[SoundBlock]], empty: Sequence[list[SoundBlock]]) -> Fitted:
    """Returns the demands on a voice that find most of the voices at 1 % of false alarms."""
    best, chosen = -1.0, Fitted()
    for excess_db, harmonicity, least in product(
        (4.0, 5.0, 5.5, 6.0, 7.0, 8.0), (0.2, 0.25, 0.3, 0.35, 0.4), (2, 3, 4)
    ):
        false_alarms, found = (
            detection_rate(group, excess_db, harmonicity, least) for group in (empty, spoken)
        )
        if false_alarms <= _FALSE_ALARMS and found > best:
            best = found
            chosen = {
                "voice_excess_db": excess_db,
                "voice_harmonicity": harmonicity,
                "voice_least_s": least / 10,
            }
    return chosen


def detection_rate(
    groups: Sequence[list[SoundBlock]], excess_db: float, harmonicity: float, least: int
) -> float:
    """Returns in how many windows of 4 s, one every half second, there are `least` voiced blocks."""
    rates = []
    for blocks in groups:
        voiced = np.array([is_voiced(b, excess_db=excess_db, harmonicity=harmonicity) for b in blocks])
        sums = np.concatenate([[0], np.cumsum(voiced)])
        ends = np.arange(10, len(blocks) + 1, 5)
        rates += list(sums[ends] - sums[np.maximum(0, ends - _WINDOW)] >= least)
    return float(np.mean(rates)) if rates else 0.0
