"""Products in int8, quantized on the fly: what is taken, what stays float, and how far off they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeemo.export import Checkpoint
from edgeemo.export.graph import bind_weights, bytes_from_model, fold_graph
from edgeemo.export.variants.dynamic import constant_products, quantize_products
from edgeemo.runtimes import OrtRunner

TINY = Path(__file__).parents[1] / "data" / "tiny_checkpoint"


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint.open(TINY)


def folded_engine(checkpoint: Checkpoint, subset: str) -> onnx.ModelProto:
    return fold_graph(bind_weights(checkpoint.engine_graphs[subset], checkpoint.merged_weights(subset)))


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def arrays_of(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_an_engine_keeps_float_what_must_stay_float(checkpoint: Checkpoint) -> None:
    plain = folded_engine(checkpoint, "audio+video")
    int8 = quantize_products(plain)
    constants = arrays_of(plain)
    products = [n for n in plain.graph.node if n.op_type in ("MatMul", "Gemm") and n.input[1] in constants]
    after = operators(int8)
    assert after["DynamicQuantizeMatMul"] == len(products) == len(constant_products(plain)) > 10
    assert after["Gemm"] == 0
    # Attention's scores, its mixture and the mean over time multiply two activations each.
    assert after["MatMul"] == 2 * 3
    for kept in ("LayerNormalization", "Softmax", "Gelu"):
        assert after[kept] == operators(plain)[kept] > 0
    assert {value.type.tensor_type.elem_type for value in (*int8.graph.input, *int8.graph.output)} == {
        TensorProto.FLOAT
    }
    onnx.checker.check_model(plain)


def test_biases_are_taken_into_the_product(checkpoint: Checkpoint) -> None:
    plain = folded_engine(checkpoint, "audio")
    before, after = operators(plain), operators(quantize_products(plain))
    products = sum(
        node.op_type == "MatMul" for node in plain.graph.node if node.name in constant_products(plain)
    )
    assert before["Add"] - after["Add"] == products > 4  # each of them adds a bias


def test_what_is_named_stays_float(checkpoint: Checkpoint) -> None:
    plain = folded_engine(checkpoint, "audio")
    first, *others = constant_products(plain)
    int8 = quantize_products(plain, keep_float=[first])
    assert operators(int8)["DynamicQuantizeMatMul"] == len(others)
    kept = next(node for node in int8.graph.node if node.name == first)
    assert kept.op_type == "MatMul"
    assert arrays_of(int8)[kept.input[1]].dtype == np.float32
    assert bytes_from_model(quantize_products(plain, keep_float=[first, *others])) == bytes_from_model(plain)


def test_weights_are_int8_with_one_scale_for_each_output(checkpoint: Checkpoint) -> None:
    plain, int8 = folded_engine(checkpoint, "audio"), quantize_products(folded_engine(checkpoint, "audio"))
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
    first, second = quantize_products(plain), quantize_products(plain)
    assert bytes_from_model(first) == bytes_from_model(second)
    assert bytes_from_model(plain) == before


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
    int8 = quantize_products(fold_graph(model))
    pooled = rng.normal(size=(1, 100)).astype(np.float32)
    frames = rng.normal(size=(1, 4, 100)).astype(np.float32)
    with OrtRunner(bytes_from_model(int8), engine="shared", variant="int8") as runner:
        found = runner.run({"pooled": pooled, "frames": frames})
    for name, expected in (("logits", pooled @ weight.T), ("frame_logits", frames @ weight.T)):
        assert np.abs(found[name] - expected).max() < 0.05 * np.abs(expected).max()


def gemm(**attributes: object) -> onnx.ModelProto:
    """y = Gemm(x, w, b); w is (5, 4) where transB is set."""
    rng = np.random.default_rng(1)
    shape = (5, 4) if attributes.get("transB") else (4, 5)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="gemm", **attributes)],
        "gemm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])],
        [
            numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), "w"),
            numpy_helper.from_array(rng.normal(size=5).astype(np.float32), "b"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}, {"transB": 0, "alpha": 1.0}])
def test_gemm_either_way_round(attributes: dict[str, object]) -> None:
    model = gemm(**attributes)
    int8 = quantize_products(model)
    assert operators(int8) == {"DynamicQuantizeMatMul": 1}
    x = np.random.default_rng(2).normal(size=(1, 4)).astype(np.float32)
    with OrtRunner(bytes_from_model(model)) as exact, OrtRunner(bytes_from_model(int8)) as runner:
        expected, found = exact.run({"x": x})["y"], runner.run({"x": x})["y"]
    # Four products; weights and activations each off by at most half a level of about 1/127.
    assert 0 < np.abs(found - expected).max() < 4 * 2 * np.abs(x).max() * 3 / 127


@pytest.mark.parametrize("attributes", [{"alpha": 0.5}, {"beta": 2.0}])
def test_a_gemm_that_does_more_stays(attributes: dict[str, object]) -> None:
    assert operators(quantize_products(gemm(**attributes))) == {"Gemm": 1}
