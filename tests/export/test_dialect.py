"""Which operators each dialect has, and that every graph keeps to its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, defs, helper, numpy_helper

from edgeemo.bundle import Bundle
from edgeemo.errors import ExportError, InputError
from edgeemo.export.dialect import (
    CONTRIB_OPERATORS,
    ONNXRUNTIME,
    STANDARD,
    TENSORRT_OPERATORS,
    check_operators,
)
from edgeemo.export.variants.make import DIALECT_OF, VARIANTS


def one_node(kind: str, inputs: list[str], domain: str = "") -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, ["y"], name="the_node", domain=domain)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.float32(0.1), "scale"),
            numpy_helper.from_array(np.array(0, np.int8), "zero"),
            numpy_helper.from_array(np.array(3, np.int8), "three"),
            numpy_helper.from_array(np.array(0, np.uint8), "unsigned"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_graph_keeps_to_the_dialect_of_its_variant(tiny_export: Path, variant: str) -> None:
    bundle = Bundle.open(tiny_export)
    graphs = [bundle.read_engine(subset, variant) for subset in bundle.manifest.engines]
    graphs += [bundle.read_stem(modality, variant) for modality in bundle.manifest.stems]
    for graph in graphs:
        model = onnx.load_model_from_string(graph.self_contained())
        check_operators(model, DIALECT_OF[variant], graph.name)
        versions = {entry.domain: entry.version for entry in model.opset_import}
        assert versions[""] == 20
        assert model.ir_version == 10
        if DIALECT_OF[variant] == STANDARD:
            assert {node.domain for node in model.graph.node} == {""}
            onnx.checker.check_model(model, full_check=True)
        for value in (*model.graph.input, *model.graph.output):
            assert value.type.tensor_type.elem_type in (TensorProto.FLOAT, TensorProto.INT64)


def test_the_list_names_operators_of_opset_20() -> None:
    known = {schema.name for schema in defs.get_all_schemas_with_history() if schema.since_version <= 20}
    assert known >= TENSORRT_OPERATORS
    for later in ("Attention", "RMSNormalization", "DynamicQuantizeLinear", "MatMulInteger", "If", "Loop"):
        assert later not in TENSORRT_OPERATORS


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (one_node("MatMulInteger", ["x", "x"]), "'the_node' is MatMulInteger, which TensorRT 10.3"),
        (one_node("FusedMatMul", ["x", "x"], "com.microsoft"), "is com.microsoft.FusedMatMul"),
        (one_node("Pad", ["x", "p", "", "axes"]), "is Pad with axes"),
        (one_node("QuantizeLinear", ["x", "scale", "unsigned"]), "zero point that is not an int8 zero"),
        (one_node("QuantizeLinear", ["x", "scale", "three"]), "zero point that is not an int8 zero"),
        (one_node("DequantizeLinear", ["x", "scale", "computed"]), "zero point that is not an int8 zero"),
    ],
)
def test_what_tensorrt_lacks_is_named_with_its_node(model: onnx.ModelProto, sentence: str) -> None:
    with pytest.raises(ExportError, match=sentence):
        check_operators(model, STANDARD, "the engine audio (fp16)")
    if not model.graph.node[0].domain:
        check_operators(model, ONNXRUNTIME, "the engine audio (int8)")


def test_what_is_there_passes() -> None:
    check_operators(one_node("QuantizeLinear", ["x", "scale", "zero"]), STANDARD, "x")
    check_operators(one_node("Pad", ["x", "p"]), STANDARD, "x")
    check_operators(one_node("BiasGelu", ["x", "x"], "com.microsoft"), ONNXRUNTIME, "x")
    assert "DynamicQuantizeMatMul" in CONTRIB_OPERATORS


def test_other_domains_are_refused_everywhere() -> None:
    for domain, kind in (("of.nobody", "Add"), ("com.microsoft", "RotaryEmbedding")):
        with pytest.raises(ExportError, match=rf"is {domain}\.{kind}, which onnxruntime's CPU provider"):
            check_operators(one_node(kind, ["x", "x"], domain), ONNXRUNTIME, "x")
    with pytest.raises(InputError, match="unknown dialect 'openvino'; there are: onnxruntime, standard"):
        check_operators(one_node("Add", ["x", "x"]), "openvino", "x")
