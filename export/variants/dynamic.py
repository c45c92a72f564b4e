"""Products with a constant in eight bits, their activations quantized on the fly: for CPUs.

One `com.microsoft.DynamicQuantizeMatMul` stands for what onnxruntime's quantizer writes as
DynamicQuantizeLinear, MatMulInteger, Cast, two Mul and Add, and what onnxruntime then fuses again each
time it opens the engine. Weights are int8 with one scale for each output; LayerNorm, softmax, residual
additions and attention's products of two activations stay float. No range of an input is assumed.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgeemo.export.graph import copy_model, copy_node, keep_used_initializers

PACKED, SCALE = "_quantized", "_scale"
DOMAIN = "com.microsoft"
_LEVELS = 127


def quantize_products(model: onnx.ModelProto, *, keep_float: Collection[str] = ()) -> onnx.ModelProto:
    """Returns a copy of ``model`` whose products with a constant matrix are int8.

    Args:
        model: a folded graph; MatMul, and Gemm without scaling, are taken.
        keep_float: names of nodes to leave as they are.
    """
    quantized = copy_model(model)
    graph = quantized.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    biases = _following_biases(graph, weights)
    packed: dict[str, onnx.TensorProto] = {}
    nodes: list[onnx.NodeProto] = []
    absorbed: set[str] = set()
    for node in graph.node:
        if node.output and node.output[0] in absorbed:
            continue
        if node.name in keep_float or not is_constant_product(node, weights):
            nodes.append(copy_node(node))
            continue
        name, turned = node.input[1], _is_turned(node)
        bias, output = biases.get(node.output[0], ("", node.output[0]))
        if node.op_type == "Gemm" and len(node.input) > 2:
            bias, output = node.input[2], node.output[0]
        if output != node.output[0]:
            absorbed.add(output)
        stored = name if not turned or name.endswith(".transposed") else f"{name}.transposed"
        if stored not in packed:
            weight = numpy_helper.to_array(weights[name])
            columns, scale = columns_from_weight(weight.T if turned else weight)
            packed[stored] = numpy_helper.from_array(columns, f"{stored}{PACKED}")
            packed[f"{stored}{SCALE}"] = numpy_helper.from_array(scale, f"{stored}{SCALE}")
        inputs = [node.input[0], f"{stored}{PACKED}", f"{stored}{SCALE}"] + (["", bias] if bias else [])
        nodes.append(
            helper.make_node("DynamicQuantizeMatMul", inputs, [output], name=node.name, domain=DOMAIN)
        )
    if not packed:
        return quantized
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(packed.values())
    keep_used_initializers(graph)
    if DOMAIN not in {entry.domain for entry in quantized.opset_import}:
        quantized.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return quantized


def constant_products(model: onnx.ModelProto) -> list[str]:
    """Returns the names of the nodes that `quantize_products` takes, in the order of the graph."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if is_constant_product(node, weights)]


def is_constant_product(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    """Tells whether a node multiplies an activation with a constant fp32 matrix and does no more."""
    if node.op_type not in ("MatMul", "Gemm") or node.domain not in ("", "ai.onnx"):
        return False
    weight = weights.get(node.input[1])
    if weight is None or weight.data_type != onnx.TensorProto.FLOAT or len(weight.dims) != 2:
        return False
    if node.op_type == "MatMul":
        return node.input[0] not in weights
    plain = {"alpha": 1.0, "beta": 1.0}
    for attribute in node.attribute:
        if attribute.name == "transA" and attribute.i:
            return False
        if attribute.name in plain and attribute.f != plain[attribute.name]:
            return False
    bias = weights.get(node.input[2]) if len(node.input) > 2 else None
    return node.input[0] not in weights and (
        len(node.input) < 3 or (bias is not None and len(bias.dims) == 1)
    )


def columns_from_weight(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Returns a matrix (in, out) as int8 and the scale of each column: ``weight ~ int8 * scale``."""
    largest = np.abs(weight).max(axis=0)
    scale = np.where(largest > 0, largest / np.float32(_LEVELS), np.float32(1)).astype(np.float32)
    columns = np.clip(np.rint(weight / scale), -_LEVELS, _LEVELS).astype(np.int8)
    return np.ascontiguousarray(columns), scale


def _is_turned(node: onnx.NodeProto) -> bool:
    return node.op_type == "Gemm" and any(a.name == "transB" and a.i == 1 for a in node.attribute)


def _following_biases(
    graph: onnx.GraphProto, weights: dict[str, onnx.TensorProto]
) -> dict[str, tuple[str, str]]:
    """Returns product -> (bias, sum) where adding a constant row is the only use of a MatMul's product."""
    uses: dict[str, int] = {value.name: 1 for value in graph.output}
    for node in graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    products = {node.output[0]: node for node in graph.node if node.op_type == "MatMul"}
    found: dict[str, tuple[str, str]] = {}
    for node in graph.node:
        if node.op_type != "Add" or len(node.input) != 2:
            continue
        for value, bias in (tuple(node.input), tuple(reversed(node.input))):
            product = products.get(value)
            if product is None or uses[value] != 1 or bias not in weights:
                continue
            width = weights[product.input[1]].dims[-1] if product.input[1] in weights else None
            if list(weights[bias].dims) == [width]:
                found[value] = (bias, node.output[0])
    return found
