"""Static int8: Q/DQ pairs from known ranges, for CPUs and for TensorRT."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from tiny_stem import convolution_stem

from edgeemo.errors import ExportError
from edgeemo.export.calibrate import activation_ranges
from edgeemo.export.dialect import STANDARD, check_operators
from edgeemo.export.graph import bytes_from_model
from edgeemo.export.variants.static import (
    quantizable_convolutions,
    quantizable_nodes,
    quantize_for_cpu,
    quantize_for_tensorrt,
    spread_ranges,
)
from edgeemo.runtimes import OrtRunner


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def arrays_of(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def run(model: onnx.ModelProto, feed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    with OrtRunner(bytes_from_model(model)) as runner:
        return runner.run(feed)


def ranges_of(model: onnx.ModelProto, path: Path, x: NDArray[np.float32]) -> dict[str, tuple[float, float]]:
    onnx.save(model, path)
    return {name: (low, high) for name, (low, high) in activation_ranges(path, {}, [{"input.x": x}]).items()}


def test_convolutions_take_stored_ranges_and_no_data(tmp_path: Path) -> None:
    model = convolution_stem()
    x = np.random.default_rng(1).normal(size=(64, 1, 8, 8)).astype(np.float32)
    ranges = ranges_of(model, tmp_path / "stem.onnx", x)
    assert ranges["r0"][0] == 0
    np.testing.assert_allclose(ranges["input.x"], (x.min(), x.max()), rtol=1e-5)
    int8 = quantize_for_cpu(model, ranges, quantizable_convolutions(model), "x")
    packed = arrays_of(int8)
    assert packed["w1_quantized"].dtype == np.int8
    assert packed["w1_scale"].shape == (6,)
    # Over one raw channel, and where the features are made: float.
    assert {"w0", "w2"} <= set(packed)
    assert operators(int8)["Relu"] == 1  # that behind the quantized convolution is its lower bound
    before, after = run(model, {"input.x": x})["features.x"], run(int8, {"input.x": x})["features.x"]
    # One eight-bit layer: activations and weights are each off by a uniform error of a level / sqrt(12).
    error = np.sqrt(np.mean((before - after) ** 2) / np.mean(before**2))
    assert 0 < error < 0.02


def test_input_beyond_the_ranges_clips_inside_and_not_at_the_end(tmp_path: Path) -> None:
    model = convolution_stem()
    x = np.random.default_rng(1).normal(size=(64, 1, 8, 8)).astype(np.float32)
    ranges = ranges_of(model, tmp_path / "stem.onnx", x)
    int8 = quantize_for_cpu(model, ranges, quantizable_convolutions(model), "x")
    loud = run(int8, {"input.x": 3 * x})["features.x"]
    assert np.isfinite(loud).all()
    assert np.abs(loud).max() > 1.2 * np.abs(run(int8, {"input.x": x})["features.x"]).max()


def test_a_missing_range_is_named() -> None:
    model = convolution_stem()
    with pytest.raises(ExportError, match=r"the stem of x has no activation range for 'r0'"):
        quantize_for_cpu(model, {"c1": (0.0, 1.0)}, quantizable_convolutions(model), "the stem of x")
    with pytest.raises(ExportError, match=r"the stem of x has no activation range for 'r0'"):
        quantize_for_tensorrt(model, {"c1": (0.0, 1.0)}, quantizable_nodes(model), "the stem of x")


def test_pairs_for_tensorrt_are_symmetric_and_leave_biases_float(tmp_path: Path) -> None:
    model = convolution_stem()
    x = np.random.default_rng(1).normal(size=(64, 1, 8, 8)).astype(np.float32)
    ranges = ranges_of(model, tmp_path / "stem.onnx", x)
    int8 = quantize_for_tensorrt(model, ranges, quantizable_nodes(model), "x")
    check_operators(int8, STANDARD, "x")
    packed = arrays_of(int8)
    pairs = [node for node in int8.graph.node if node.op_type == "QuantizeLinear"]
    assert [node.input[0] for node in pairs] == ["r0"]  # inputs alone: the output of conv1 is not quantized
    for node in int8.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert packed[node.input[2]].dtype == np.int8
            assert not packed[node.input[2]].any()
    assert packed["w1_quantized"].dtype == np.int8
    assert np.abs(packed["r0_scale"] - np.abs(ranges["r0"]).max() / 127).max() < 0.01 * packed["r0_scale"]
    before, after = run(model, {"input.x": x})["features.x"], run(int8, {"input.x": x})["features.x"]
    assert 0 < np.sqrt(np.mean((before - after) ** 2) / np.mean(before**2)) < 0.03


def test_nothing_to_quantize_changes_nothing() -> None:
    model = convolution_stem()
    assert quantize_for_cpu(model, {}, [], "x") is model
    assert quantize_for_tensorrt(model, {}, [], "x") is model


def test_values_that_passes_made_have_the_range_of_what_they_are_named_after() -> None:
    model = convolution_stem()
    for node in model.graph.node:
        if node.name == "conv1":
            node.input[0] = "r0.rows.2"
    model.graph.node.add(op_type="Identity", name="rows", input=["r0"], output=["r0.rows.2"])
    model.graph.node.add(op_type="Concat", name="both", input=["r0.rows.2", "c1"], output=["both"])
    known = {"r0": (0.0, 2.0), "c1": (-1.0, 1.0)}
    found = spread_ranges(model, known)
    assert found == {**known, "r0.rows.2": (0.0, 2.0), "both": (-1.0, 2.0)}
