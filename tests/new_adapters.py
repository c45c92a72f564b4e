"""Adapters for the tiny checkpoint as a later training might leave them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle import bytes_from_tensors, read_tensors
from edgeemo.export import Checkpoint
from edgeemo.export.adapters.unmerged import unmerged_answers

TINY = Path(__file__).parent / "data" / "tiny_checkpoint"


def new_adapter(folder: Path, name: str, *, seed: int = 1, base: Path = TINY) -> Path:
    """Writes an adapter of the same ranks with other numbers and returns its folder."""
    shutil.copytree(base / "adapters" / name, folder)
    rng = np.random.default_rng(seed)
    place = folder / "adapter_model.safetensors"
    tensors = {
        key: (array + 0.5 * rng.standard_normal(array.shape) * array.std()).astype(np.float32)
        for key, array in read_tensors(place).items()
    }
    place.write_bytes(bytes_from_tensors(tensors))
    return folder


def change_tensor(folder: Path, side: str, change: Any) -> None:
    """Replaces the first lora_A or lora_B of an adapter."""
    place = folder / "adapter_model.safetensors"
    tensors = dict(read_tensors(place))
    key = next(key for key in sorted(tensors) if f"lora_{side}" in key)
    tensors[key] = change(tensors[key].copy())
    place.write_bytes(bytes_from_tensors(tensors))


def change_config(folder: Path, **values: object) -> None:
    """Replaces entries of adapter_config.json; None takes one away."""
    place = folder / "adapter_config.json"
    config = json.loads(place.read_text()) | values
    place.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def with_adapters(folders: dict[str, Path], base: Path = TINY) -> Checkpoint:
    """The checkpoint with new adapters in the place of the old."""
    source = Checkpoint.open(base)
    fresh = {name: source.read_adapter(folder, name) for name, folder in folders.items()}
    return replace(source, adapters={**source.adapters, **fresh})


def answers(source: Checkpoint, subset: str, windows: Any = None) -> dict[str, NDArray[np.float32]]:
    """What the unmerged network says of the reference windows."""
    adapters = [source.adapters[name] for name in ("common", subset)]
    graph = source.engine_graphs[subset]
    return unmerged_answers(graph, source.weights, adapters, subset, windows or source.reference)
