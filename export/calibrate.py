"""Activation ranges of a graph, by value name: measured in training for stems, computed here for engines.

Training calls `activation_ranges` when it saves a checkpoint, on the same bound and folded graph that
the exporter quantizes, so the names agree. What an engine needs beyond that (ranges inside the trunk, for
static int8) follows from the checkpoint's reference windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from edgeemo.errors import InputError
from edgeemo.export.graph import (
    Weights,
    bind_weights,
    bytes_from_model,
    copy_model,
    expose_values,
    fold_graph,
    load_graph,
)
from edgeemo.runtimes.ort import OrtRunner

_DIGITS = 6
_EXACT_DIGITS = 4
_WINDOWS = 64  # of the reference: enough for ranges, and float64 takes its time


class Gelu(OpRun):  # type: ignore[misc]  # onnx is skipped, so its classes are untyped here
    """GELU of whole arrays: onnx's own asks for the error function number by number."""

    op_domain = ""

    def _run(
        self, x: NDArray[np.float64], approximate: str = "none"
    ) -> tuple[NDArray[np.float64], ...]:  # the signature that onnx calls
        if approximate == "tanh":
            inner = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
        else:
            inner = error_function(x / np.sqrt(2.0))
        return (0.5 * x * (1.0 + inner),)


def error_function(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns erf(x) to 1.5e-7 (Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26)."""
    size = np.abs(x)
    t = 1.0 / (1.0 + 0.3275911 * size)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.asarray(np.copysign(1.0 - series * np.exp(-size * size), x))


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
    found = _extremes((runner.run(batch) | dict(batch) for batch in batches), str(graph_path))
    return {name: [_rounded(low, _DIGITS), _rounded(high, _DIGITS)] for name, (low, high) in found.items()}


def exact_ranges(
    model: onnx.ModelProto, feed: Mapping[str, NDArray[np.generic]], what: str
) -> dict[str, tuple[float, float]]:
    """Returns the ranges of a folded graph of standard operators, the same on every machine.

    The graph is evaluated in float64 and the ranges are rounded to four digits: sums differ between CPUs
    in the sixteenth.

    Args:
        model: the folded graph.
        feed: inputs by name; of many rows, 64 spread evenly are taken.
        what: the graph's name, for messages.

    Raises:
        InputError: a value is not finite.
    """
    doubled = expose_values(_doubled(model))
    names = [value.name for value in doubled.graph.output]
    evaluator = ReferenceEvaluator(doubled, new_ops=[Gelu])
    count = len(next(iter(feed.values())))
    rows = np.linspace(0, count - 1, min(_WINDOWS, count)).round().astype(int)
    double = {name: array[rows].astype(np.float64) for name, array in feed.items()}
    with np.errstate(all="ignore"):  # what is not finite is refused by name below
        found = {**dict(zip(names, evaluator.run(None, double), strict=True)), **double}
    return {
        name: (_rounded(low, _EXACT_DIGITS), _rounded(high, _EXACT_DIGITS))
        for name, (low, high) in _extremes([found], what).items()
    }


def _extremes(
    batches: Iterable[Mapping[str, NDArray[np.generic]]], what: str
) -> dict[str, tuple[float, float]]:
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for batch in batches:
        for name, array in batch.items():
            if np.issubdtype(array.dtype, np.floating) and array.size:
                low[name] = min(low.get(name, np.inf), float(array.min()))
                high[name] = max(high.get(name, -np.inf), float(array.max()))
    if not low:
        raise InputError(f"{what}: no batch to calibrate with; expected at least one")
    broken = sorted(name for name in low if not np.isfinite([low[name], high[name]]).all())
    if broken:
        raise InputError(f"{what}: {broken[0]!r} is not finite on the calibration data")
    return {name: (low[name], high[name]) for name in sorted(low)}


def _doubled(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy in float64."""
    single, double = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
    doubled = copy_model(model)
    for tensor in doubled.graph.initializer:
        if tensor.data_type == single:
            wide = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    for value in (*doubled.graph.input, *doubled.graph.output):
        if value.type.tensor_type.elem_type == single:
            value.type.tensor_type.elem_type = double
    for node in doubled.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == single:
                attribute.i = double
    return doubled


def _rounded(number: float, digits: int) -> float:
    return float(f"{number:.{digits}g}")
