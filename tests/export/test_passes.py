"""Each pass on the smallest graph that it is for: fewer nodes, the same numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")

import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from edgeemo.export.passes.attention import fuse_attention
from edgeemo.export.passes.batch_norm import fold_batch_norm
from edgeemo.export.passes.biases import merge_biases
from edgeemo.export.passes.blocks import merge_blocks
from edgeemo.export.passes.fold import fold_constants
from edgeemo.export.passes.gelu import fuse_gelu
from edgeemo.export.passes.layer_norm import fuse_layer_norm
from edgeemo.export.passes.layout import merge_layout
from edgeemo.export.passes.names import shorten_names
from edgeemo.export.passes.projections import fuse_projections
from edgeemo.export.passes.rows import flatten_rows
from edgeemo.runtimes import OrtRunner

B, T, D, HEADS = 3, 5, 8, 2
Arrays = dict[str, np.ndarray[Any, Any]]
Step = tuple[Any, ...]


def numbers(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return (np.random.default_rng([seed, *shape]).normal(size=shape) / math.sqrt(shape[-1])).astype(
        np.float32
    )


def graph(
    steps: list[Step], weights: Arrays, inputs: dict[str, list[Any]], outputs: list[str]
) -> onnx.ModelProto:
    """Builds a model of (operator, inputs, outputs, attributes) with the weights that it uses."""
    nodes = [
        helper.make_node(step[0], step[1].split(), step[2].split(), name=f"node{place}", **dict(*step[3:]))
        for place, step in enumerate(steps)
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def answers(model: onnx.ModelProto) -> Arrays:
    with OrtRunner(model.SerializeToString()) as runner:
        feed = {
            spec.name: numbers(*(B if not isinstance(size, int) else size for size in spec.shape), seed=9)
            for spec in runner.inputs
        }
        for name, array in feed.items():
            if name.startswith("mask"):
                feed[name] = np.ones_like(array)
                feed[name][0, 1:] = 0
        return runner.run(feed)


def after(
    model: onnx.ModelProto, apply: Callable[[ir.Model], object], tolerance: float = 1e-6
) -> Counter[str]:
    """Applies a pass, asserts that every answer stays, and returns what operators are left."""
    changed = ir.from_proto(model)
    apply(changed)
    result = ir.to_proto(changed)
    assert [value.name for value in result.graph.output] == [value.name for value in model.graph.output]
    expected, found = answers(model), answers(result)
    for name, want in expected.items():
        assert np.abs(want).max() > 1e-3
        # Rounding of a few sums of at most D products, relative to the largest number.
        np.testing.assert_allclose(found[name], want, atol=tolerance * float(np.abs(want).max()), rtol=0)
    return Counter(node.op_type for node in result.graph.node)


def test_constants_are_folded_and_what_does_nothing_goes() -> None:
    steps: list[Step] = [
        ("Transpose", "w", "wt", {"perm": [1, 0]}),
        ("MatMul", "x wt", "product"),
        ("Add", "product zero", "same"),
        ("Identity", "same", "copy"),
        ("MatMul", "x wt", "again"),
        ("Add", "copy again", "y"),
        ("Exp", "x", "unused"),
    ]
    weights = {"w": numbers(D, D), "zero": np.zeros((), np.float32)}
    model = graph(steps, weights, {"x": ["batch", D]}, ["y"])
    assert after(model, fold_constants) == {"MatMul": 1, "Add": 1}
    folded = ir.from_proto(model)
    fold_constants(folded)
    assert "w.transposed" in folded.graph.initializers


def test_a_weight_that_is_used_both_ways_is_turned_for_good() -> None:
    steps: list[Step] = [
        ("Gemm", "x w", "left", {"transB": 1}),
        ("Transpose", "w", "wt", {"perm": [1, 0]}),
        ("MatMul", "left wt", "y"),
    ]
    model = graph(steps, {"w": numbers(128, 128)}, {"x": ["batch", 128]}, ["y"])
    assert after(model, fold_constants, 1e-5) == {"Gemm": 1, "MatMul": 1}


def test_batch_norm_goes_into_the_convolution() -> None:
    steps: list[Step] = [
        ("Conv", "x w b", "maps", {"kernel_shape": [3]}),
        ("BatchNormalization", "maps gain shift mean variance", "y"),
    ]
    weights = {name: numbers(4, seed=seed) for seed, name in enumerate(("gain", "shift", "mean", "b"))}
    weights |= {"w": numbers(4, D, 3), "variance": np.abs(numbers(4, seed=7)) + 0.5}
    model = graph(steps, weights, {"x": ["batch", D, T]}, ["y"])
    assert after(model, fold_batch_norm, 1e-5) == {"Conv": 1}


@pytest.mark.parametrize("power", ["Pow", "Mul"])
def test_a_layer_norm_that_is_written_out_becomes_one(power: str) -> None:
    steps: list[Step] = [
        ("ReduceMean", "x last", "mean", {"keepdims": 1}),
        ("Sub", "x mean", "apart"),
        (power, "apart two" if power == "Pow" else "apart apart", "square"),
        ("ReduceMean", "square last", "variance", {"keepdims": 1}),
        ("Add", "variance epsilon", "above"),
        ("Sqrt", "above", "deviation"),
        ("Div", "apart deviation", "normal"),
        ("Mul", "normal gain", "scaled"),
        ("Add", "scaled shift", "y"),
    ]
    weights = {"gain": numbers(D, seed=1), "shift": numbers(D, seed=2), "last": np.array([-1], np.int64)}
    weights |= {"epsilon": np.array(1e-5, np.float32)} | (
        {"two": np.array(2, np.float32)} if power == "Pow" else {}
    )
    model = graph(steps, weights, {"x": ["batch", T, D]}, ["y"])
    assert after(model, fuse_layer_norm, 1e-5) == {"LayerNormalization": 1}


def test_gelu_that_is_written_out_becomes_one() -> None:
    weights = {"root": np.array(math.sqrt(2), np.float32), "one": np.array(1, np.float32)}
    weights |= {"half": np.array(0.5, np.float32)}
    begin: list[Step] = [("Div", "x root", "a"), ("Erf", "a", "b"), ("Add", "b one", "c")]
    endings: list[list[Step]] = [
        [("Mul", "x c", "d"), ("Mul", "d half", "y")],
        [("Mul", "half x", "d"), ("Mul", "d c", "y")],
        [("Mul", "c half", "d"), ("Mul", "d x", "y")],
    ]
    for ending in endings:
        model = graph([*begin, *ending], weights, {"x": ["batch", D]}, ["y"])
        assert after(model, fuse_gelu, 1e-5) == {"Gelu": 1}


def test_the_tanh_form_of_gelu_stays_the_tanh_form() -> None:
    values = {"three": 3, "cubic": 0.044715, "root": math.sqrt(2 / math.pi), "one": 1, "half": 0.5}
    steps: list[Step] = [
        ("Pow", "x three", "a"),
        ("Mul", "a cubic", "b"),
        ("Add", "x b", "c"),
        ("Mul", "c root", "d"),
        ("Tanh", "d", "e"),
        ("Add", "e one", "f"),
        ("Mul", "x half", "g"),
        ("Mul", "g f", "y"),
    ]
    weights = {name: np.array(value, np.float32) for name, value in values.items()}
    assert after(graph(steps, weights, {"x": ["batch", D]}, ["y"]), fuse_gelu, 1e-5) == {"Gelu": 1}


def test_slices_become_one_split_and_turns_that_cancel_vanish() -> None:
    steps: list[Step] = [
        ("Slice", "x zero half last", "left"),
        ("Slice", "x half whole last", "right"),
        ("Transpose", "left", "turned", {"perm": [0, 2, 1]}),
        ("Transpose", "turned", "back", {"perm": [0, 2, 1]}),
        ("Mul", "back right", "y"),
    ]
    values = {"zero": 0, "half": D // 2, "whole": D, "last": 2}
    weights = {name: np.array([value], np.int64) for name, value in values.items()}
    model = graph(steps, weights, {"x": ["batch", T, D]}, ["y"])
    assert after(model, merge_layout) == {"Split": 1, "Mul": 1}


def test_slices_that_leave_a_gap_stay() -> None:
    steps: list[Step] = [
        ("Slice", "x zero half last", "left"),
        ("Slice", "x other whole last", "right"),
        ("ReduceSum", "right last", "sum"),
        ("Mul", "left sum", "y"),
    ]
    values = {"zero": 0, "half": D // 2, "other": D // 2 + 1, "whole": D, "last": 2}
    weights = {name: np.array([value], np.int64) for name, value in values.items()}
    model = graph(steps, weights, {"x": ["batch", T, D]}, ["y"])
    assert after(model, merge_layout)["Slice"] == 2


def attention_steps() -> tuple[list[Step], Arrays]:
    """Attention over one product, heads cut out as torch traces ``permute`` and ``select``."""
    steps: list[Step] = [
        ("Reshape", "qkv apart", "heads"),
        ("Transpose", "heads", "turned", {"perm": [2, 0, 3, 1, 4]}),
        *(("Gather", f"turned place{place}", name, {"axis": 0}) for place, name in enumerate("qkv")),
        ("Mul", "q scale", "qs"),
        ("Transpose", "k", "kt", {"perm": [0, 1, 3, 2]}),
        ("MatMul", "qs kt", "scores"),
        ("Sub", "one mask", "hidden"),
        ("Mul", "hidden low", "filtered"),
        ("Unsqueeze", "filtered axes", "bias"),
        ("Add", "scores bias", "biased"),
        ("Softmax", "biased", "shares", {"axis": -1}),
        ("MatMul", "shares v", "mixed"),
        ("Transpose", "mixed", "sequence", {"perm": [0, 2, 1, 3]}),
        ("Reshape", "sequence joined", "y"),
    ]
    weights: Arrays = {f"place{place}": np.array(place, np.int64) for place in range(3)}
    weights |= {"scale": np.array(0.5, np.float32), "one": np.array(1, np.float32)}
    weights |= {"low": np.array(-1e4, np.float32), "axes": np.array([1, 2], np.int64)}
    weights |= {"apart": np.array([-1, T, 3, HEADS, D // HEADS], np.int64)}
    return steps, weights | {"joined": np.array([-1, T, D], np.int64)}


def fuse_after_layout(model: ir.Model) -> None:
    merge_layout(model)
    fuse_attention(model)


def test_attention_becomes_one_operator_and_padding_its_mask() -> None:
    steps, weights = attention_steps()
    inputs = {"qkv": ["batch", T, 3 * D], "mask": ["batch", T]}
    model = graph(steps, weights, inputs, ["y"])
    assert after(model, merge_layout)["Split"] == 1
    assert after(model, fuse_after_layout, 1e-5) == {"Split": 1, "Cast": 1, "MultiHeadAttention": 1}


def test_attention_over_a_mask_that_is_computed_is_left_alone() -> None:
    """Only a mask input is known to hold nothing but 0 and 1."""
    steps, weights = attention_steps()
    steps = [("Mul", "mask half", "soft"), *steps]
    place = next(number for number, step in enumerate(steps) if step[0] == "Sub")
    steps[place] = ("Sub", "one soft", "hidden")
    weights["half"] = np.array(0.9999, np.float32)
    inputs = {"qkv": ["batch", T, 3 * D], "mask": ["batch", T]}
    assert "MultiHeadAttention" not in after(graph(steps, weights, inputs, ["y"]), fuse_after_layout)


def test_attention_takes_a_constant_bias_along() -> None:
    steps, weights = attention_steps()
    place = next(number for number, step in enumerate(steps) if step[0] == "Add")
    steps[place : place + 1] = [("Add", "scores near", "closer"), ("Add", "closer bias", "biased")]
    weights["near"] = numbers(1, HEADS, T, T)
    inputs = {"qkv": ["batch", T, 3 * D], "mask": ["batch", T]}
    found = after(graph(steps, weights, inputs, ["y"]), fuse_after_layout, 1e-5)
    assert found == {"Split": 1, "Cast": 1, "MultiHeadAttention": 1}


def test_projections_of_one_input_become_one_product() -> None:
    steps: list[Step] = []
    weights: Arrays = {}
    for name, width in {"query": D, "key": D, "value": 2 * D}.items():
        steps += [
            ("MatMul", f"x net.{name}.weight.transposed", name),
            ("Add", f"{name} net.{name}.bias", f"{name}1"),
        ]
        weights[f"net.{name}.weight.transposed"] = numbers(D, width, seed=len(name))
        weights[f"net.{name}.bias"] = numbers(width, seed=len(name))
    steps += [("Mul", "query1 key1", "both"), ("Concat", "both value1", "y", {"axis": -1})]
    model = graph(steps, weights, {"x": ["batch", T, D]}, ["y"])
    found = after(model, fuse_projections)
    assert found == {"MatMul": 1, "Add": 1, "Split": 1, "Mul": 1, "Concat": 1}


def test_projections_of_other_modules_stay_apart() -> None:
    """What would be put together then depends on the subset, and shared weights would part."""
    steps: list[Step] = [
        ("MatMul", "x cross.a.key.weight.transposed", "left"),
        ("MatMul", "x cross.b.key.weight.transposed", "right"),
        ("Add", "left right", "y"),
    ]
    weights = {f"cross.{name}.key.weight.transposed": numbers(D, D, seed=ord(name)) for name in "ab"}
    assert after(graph(steps, weights, {"x": ["batch", T, D]}, ["y"]), fuse_projections)["MatMul"] == 2


def test_biases_that_follow_each_other_become_one() -> None:
    steps: list[Step] = [("MatMul", "x w", "a"), ("Add", "a bias", "b"), ("Add", "table b", "y")]
    weights = {"w": numbers(D, D), "bias": numbers(D), "table": numbers(T, D)}
    model = graph(steps, weights, {"x": ["batch", T, D]}, ["y"])
    assert after(model, merge_biases) == {"MatMul": 1, "Add": 1}


def test_a_bias_that_somebody_else_sees_stays() -> None:
    steps: list[Step] = [("Add", "x bias", "b"), ("Add", "b table", "c"), ("Mul", "b c", "y")]
    weights = {"bias": numbers(D), "table": numbers(T, D)}
    model = graph(steps, weights, {"x": ["batch", T, D]}, ["y"])
    assert after(model, merge_biases) == {"Add": 2, "Mul": 1}


def block_steps() -> tuple[list[Step], Arrays]:
    steps: list[Step] = []
    weights: Arrays = {}
    for m in "av":
        other = "v" if m == "a" else "a"
        steps += [
            ("Gemm", f"{m} f.{m}.{m}.weight f.{m}.{m}.bias", f"own_{m}", {"transB": 1}),
            ("MatMul", f"{other} f.{m}.{other}.weight.transposed", f"other_{m}"),
            ("Add", f"own_{m} other_{m}", f"y_{m}"),
        ]
        weights |= {
            f"f.{m}.{m}.weight": numbers(D, D, seed=ord(m)),
            f"f.{m}.{m}.bias": numbers(D, seed=ord(m)),
        }
        weights[f"f.{m}.{other}.weight.transposed"] = numbers(D, D, seed=ord(other) + 5)
    return steps, weights


def test_blocks_of_one_matrix_become_one_product() -> None:
    steps, weights = block_steps()
    own = {name.removesuffix(".transposed") for name in weights}
    model = graph(steps, weights, {"a": ["batch", D], "v": ["batch", D]}, ["y_a", "y_v"])
    assert after(model, lambda m: merge_blocks(m, own)) == {"Concat": 1, "Gemm": 1, "Split": 1}
    assert after(model, lambda m: merge_blocks(m, ())) == {"Gemm": 2, "MatMul": 2, "Add": 2}


def test_products_go_on_rows_and_reshapes_meet() -> None:
    steps: list[Step] = [
        ("MatMul", "x w", "a"),
        ("Add", "a b", "first"),
        ("Gelu", "first", "g"),
        ("MatMul", "g v", "c"),
        ("Add", "c d", "second"),
        ("Add", "x second", "sum"),
        ("LayerNormalization", "sum gain", "n", {"axis": -1}),
        ("ReduceSum", "n middle", "y", {"keepdims": 0}),
    ]
    weights = {name: numbers(D, seed=ord(name[0])) for name in ("gain", "b", "d")}
    weights |= {"w": numbers(D, D, seed=1), "v": numbers(D, D, seed=2), "middle": np.array([1], np.int64)}
    model = graph(steps, weights, {"x": ["batch", T, D]}, ["y"])
    found = after(model, flatten_rows, 1e-5)
    assert found == {"Reshape": 2, "Gemm": 2, "Gelu": 1, "Add": 1, "LayerNormalization": 1, "ReduceSum": 1}


def test_rows_do_not_spread_what_has_one_position() -> None:
    steps: list[Step] = [
        ("MatMul", "x w", "a"),
        ("Add", "a b", "sequence"),
        ("MatMul", "one w", "c"),
        ("Add", "c b", "single"),
        ("Mul", "sequence single", "y"),
    ]
    weights = {"w": numbers(D, D), "b": numbers(D)}
    model = graph(steps, weights, {"x": ["batch", T, D], "one": ["batch", 1, D]}, ["y"])
    assert after(model, flatten_rows, 1e-5)["Gemm"] == 2


def test_names_get_short_where_nobody_else_knows_them() -> None:
    steps, weights = attention_steps()
    model = graph(steps, weights, {"qkv": ["batch", T, 3 * D], "mask": ["batch", T]}, ["y"])
    before, size = answers(model), model.ByteSize()
    shorten_names(model)
    assert model.ByteSize() < 0.8 * size
    np.testing.assert_array_equal(answers(model)["y"], before["y"])
    assert {"scale", "one", "low"} <= {tensor.name for tensor in model.graph.initializer}
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert max(len(name) for name in names) <= 2
