"""What every graph of a bundle answers here, for comparison with another onnxruntime; needs numpy alone.

python engine_answers.py BUNDLE ANSWERS.npz
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edgeemo.bundle import Bundle, GraphFile
from edgeemo.modality import subset_members
from edgeemo.runtimes import OrtRunner

ROWS = 16


def answers_of(bundle: Bundle) -> dict[str, NDArray[np.float32]]:
    """Every output of every engine and stem on the bundle's reference windows, one by one."""
    reference = bundle.reference()
    found: dict[str, NDArray[np.float32]] = {}
    for subset, variants in bundle.manifest.engines.items():
        feed = {
            f"{kind}.{m}": reference[f"{kind}.{m}"].astype(np.float32)
            for m in subset_members(subset)
            for kind in ("features", "mask")
        }
        for variant in variants:
            found |= run_each(bundle.read_engine(subset, variant), f"{subset}/{variant}", feed)
    for modality, variants in bundle.manifest.stems.items():
        items = {f"input.{modality}": reference[f"stem.{modality}.input"]}
        for variant in variants:
            found |= run_each(bundle.read_stem(modality, variant), f"{modality}/{variant}", items)
    return found


def run_each(graph: GraphFile, name: str, feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    count = min(ROWS, *(len(array) for array in feed.values()))
    with OrtRunner(graph) as runner:
        rows = [runner.run({key: array[i : i + 1] for key, array in feed.items()}) for i in range(count)]
    return {f"{name}/{key}": np.concatenate([row[key] for row in rows]) for key in rows[0]}


if __name__ == "__main__":
    np.savez(sys.argv[2], **answers_of(Bundle.open(sys.argv[1])))  # type: ignore[arg-type]  # names are free
