"""Ship a network of your own: any PyTorch module that answers for the sensors that are there.

python samples/custom_network.py my_bundle
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import edgeemo
from edgeemo import training
from edgeemo.export import export_bundle
from edgeemo.features.face import FaceSpec

LABELS, WIDTH, POSITIONS = ("neutral", "happy", "sad"), 8, 16


def make_network() -> tuple[Any, Any]:
    """Returns a stem, crops (B, n, 48, 48) to features (B, n, 8), and the network behind it; train yours."""
    from torch import nn

    class Trunk(nn.Module):  # type: ignore[misc]  # torch may be absent where types are checked
        def __init__(self) -> None:
            super().__init__()
            self.heads = nn.ModuleDict({"video": nn.Linear(WIDTH, len(LABELS))})

        def forward(self, features: dict[str, Any], masks: dict[str, Any]) -> Any:
            valid = {m: masks[m][..., None] for m in features}
            return sum(self.heads[m]((x * valid[m]).sum(1) / valid[m].sum(1)) for m, x in features.items())

    return nn.Sequential(nn.Flatten(2), nn.Linear(48 * 48, WIDTH)), Trunk()


def main() -> None:
    """Saves, exports and looks at the engines."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("bundle", help="folder to write; the checkpoint goes beside it")
    out = parser.parse_args().bundle
    (stem, trunk), rng = make_network(), np.random.default_rng(0)
    crops = rng.normal(size=(64, 1, 48, 48)).astype(np.float32)
    video = training.ModalityPart(
        "video", FaceSpec().to_json(), stem, width=WIDTH, length=POSITIONS, period_s=0.25, window_s=4.0,
        item_shape=(48, 48), examples=crops[:4], calibration=crops,  # which could be training data
    )  # fmt: skip
    seen = rng.normal(size=(256, POSITIONS, WIDTH)).astype(np.float32)  # what the stem makes of your data
    windows = training.Windows({"video": seen}, {"video": np.ones(seen.shape[:2], np.float32)})
    licence = {"weights": "none", "non_commercial": False, "notice": "not trained"}
    info = training.CheckpointInfo("mine", "means", LABELS, hop_s=0.5, data=[], licence=licence)
    training.save_checkpoint(trunk, f"{out}.checkpoint", [video], info, windows)
    export_bundle(f"{out}.checkpoint", out)
    print(edgeemo.Bundle.open(out))


if __name__ == "__main__":
    main()
