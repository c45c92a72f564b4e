"""Four variants of one graph: types, sizes, choices obeyed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from edgeemo.errors import ExportError, InputError
from edgeemo.export import Checkpoint
from edgeemo.export.dialect import ONNXRUNTIME, STANDARD
from edgeemo.export.drafts import Source
from edgeemo.export.gate.thresholds import Thresholds
from edgeemo.export.graph import bytes_from_model
from edgeemo.export.recipe import ENGINES, STEMS, GraphRecipe
from edgeemo.export.variants.make import (
    DIALECT_OF,
    VARIANTS,
    VariantContext,
    make_variant,
    quantized_nodes,
)

TINY = Path(__file__).parents[1] / "data" / "tiny_checkpoint"
SHIPPED = Path(__file__).resolve().parents[2] / "samples" / "checkpoints" / "live"


@pytest.fixture(scope="module")
def engine() -> Source:
    return Source(Checkpoint.open(TINY), ENGINES, "audio+text")


@pytest.fixture(scope="module")
def shipped() -> Source:
    return Source(Checkpoint.open(SHIPPED), ENGINES, "audio")


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def float_types(model: onnx.ModelProto) -> set[int]:
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    return {tensor.data_type for tensor in model.graph.initializer if tensor.data_type in floats}


@pytest.mark.parametrize("variant", VARIANTS)
def test_making_is_deterministic_and_leaves_the_graph_alone(engine: Source, variant: str) -> None:
    graph = engine.graph(DIALECT_OF[variant])
    before = bytes_from_model(graph)
    first, second = (engine.make(variant, GraphRecipe()) for _ in range(2))
    assert bytes_from_model(first) == bytes_from_model(second)
    assert bytes_from_model(graph) == before


@pytest.mark.parametrize("variant", ["fp16", "int8-trt"])
def test_gpu_variants_hold_no_fp32_but_speak_it(engine: Source, variant: str) -> None:
    model = engine.make(variant, GraphRecipe())
    assert float_types(model) == {TensorProto.FLOAT16}
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    assert len(casts) == len(model.graph.input) + len(model.graph.output)


def test_each_variant_is_smaller_than_fp32(shipped: Source) -> None:
    sizes = {variant: len(bytes_from_model(shipped.make(variant, GraphRecipe()))) for variant in VARIANTS}
    assert sizes["fp16"] < 0.56 * sizes["fp32"]
    assert sizes["int8"] < 0.36 * sizes["fp32"]
    assert sizes["int8-trt"] < 0.36 * sizes["fp32"]


def test_masks_stay_below_what_fp16_holds(shipped: Source) -> None:
    """The network masks with -10000; in fp16 it is -4096, and the headroom of the gate is kept."""
    before, after = shipped.graph(STANDARD), shipped.make("fp16", GraphRecipe())
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    least = [
        min(numpy_helper.to_array(t).min() for t in model.graph.initializer if t.data_type in floats)
        for model in (before, after)
    ]
    assert least == [-10000, -4096]


@pytest.mark.parametrize("variant", ["int8", "int8-trt"])
def test_what_a_recipe_keeps_float_is_float(shipped: Source, variant: str) -> None:
    everything = shipped.make(variant, GraphRecipe())
    graph = shipped.graph(DIALECT_OF[variant])
    first, *others = quantized_nodes(variant, graph)
    kept = shipped.make(variant, GraphRecipe(keep_float={first: 0.1}))
    kind = "DynamicQuantizeMatMul" if variant == "int8" else "QuantizeLinear"
    assert 0 < kinds(everything)[kind] - kinds(kept)[kind] <= 1
    nothing = shipped.make(variant, GraphRecipe(keep_float=dict.fromkeys([first, *others], 0.1)))
    assert kinds(nothing)[kind] == 0
    with pytest.raises(InputError, match="the engine audio has no node 'nobody' to keep float"):
        shipped.make(variant, GraphRecipe(keep_float={"nobody": 0.1}))


def test_static_int8_where_the_recipe_says_so(shipped: Source) -> None:
    model = shipped.make("int8", GraphRecipe(method="static"))
    assert kinds(model)["DynamicQuantizeMatMul"] == 0
    assert kinds(model)["QuantizeLinear"] > 5
    verdict = shipped.draft("int8", GraphRecipe(method="static"), Thresholds()).verdict
    assert verdict.changed == 0


def test_ranges_are_asked_for_only_where_they_are_needed(engine: Source) -> None:
    def ranges() -> dict[str, tuple[float, float]]:
        raise ExportError("asked for")

    for variant, dialect in (("fp32", ONNXRUNTIME), ("int8", ONNXRUNTIME), ("fp16", STANDARD)):
        make_variant(variant, engine.graph(dialect), VariantContext("x", ranges))
    with pytest.raises(ExportError, match="asked for"):
        make_variant("int8-trt", engine.graph(STANDARD), VariantContext("x", ranges))
    with pytest.raises(InputError, match="unknown variant 'fp8'"):
        make_variant("fp8", engine.graph(STANDARD), VariantContext("x", ranges))


def test_the_table_of_words_is_int8_in_all_but_fp32() -> None:
    stem = Source(Checkpoint.open(SHIPPED), STEMS, "text")
    tables = {}
    for variant in VARIANTS:
        arrays = [numpy_helper.to_array(t) for t in stem.make(variant, GraphRecipe()).graph.initializer]
        tables[variant] = max(arrays, key=lambda array: array.size)
    assert tables["fp32"].dtype == np.float32
    for variant in ("fp16", "int8-trt"):
        np.testing.assert_array_equal(tables[variant], tables["int8"])
        assert tables[variant].dtype == np.int8
