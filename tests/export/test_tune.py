"""Choices by measurement: what is kept float is what costs, and what is useless is dropped with a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgeemo.export.tune as tune_module
from edgeemo.export import Checkpoint, Recipe
from edgeemo.export.drafts import Source
from edgeemo.export.gate.judge import run_rows
from edgeemo.export.graph import bytes_from_model
from edgeemo.export.recipe import ENGINES, STEMS, GraphRecipe
from edgeemo.export.tune import tune_graph
from edgeemo.runtimes import OrtRunner

TINY = Path(__file__).parents[1] / "data" / "tiny_checkpoint"
SHIPPED = Path(__file__).resolve().parents[2] / "samples" / "checkpoints" / "live"


@pytest.fixture(scope="module")
def tiny() -> Checkpoint:
    return Checkpoint.open(TINY)


def test_choices_are_added_to_those_there_are(tiny: Checkpoint) -> None:
    before = Recipe({(ENGINES, "text", "int8"): GraphRecipe("static")})
    after = tune_graph(Source(tiny, ENGINES, "audio"), ("fp32", "int8", "fp16"), before)
    assert after.graphs[ENGINES, "text", "int8"] == GraphRecipe("static")
    tuned = {**after.graphs, **after.dropped}
    assert (ENGINES, "audio", "int8") in tuned
    assert before.graphs == {(ENGINES, "text", "int8"): GraphRecipe("static")}


def spoiled(checkpoint: Checkpoint) -> Source:
    """The shipped engine of text with one product whose weights eight bits cannot hold: a column has one
    number a thousand times as large as the others."""
    source = Source(checkpoint, ENGINES, "text")
    graph = source.graph("onnxruntime")
    for tensor in graph.graph.initializer:
        if tensor.name.startswith("trunk.blocks.text.0.fc1.weight"):
            weight = np.array(numpy_helper.to_array(tensor))
            weight[0, :] *= 1000.0
            tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    return source


def test_the_costly_operator_is_found_and_stays_float(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint.open(SHIPPED)
    source = spoiled(checkpoint)
    bench = tune_module._Bench(source)
    # Judged against itself in fp32: what is spoiled is the weight, not the arithmetic.
    exact = source.make("fp32", GraphRecipe())
    with OrtRunner(bytes_from_model(exact)) as runner:
        bench.expected = run_rows(runner, bench.feed, each=True)["logits"]
    monkeypatch.setattr(bench, "times_ms", lambda models: {"int8": 1.0, "fp32": 2.0})
    kept = bench.costly_nodes("int8", GraphRecipe(), exact)
    products = {node.name: node.input[1] for node in exact.graph.node if len(node.input) > 1}
    assert "blocks.text.0.fc1" in products[max(kept, key=lambda name: kept[name])]
    error = bench.error(source.make("int8", GraphRecipe()), "int8")
    assert bench.error(source.make("int8", GraphRecipe(keep_float=kept)), "int8") < 0.5 * error
    # Where the variant would be no faster than fp32, nothing stays float.
    monkeypatch.setattr(bench, "times_ms", lambda models: {"int8": 2.0, "fp32": 1.0})
    assert bench.costly_nodes("int8", GraphRecipe(), exact) == {}


def test_small_errors_are_left_alone(tiny: Checkpoint) -> None:
    bench = tune_module._Bench(Source(tiny, STEMS, "audio"))
    plain = bench.source.make("fp32", GraphRecipe())
    assert bench.costly_nodes("int8", GraphRecipe(), plain) == {}


@pytest.mark.parametrize(
    ("dynamic_ms", "static_ms", "expected"), [(1.0, 2.0, "dynamic"), (2.0, 1.0, "static")]
)
def test_the_faster_method_is_kept(
    tiny: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    dynamic_ms: float,
    static_ms: float,
    expected: str,
) -> None:
    bench = tune_module._Bench(Source(tiny, ENGINES, "audio"))
    monkeypatch.setattr(bench, "times_ms", lambda models: {"dynamic": dynamic_ms, "static": static_ms})
    assert bench.better_method() == expected


def test_of_two_as_fast_the_more_exact_one_is_kept(tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = tune_module._Bench(Source(tiny, ENGINES, "audio"))
    monkeypatch.setattr(bench, "times_ms", lambda models: dict.fromkeys(models, 1.0))
    errors = iter([0.3, 0.1])
    monkeypatch.setattr(bench, "error", lambda model, variant: next(errors))
    assert bench.better_method() == "static"


def small(values: int) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "c"], ["y"], name="add")],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", values])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", values])],
        [numpy_helper.from_array(np.ones(values, np.float32), "c")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_what_is_neither_smaller_nor_faster_is_dropped_with_a_reason(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = tune_module._Bench(Source(tiny, STEMS, "audio"))
    large, plain = small(100), small(10)
    assert bench.why_useless("int8", plain, large) is None
    monkeypatch.setattr(bench, "times_ms", lambda models: {"int8": 1.0, "fp32": 2.0})
    assert bench.why_useless("int8", large, plain) is None
    monkeypatch.setattr(bench, "times_ms", lambda models: {"int8": 2.0, "fp32": 1.0})
    assert "nor faster (2.000 ms, fp32 1.000) than fp32" in str(bench.why_useless("int8", large, plain))
    assert "not smaller than fp32" in str(bench.why_useless("fp16", large, plain))
