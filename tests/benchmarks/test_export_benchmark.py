"""The ceiling has the engine's own products, and the page shows every figure; speed is not judged here."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")

import onnx
from tiny_graphs import C, D, engine_bytes

from benchmarks.export.ceiling import Product, ceiling_graph, products_from_graph
from benchmarks.export.contest import bound_call_of, open_session, profile_operators, time_in_turns


def tiny_engine() -> onnx.ModelProto:
    return onnx.load_model_from_string(engine_bytes())


def test_the_products_of_an_engine_are_found_with_their_shapes() -> None:
    assert products_from_graph(tiny_engine()) == [Product((1, D), (D, C), True)]
    assert Product((2, 5, 8), (2, 8, 5), False).multiply_adds == 2 * 5 * 8 * 5


@pytest.mark.parametrize("integers", [False, True])
def test_the_ceiling_computes_every_product_and_nothing_else(integers: bool) -> None:
    products = [Product((5, 8), (8, 16), True), Product((2, 5, 4), (2, 4, 5), False)]
    model = ceiling_graph(products, integers=integers)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == ["MatMulInteger" if integers else "MatMul", "MatMul"]
    session = open_session(model)
    assert [value.shape for value in session.get_outputs()] == [[5, 16], [2, 5, 5]]
    times = time_in_turns({"one": bound_call_of(session), "other": bound_call_of(session)}, 5)
    assert set(times) == {"one", "other"}
    assert all(0 < time.p10_ms <= time.p50_ms for time in times.values())


def test_the_profile_counts_the_nodes_of_each_operator() -> None:
    found: dict[str, Any] = profile_operators(tiny_engine(), 20)
    assert found["MatMul"][0] == 1
