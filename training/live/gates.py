"""Learns when sound is worth listening to, and writes the thresholds into a checkpoint.

The last stage of ``edgeemo train live``; ``python -m edgeemo.training.live.gates --bundle BUNDLE --data DIR
--checkpoint DIR`` fits them again. First what a voice is (`voice_gate`). Then when a voice must not be used:
each threshold in turn is moved from where nothing crosses it to where readings of face, voice and words are
right most often, over all kinds and strengths of noise, and is the mildest with 90 % of that gain; one
without gain stays open. `benchmarks.gating` measures the result on people, faces and sentences that were
left out here.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle import Bundle
from edgeemo.quality.sound import SoundBlock
from edgeemo.quality.voice import BLOCK_S
from edgeemo.session.settings import Settings, settings_with
from edgeemo.session.states import State
from edgeemo.session.streams.hearing import Hearing
from edgeemo.training.augment.noise import KINDS
from edgeemo.training.live.gate_scenes import CLEAN, RATE_HZ, HeardHop, Item, heard_hops, matched_items
from edgeemo.training.live.picture_gates import fit_picture_thresholds
from edgeemo.training.live.voice_gate import Fitted, Progress, fit_voice_activity, voice_blocks

RATIOS_DB = (20, 10, 0, -5, -10, -15)
PER_LABEL = 6
_KEPT_GAIN = 0.9
_LEAST_GAIN = 1e-3  # in the share of right readings; less is chance with so few items
_WINDOW = 40  # blocks

log = logging.getLogger(__name__)

# From open to strict; the first value is crossed by next to nothing.
GRIDS: dict[str, tuple[float, ...]] = {
    "audio_crowd_range_db": (0.0, 6.0, 8.0, 10.0, 11.0, 12.0, 13.0, 14.0, 16.0, 18.0, 20.0),
    "audio_crowd_db": (99.0, 15.0, 12.0, 10.0, 8.0, 6.0, 5.0, 4.0),
    "audio_hum_lead_db": (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0),
    "audio_lead_db": (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0),
    "audio_clipped": (0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02),
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
    log.info("a voice: %s", found)
    items, talkers = matched_items(bundle, data, half=0, per_label=per_label)
    conditions = [CLEAN, *((kind, float(ratio)) for kind in KINDS for ratio in RATIOS_DB)]
    scenes = []
    for number, one in enumerate(heard_hops(bundle, items, talkers, conditions)):
        scenes.append(one)
        if progress is not None:
            progress("gates of sound", number + 1, len(items) * len(conditions))
    return found | fit_limits(Heard(scenes, item_weights(items)), settings_with(Settings(), found))


def fit_limits(heard: Heard, settings: Settings) -> Fitted:
    """Returns the limits that make readings right most often; ones that gain nothing stay open."""
    gates = []
    for blocks, _ in heard.scenes:
        gates.append(Hearing(RATE_HZ, settings, window_s=_WINDOW * BLOCK_S))
        gates[-1].take(blocks)
    opened = settings_with(settings, {name: grid[0] for name, grid in GRIDS.items()})
    found: Fitted = {}
    # The two of a crowd only work together: the one that is fitted second stands at its strictest before.
    current = replace(opened, audio_crowd_db=GRIDS["audio_crowd_db"][-3])
    for name, grid in GRIDS.items():
        scores = [right_share(heard, gates, settings_with(current, {name: value})) for value in grid]
        gain = max(scores) - scores[0]
        enough = scores[0] + _KEPT_GAIN * gain
        value = next(value for value, score in zip(grid, scores, strict=True) if score >= enough)
        if gain < _LEAST_GAIN:
            value = grid[0]
        log.info("%s: %s, right %s", name, value, [round(score, 4) for score in scores])
        found[name] = value
        current = settings_with(current, {name: value})
    return found


def right_share(heard: Heard, gates: Sequence[Hearing], settings: Settings) -> float:
    """Returns the mean over kinds and strengths of noise, the clean one too, of right readings.

    Args:
        heard: the scenes.
        gates: of each scene, with its blocks.
        settings: the limits to try.
    """
    sums: dict[tuple[str, float], NDArray[np.float64]] = {}
    for (_, hops), gate in zip(heard.scenes, gates, strict=True):
        gate.settings = settings
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


def fit_checkpoint(checkpoint: Path, data: Path, *, progress: Progress | None = None) -> Fitted:
    """Fits all thresholds with the engines of a checkpoint and writes them into it.

    Args:
        checkpoint: its folder; exported in int8 to a folder that does not stay.
        data: holds the data sets; only ``train``, ``val`` and ``dev`` are read.
        progress: called with (what, done, of how many).
    """
    from edgeemo.export import export_bundle

    with TemporaryDirectory() as folder:
        bundle = Bundle.open(export_bundle(checkpoint, Path(folder) / "bundle", variants=("int8",)).bundle)
        found = fit_gates(bundle, data, progress=progress)
        found |= fit_picture_thresholds(bundle, data, progress=progress)
    write_thresholds(checkpoint, found)
    return found


def write_thresholds(checkpoint: Path, thresholds: Fitted) -> None:
    """Writes thresholds into ``checkpoint.json``; those of other names that stand there stay."""
    file = checkpoint / "checkpoint.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    merged = {**content.get("thresholds", {}), **thresholds}
    content["thresholds"] = {name: round(float(merged[name]), 6) for name in sorted(merged)}
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m edgeemo.training.live.gates", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="of the checkpoint, with int8")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--checkpoint", type=Path, help="gets the thresholds; default: print them")
    parser.add_argument("--only", choices=("sound", "pictures"), help="default: both")
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)
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
