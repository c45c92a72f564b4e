"""int8: what is quantized, what stays float, and errors no larger than eight bits explain."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeemo.errors import ExportError, InputError
from edgeemo.export import Checkpoint
from edgeemo.export.calibrate import activation_ranges
from edgeemo.export.graph import bind_weights, bytes_from_model, fold_graph
from edgeemo.export.quantize import quantize_engine, quantize_stem, rows_from_table
from edgeemo.runtimes import OrtRunner

TINY = Path(__file__).parent / "data" / "tiny_checkpoint"


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint.open(TINY)


def folded_engine(checkpoint: Checkpoint, subset: str) -> onnx.ModelProto:
    return fold_graph(bind_weights(checkpoint.engine_graphs[subset], checkpoint.merged_weights(subset)))


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def arrays_of(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def run(model: onnx.ModelProto, feed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    with OrtRunner(bytes_from_model(model)) as runner:
        return runner.run(feed)


def test_an_engine_keeps_float_what_must_stay_float(checkpoint: Checkpoint) -> None:
    plain = folded_engine(checkpoint, "audio+video")
    int8 = quantize_engine(plain)
    constants = arrays_of(plain)
    products = [n for n in plain.graph.node if n.op_type in ("MatMul", "Gemm") and n.input[1] in constants]
    after = operators(int8)
    assert after["MatMulInteger"] == len(products) > 10
    assert after["Gemm"] == 0
    # Attention's scores, its mixture and the mean over time multiply two activations each.
    assert after["MatMul"] == 2 * 3
    for kept in ("LayerNormalization", "Softmax", "Gelu"):
        assert after[kept] == operators(plain)[kept] > 0
    assert {value.type.tensor_type.elem_type for value in (*int8.graph.input, *int8.graph.output)} == {
        TensorProto.FLOAT
    }


def test_weights_are_int8_with_one_scale_for_each_output(checkpoint: Checkpoint) -> None:
    plain, int8 = folded_engine(checkpoint, "audio"), quantize_engine(folded_engine(checkpoint, "audio"))
    before, after = arrays_of(plain), arrays_of(int8)
    name = "trunk.blocks.audio.0.qkv.weight.transposed"  # (in, out)
    weight, packed = before[name], after[f"{name}_quantized"]
    scale = after[f"{name}_scale"]
    assert packed.dtype == np.int8
    assert scale.shape == (weight.shape[1],)
    np.testing.assert_allclose(scale, np.abs(weight).max(axis=0) / 127, rtol=1e-2)
    # Rounding to the nearest level is off by at most half a level of its channel.
    assert np.all(np.abs(packed * scale - weight) <= 0.5001 * scale)
    assert name not in after


def test_quantizing_is_deterministic_and_leaves_its_input_alone(checkpoint: Checkpoint) -> None:
    plain = folded_engine(checkpoint, "text")
    before = bytes_from_model(plain)
    first, second = quantize_engine(plain), quantize_engine(plain)
    assert bytes_from_model(first) == bytes_from_model(second)
    assert bytes_from_model(plain) == before


def convolution_stem(channels: int = 6) -> onnx.ModelProto:
    """input.x (batch, 1, 8, 8) -> conv over raw input -> conv -> conv that makes the features."""
    rng = np.random.default_rng(0)
    sizes = [(channels, 1, 3, 3), (channels, channels, 3, 3), (4, channels, 4, 4)]
    weights = [(rng.normal(size=size) / np.sqrt(np.prod(size[1:]))).astype(np.float32) for size in sizes]
    nodes = [
        helper.make_node("Conv", ["input.x", "w0"], ["c0"], name="conv0"),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu0"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], name="conv1"),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="conv2"),
        helper.make_node("Squeeze", ["c2", "axes"], ["features.x"], name="squeeze"),
    ]
    graph = helper.make_graph(
        nodes,
        "stem",
        [helper.make_tensor_value_info("input.x", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("features.x", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)]
        + [numpy_helper.from_array(np.array([2, 3], np.int64), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    return model


def ranges_of(model: onnx.ModelProto, path: Path, x: NDArray[np.float32]) -> dict[str, tuple[float, float]]:
    onnx.save(model, path)
    return {name: (low, high) for name, (low, high) in activation_ranges(path, {}, [{"input.x": x}]).items()}


def test_convolutions_take_stored_ranges_and_no_data(tmp_path: Path) -> None:
    model = convolution_stem()
    x = np.random.default_rng(1).normal(size=(64, 1, 8, 8)).astype(np.float32)
    ranges = ranges_of(model, tmp_path / "stem.onnx", x)
    assert ranges["r0"][0] == 0
    np.testing.assert_allclose(ranges["input.x"], (x.min(), x.max()), rtol=1e-5)
    int8 = quantize_stem(model, ranges, "x")
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
    int8 = quantize_stem(model, ranges_of(model, tmp_path / "stem.onnx", x), "x")
    loud = run(int8, {"input.x": 3 * x})["features.x"]
    assert np.isfinite(loud).all()
    assert np.abs(loud).max() > 1.2 * np.abs(run(int8, {"input.x": x})["features.x"]).max()


def test_a_missing_range_is_named() -> None:
    with pytest.raises(ExportError, match=r"the stem of 'x' has no activation range for 'r0'"):
        quantize_stem(convolution_stem(), {"c1": (0.0, 1.0)}, "x")


def test_calibration_needs_a_batch_and_finite_numbers(tmp_path: Path) -> None:
    onnx.save(convolution_stem(), tmp_path / "stem.onnx")
    with pytest.raises(InputError, match="no batch to calibrate with"):
        activation_ranges(tmp_path / "stem.onnx", {}, [])
    x = np.full((1, 1, 8, 8), np.nan, np.float32)
    with pytest.raises(InputError, match="not finite on the calibration data"):
        activation_ranges(tmp_path / "stem.onnx", {}, [{"input.x": x}])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 40), width=st.integers(1, 9))
def test_tables_keep_every_row_precise(seed: int, rows: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    table = (rng.normal(size=(rows, width)) * 10.0 ** rng.uniform(-6, 3, size=(rows, 1))).astype(np.float32)
    table[0] = 0
    packed, scale = rows_from_table(table)
    assert packed.dtype == np.int8
    assert not packed[0].any()
    assert np.all(np.abs(packed * scale.astype(np.float64) - table) <= 0.5001 * scale)
    assert np.all(np.abs(packed[1:]).max(axis=1, initial=127) == 127)


def test_a_table_becomes_bytes_and_gives_the_same_rows() -> None:
    rng = np.random.default_rng(3)
    table = rng.normal(size=(2048, 8)).astype(np.float32)
    table[0] = 0
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input.x"], ["features.x"], name="lookup")],
        "stem",
        [helper.make_tensor_value_info("input.x", TensorProto.INT64, ["batch", 5])],
        [helper.make_tensor_value_info("features.x", TensorProto.FLOAT, ["batch", 5, 8])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    int8 = quantize_stem(model, {}, "x")
    ids = rng.integers(0, 2048, size=(7, 5))
    ids[:, 0] = 0
    found = run(int8, {"input.x": ids})["features.x"]
    assert np.abs(found - table[ids]).max() <= 0.5001 * np.abs(table).max() / 127
    assert not found[:, 0].any()
    assert len(bytes_from_model(int8)) < 0.4 * len(bytes_from_model(model))


def test_a_weight_that_two_products_share_is_right_in_both() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(100, 100)).astype(np.float32)  # past the optimizer's limit for shared constants
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["pooled", "head.weight"], ["logits"], transB=1),
            helper.make_node("Transpose", ["head.weight"], ["turned"], perm=[1, 0]),
            helper.make_node("MatMul", ["frames", "turned"], ["frame_logits"]),
        ],
        "shared",
        [
            helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["batch", 100]),
            helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["batch", 4, 100]),
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 100]),
            helper.make_tensor_value_info("frame_logits", TensorProto.FLOAT, ["batch", 4, 100]),
        ],
        [numpy_helper.from_array(weight, "head.weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    int8 = quantize_engine(fold_graph(model))
    pooled = rng.normal(size=(1, 100)).astype(np.float32)
    frames = rng.normal(size=(1, 4, 100)).astype(np.float32)
    with OrtRunner(bytes_from_model(int8), engine="shared", variant="int8") as runner:
        found = runner.run({"pooled": pooled, "frames": frames})
    for name, expected in (("logits", pooled @ weight.T), ("frame_logits", frames @ weight.T)):
        assert np.abs(found[name] - expected).max() < 0.05 * np.abs(expected).max()
