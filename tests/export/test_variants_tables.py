"""Tables in int8: every row precise, two forms for two kinds of device."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeemo.export.graph import bytes_from_model
from edgeemo.export.variants.tables import pack_tables, rows_from_table
from edgeemo.runtimes import OrtRunner


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


def lookup(rows: int = 2048, axis: int = 0) -> onnx.ModelProto:
    table = np.random.default_rng(3).normal(size=(rows, 8)).astype(np.float32)
    table[0] = 0
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input.x"], ["features.x"], name="lookup", axis=axis)],
        "stem",
        [helper.make_tensor_value_info("input.x", TensorProto.INT64, ["batch", 5])],
        [helper.make_tensor_value_info("features.x", TensorProto.FLOAT, ["batch", None, None])],
        [numpy_helper.from_array(table, "table")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("whole", [False, True])
def test_a_table_becomes_bytes_and_gives_the_same_rows(whole: bool) -> None:
    model = lookup()
    table = numpy_helper.to_array(model.graph.initializer[0])
    int8 = pack_tables(model, whole=whole)
    ids = np.random.default_rng(4).integers(0, 2048, size=(7, 5))
    ids[:, 0] = 0
    with OrtRunner(bytes_from_model(int8)) as runner:
        found = runner.run({"input.x": ids})["features.x"]
    assert np.abs(found - table[ids]).max() <= 0.5001 * np.abs(table).max() / 127
    assert not found[:, 0].any()
    assert len(bytes_from_model(int8)) < 0.4 * len(bytes_from_model(model))
    assert ("DequantizeLinear" in {node.op_type for node in int8.graph.node}) == whole


def test_small_tables_and_other_uses_stay() -> None:
    for model in (lookup(rows=100), lookup(axis=1)):
        assert bytes_from_model(pack_tables(model)) == bytes_from_model(model)
    other = lookup()
    other.graph.node.append(helper.make_node("Identity", ["table"], ["copy"], name="copy"))
    assert bytes_from_model(pack_tables(other)) == bytes_from_model(other)
