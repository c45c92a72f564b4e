"""Real fp16: the same numbers as onnx's reference evaluator, operator by operator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgeemo.bundle import Bundle
from edgeemo.export import Checkpoint
from edgeemo.export.gate.half import rounded_model, run_in_half
from edgeemo.export.gate.judge import engine_feed
from edgeemo.export.variants.fp16 import halve_floats

TINY = Path(__file__).parents[1] / "data" / "tiny_checkpoint"
FP16, FP32 = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT


@pytest.mark.parametrize(("variant", "tolerance"), [("fp16", 12 * 2.0**-11), ("int8-trt", 0.03)])
def test_it_computes_what_fp16_numbers_give(tiny_export: Path, variant: str, tolerance: float) -> None:
    """onnx's own evaluator computes every operator in numpy's fp16, sums of products included.

    A dozen roundings one after the other, of numbers of the size of the logits; with Q/DQ a rounding may
    tip an activation over into the next of 256 levels, a hundredth of its largest.
    """
    data = Bundle.open(tiny_export).read_engine("audio+text", variant).self_contained()
    model = onnx.load_model_from_string(data)
    feed = {
        name: array[:24] for name, array in engine_feed("audio+text", Checkpoint.open(TINY).reference).items()
    }
    expected = dict(
        zip(
            [value.name for value in model.graph.output],
            ReferenceEvaluator(model).run(None, feed),
            strict=True,
        )
    )
    answer = run_in_half(model, feed)
    assert set(answer.outputs) == set(expected)
    for name, array in expected.items():
        found = answer.outputs[name]
        assert np.abs(found - array).max() <= tolerance * np.abs(expected["logits"]).max()
    assert answer.largest == pytest.approx(4096, rel=0.01)  # the mask's "minus infinity"


def chain(values: list[float]) -> onnx.ModelProto:
    """y = x * values[0] * values[1] ..., each product a value of its own."""
    nodes = [
        helper.make_node("Mul", [f"v{i}" if i else "x", f"c{i}"], [f"v{i + 1}"], name=f"n{i}")
        for i in range(len(values))
    ]
    nodes[-1].output[0] = "y"
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", FP32, ["batch", 2])],
        [helper.make_tensor_value_info("y", FP32, ["batch", 2])],
        [
            numpy_helper.from_array(np.array([value, value], np.float32), f"c{i}")
            for i, value in enumerate(values)
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_each_product_is_rounded() -> None:
    x = np.array([[1.0, 1.2345678]], np.float32)
    answer = run_in_half(halve_floats(chain([1.1, 1.3])), {"x": x})
    expected = x.astype(np.float16) * np.float16(1.1) * np.float16(1.3)
    np.testing.assert_array_equal(answer.outputs["y"], expected.astype(np.float32))


def test_overflow_becomes_infinite_and_is_named() -> None:
    x = np.full((3, 2), 100.0, np.float32)
    answer = run_in_half(halve_floats(chain([1000.0, 0.001])), {"x": x})
    assert np.isinf(answer.outputs["y"]).all()
    assert answer.largest == np.inf
    assert answer.where == "v1"


def test_the_rounded_graph_keeps_its_outputs() -> None:
    model = halve_floats(chain([2.0]))
    rounded, values = rounded_model(model)
    onnx.checker.check_model(rounded)
    assert [value.name for value in rounded.graph.output][:1] == ["y"]
    assert len(values) == 2  # the input as fp16 and the product
    assert not [t for t in rounded.graph.initializer if t.data_type == FP16]
