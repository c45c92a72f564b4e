"""Learns when sound is worth listening to, and writes the thresholds into a checkpoint.

``python -m edgeemo.training.live.gates --bundle BUNDLE --data DIR --checkpoint DIR``. First what a voice is:
the weakest demands that room noise of any kind meets in at most 1 % of its windows, on the train people.
Then when a voice must not be used: each threshold in turn is moved from where nothing crosses it to where
readings of face, voice and words are right most often, over all kinds and strengths of noise, and is the
mildest with 90 % of that gain; one without gain stays open. `benchmarks.gating` measures the result on
people, faces and sentences that were left out here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle import Bundle
from edgeemo.datasets.speech import SPEECH_CORPORA, read_speech
from edgeemo.quality.sound import SoundBlock, SoundQuality, is_voiced
from edgeemo.session.settings import Settings, settings_with
from edgeemo.session.states import State
from edgeemo.session.streams.hearing import Hearing
from edgeemo.training.augment.noise import KINDS, Samples, room_noise, scene
from edgeemo.training.live.gate_scenes import CLEAN, RATE_HZ, HeardHop, Item, heard_hops, matched_items

RATIOS_DB = (20, 10, 5, 0, -5, -10, -15)
PER_LABEL = 10
VOICES = 60  # clips of the train people
_FALSE_ALARMS = 0.01
_KEPT_GAIN = 0.9
_WINDOW = 40  # blocks

Progress = Callable[[str, int, int], None]
Fitted = dict[str, float]

# From open to strict; the first value is crossed by nothing.
GRIDS: dict[str, tuple[float, ...]] = {
    "audio_noise_excess_db": (99.0, 30.0, 24.0, 20.0, 16.0, 12.0, 8.0),
    "audio_crowd_range_db": (0.0, 6.0, 8.0, 10.0, 11.0, 12.0, 13.0, 14.0, 16.0, 18.0, 20.0),
    "audio_crowd_db": (99.0, 15.0, 12.0, 10.0, 8.0, 6.0, 5.0, 4.0),
    "audio_hum_lead_db": (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0),
    "audio_lead_db": (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0),
    "audio_clipped": (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02),
}


@dataclass(frozen=True)
class Heard:
    """Everything that was heard once, to try thresholds on.

    Attributes:
        scenes: blocks and hops of every scene.
        weights: of every item.
    """

    scenes: Sequence[tuple[list[SoundBlock], list[HeardHop]]]
    weights: NDArray[np.float64]


def fit_gates(
    bundle: Bundle, data: Path, *, per_label: int = PER_LABEL, progress: Progress | None = None
) -> Fitted:
    """Returns the thresholds of sound, by the names of `Settings`.

    Args:
        bundle: the model, in int8.
        data: holds the data sets; only ``train``, ``val`` and ``dev`` are read.
        per_label: items of each label that gates are fitted on.
        progress: called with (what, scenes done, scenes).
    """
    found = fit_voice_activity(*voice_blocks(data, progress=progress))
    items, talkers = matched_items(bundle, data, half=0, per_label=per_label)
    conditions = [CLEAN, *((kind, float(ratio)) for kind in KINDS for ratio in RATIOS_DB)]
    scenes = []
    for number, one in enumerate(heard_hops(bundle, items, talkers, conditions)):
        scenes.append(one)
        if progress is not None:
            progress("gates of sound", number + 1, len(items) * len(conditions))
    return found | fit_limits(Heard(scenes, item_weights(items)), settings_with(Settings(), found))


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
            height = level * 10 ** (rng.uniform(20, 35) / 20)
            noise[at : at + 2000] += height * rng.standard_normal(2000) * np.exp(-np.arange(2000) / 200)
            at += int(rng.uniform(0.4, 2.0) * RATE_HZ)
    samples: Samples = noise.clip(-1, 1).astype(np.float32)
    return samples


def fit_voice_activity(spoken: Sequence[list[SoundBlock]], empty: Sequence[list[SoundBlock]]) -> Fitted:
    """Returns the demands on a voice that find most of the voices at 1 % of false alarms."""
    best, chosen = -1.0, Fitted()
    for excess_db, harmonicity, least in product(
        (4.0, 5.0, 5.5, 6.0, 7.0, 8.0), (0.3, 0.35, 0.4, 0.45), (1, 2, 3, 4)
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


def fit_limits(heard: Heard, settings: Settings) -> Fitted:
    """Returns the limits that make readings right most often; ones that gain nothing stay open."""
    opened = settings_with(settings, {name: grid[0] for name, grid in GRIDS.items()})
    found: Fitted = {}
    # The two of a crowd only work together: the one that is fitted second stands at its strictest before.
    current = replace(opened, audio_crowd_db=GRIDS["audio_crowd_db"][-3])
    for name, grid in GRIDS.items():
        scores = [right_share(heard, settings_with(current, {name: value})) for value in grid]
        gain = max(scores) - scores[0]
        enough = scores[0] + _KEPT_GAIN * gain
        value = next(value for value, score in zip(grid, scores, strict=True) if score >= enough)
        if gain < 1e-4:
            value = grid[0]
        found[name] = value
        current = settings_with(current, {name: value})
    return found


def right_share(heard: Heard, settings: Settings) -> float:
    """Returns the mean over kinds and strengths of noise, the clean one too, of right readings."""
    sums: dict[tuple[str, float], NDArray[np.float64]] = {}
    for blocks, hops in heard.scenes:
        gate = Hearing(RATE_HZ, settings, window_s=4.0)
        gate.take(blocks)
        for hop in hops:
            live = gate.usability(hop.blocks, hop.filled_s).state is State.LIVE
            weight = heard.weights[hop.item]
            right = hop.with_voice if live else hop.without
            total = sums.setdefault((hop.kind, hop.ratio_db), np.zeros(2))
            total += (weight * right, weight)
    return float(np.mean([right / weight for right, weight in sums.values()]))


def item_weights(items: Sequence[Item]) -> NDArray[np.float64]:
    """Returns (N,) how much each item counts."""
    return np.array([item.weight for item in items])


def write_thresholds(checkpoint: Path, thresholds: Fitted) -> None:
    """Writes thresholds into ``checkpoint.json``; those of other names that stand there stay."""
    file = checkpoint / "checkpoint.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    merged = {**content.get("thresholds", {}), **thresholds}
    content["thresholds"] = {name: round(float(merged[name]), 6) for name in sorted(merged)}
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> int:
    """Runs the command line."""
    from edgeemo.training.live.picture_gates import fit_picture_thresholds

    parser = argparse.ArgumentParser(prog="python -m edgeemo.training.live.gates", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="of the checkpoint, with int8")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--checkpoint", type=Path, help="gets the thresholds; default: print them")
    parser.add_argument("--only", choices=("sound", "pictures"), help="default: both")
    args = parser.parse_args()
    bundle = Bundle.open(args.bundle)
    found: Fitted = {}
    if args.only != "pictures":
        found |= fit_gates(bundle, args.data)
    if args.only != "sound":
        found |= fit_picture_thresholds(bundle, args.data)
    print(json.dumps(found, indent=1))
    if args.checkpoint is not None:
        write_thresholds(args.checkpoint, found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
