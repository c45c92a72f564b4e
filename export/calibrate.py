"""Activation ranges of a graph on training data, by value name; the exporter needs no data of its own.

Training calls `activation_ranges` when it saves a checkpoint, on the same bound and folded graph that
the exporter quantizes, so the names agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import InputError
from edgeemo.export.graph import (
    Weights,
    bind_weights,
    bytes_from_model,
    expose_values,
    fold_graph,
    load_graph,
)
from edgeemo.runtimes.ort import OrtRunner

_DIGITS = 6


def activation_ranges(
    graph_path: Path, weights: Weights, batches: Iterable[Mapping[str, NDArray[np.generic]]]
) -> dict[str, list[float]]:
    """Returns the smallest and largest number that each floating-point value of a graph takes.

    Args:
        graph_path: a graph of the checkpoint, without its weights.
        weights: all weights of the checkpoint by name; those of this graph are picked.
        batches: inputs by name, as the graph wants them; at least one batch.

    Returns:
        value name -> [lo, hi], inputs and outputs included, to six significant digits.

    Raises:
        CheckpointError: the graph cannot be read.
        ExportError: an initializer has no weight.
        InputError: no batch was given, or a value was not finite.
    """
    model = fold_graph(bind_weights(load_graph(graph_path), weights))
    runner = OrtRunner(bytes_from_model(expose_values(model)), engine=graph_path.stem)
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for batch in batches:
        found = runner.run(batch) | dict(batch)
        for name, array in found.items():
            if np.issubdtype(array.dtype, np.floating) and array.size:
                low[name] = min(low.get(name, np.inf), float(array.min()))
                high[name] = max(high.get(name, -np.inf), float(array.max()))
    if not low:
        raise InputError(f"{graph_path}: no batch to calibrate with; expected at least one")
    broken = sorted(name for name in low if not np.isfinite([low[name], high[name]]).all())
    if broken:
        raise InputError(f"{graph_path}: {broken[0]!r} is not finite on the calibration data")
    return {name: [_rounded(low[name]), _rounded(high[name])] for name in sorted(low)}


def _rounded(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")
