"""Train a model with a modality of your own, a heart rate beside words, and export its three engines.

python samples/new_modality/train_heart.py my_bundle
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from heart_model import HEART, LABELS, POSITIONS, WORDS, describe, make_network

import edgeemo
from edgeemo.export import export_bundle
from edgeemo.features.series import series_items
from edgeemo.features.text import text_window
from edgeemo.training import CheckpointInfo, Windows, save_checkpoint

SAID = (["all is quiet", "time to rest now", "a slow day"], ["wow look at that", "run it is great", "hooray"])
SUBSETS = (("heart_rate",), ("text",), ("heart_rate", "text"))


def main() -> None:
    """Makes people up, trains for some seconds, saves and exports."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("bundle", help="folder to write; the checkpoint goes beside it")
    out = parser.parse_args().bundle

    rng = np.random.default_rng(0)
    excited = rng.integers(0, 2, 512)
    times_s = np.arange(POSITIONS + 1)  # the last sample completes the slot before it
    beats = [series_items(rng.normal(68 + 50 * y, 8, len(times_s)), times_s, HEART) for y in excited]
    ids, heard = zip(*[text_window(rng.choice(SAID[y]).item(), WORDS) for y in excited], strict=True)
    items = {"heart_rate": np.stack(beats), "text": np.stack(ids)}  # (512, 8, 1) each
    masks = {"heart_rate": np.ones((512, POSITIONS), np.float32), "text": np.stack(heard)}

    stems, trunk = make_network()
    seen = {name: stems[name](torch.from_numpy(items[name])).detach() for name in stems}
    valid = {name: torch.from_numpy(mask) for name, mask in masks.items()}
    optimizer = torch.optim.Adam(trunk.parameters(), 0.05)
    for step in range(600):
        subset = SUBSETS[step % len(SUBSETS)]  # each sensor must do alone, too
        optimizer.zero_grad()
        logits = trunk({name: seen[name] for name in subset}, valid)
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(excited)).backward()
        optimizer.step()

    licence = {"weights": "CC0-1.0", "non_commercial": False, "notice": "trained on made-up people"}
    info = CheckpointInfo("heart", "sum of heads", LABELS, hop_s=0.5, data=[], licence=licence)
    windows = Windows({name: x.numpy() for name, x in seen.items()}, masks)
    save_checkpoint(trunk, f"{out}.checkpoint", describe(stems, items), info, windows)
    export_bundle(f"{out}.checkpoint", out)
    print(edgeemo.Bundle.open(out))


if __name__ == "__main__":
    main()
