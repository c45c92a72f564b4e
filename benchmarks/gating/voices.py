"""How often voices are found and rooms taken for voices, at every strength of noise."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.report import Table
from edgeemo.datasets.speech import SPEECH_CORPORA, read_speech
from edgeemo.quality.sound import SoundQuality, is_voiced
from edgeemo.session.settings import Settings
from edgeemo.training.augment.noise import scene
from edgeemo.training.live.voice_gate import empty_room

CLIPS = 24
ROOMS = 20
KINDS = ("pink", "white", "hum")
RATIOS_DB = (40, 20, 10, 5, 0, -5)
EMPTY = ("pink", "white", "hum", "switched on", "knocks")
_RATE_HZ, _WINDOW, _SOON = 16000, 40, 10


def measure(data: Path, settings: Settings) -> tuple[dict[str, object], list[Table]]:
    """Returns misses on val people while they speak, and false alarms in rooms where nobody does.

    Args:
        data: holds the speech corpora.
        settings: what a voice is.
    """
    misses: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
    heard: dict[tuple[str, int], list[bool]] = {key: [] for key in product(KINDS, RATIOS_DB)}
    rng = np.random.default_rng(59)
    for name in SPEECH_CORPORA:
        with read_speech(data / name, "val") as corpus:
            for row in rng.choice(len(corpus), CLIPS // len(SPEECH_CORPORA), replace=False):
                clip = corpus.samples(int(row), _RATE_HZ)
                for kind, ratio_db in heard:
                    made = scene(clip, kind, ratio_db, rng, tail_s=0.0)
                    starts = round(made.starts_s * 10) + _SOON
                    heard[kind, ratio_db] += windows(made.samples, settings)[starts::5]
    for (kind, ratio_db), found in heard.items():
        misses[kind][str(ratio_db)] = 1 - float(np.mean(found))
    alarms = {
        kind: float(
            np.mean(
                [
                    said
                    for number in range(ROOMS)
                    for said in windows(empty_room(kind, np.random.default_rng([number, 61])), settings)[9::5]
                ]
            )
        )
        for kind in EMPTY
    }
    table = Table(
        "Voices missed",
        f"Part of the readings, from one second after a clip begins until it ends, in whose window no voice "
        f"is found; {CLIPS} clips of val people. Ratio of voice to noise in dB, 40 is a quiet room.",
        ("noise", *(f"{ratio} dB" for ratio in RATIOS_DB)),
        [(kind, *(f"{rate:.1%}" for rate in row.values())) for kind, row in misses.items()],
    )
    rooms = Table(
        "Rooms taken for voices",
        f"Part of the readings of {ROOMS} rooms of 10 s each, -55 to -25 dBFS loud, in whose window a voice "
        "is found although nobody speaks. Switched on: 10 to 30 dB louder from the third second on.",
        ("room", "false alarms"),
        [(kind, f"{rate:.1%}") for kind, rate in alarms.items()],
    )
    return {"misses": misses, "false_alarms": alarms}, [table, rooms]


def windows(samples: np.ndarray, settings: Settings) -> list[bool]:
    """Returns for each tenth of a second whether the four seconds before its end hold a voice."""
    voiced = [
        is_voiced(block, excess_db=settings.voice_excess_db, harmonicity=settings.voice_harmonicity)
        for block in SoundQuality(_RATE_HZ).push(samples)
    ]
    least = settings.voice_least_s * 10 - 1e-6
    return [sum(voiced[max(0, end - _WINDOW) : end]) >= least for end in range(1, len(voiced) + 1)]
