"""Products and convolutions in eight bits with ranges known beforehand (Q/DQ pairs), for two targets.

For CPUs activations are unsigned and outputs are quantized too, so that onnxruntime fuses whole
QLinearConv and QLinearMatMul operators. For TensorRT everything is symmetric, biases stay float and only
inputs are quantized: its parser takes no zero points and no int32 biases, and its builder decides itself
where a quantized output pays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from edgeemo.errors import ExportError
from edgeemo.export.graph import clean_graph, copy_model, sort_nodes
from edgeemo.export.variants.dynamic import is_constant_product

Ranges = Mapping[str, tuple[float, float]]

# Nodes that only move numbers: a convolution before them still makes the graph's output.
_MOVES = frozenset({"Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "Flatten"})
_QUANTIZED = ("Conv", "Gemm", "MatMul")
_TENSORRT = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": list(_QUANTIZED),
}


def quantize_for_cpu(
    model: onnx.ModelProto, ranges: Ranges, nodes: Collection[str], what: str
) -> onnx.ModelProto:
    """Returns a copy of ``model`` whose ``nodes`` have unsigned activations and int8 weights.

    A Relu behind a quantized convolution becomes the lower bound of its range.

    Args:
        model: a folded graph.
        ranges: value name -> (lo, hi), of the inputs and outputs of ``nodes``.
        nodes: names of convolutions and constant products.
        what: the graph's name, for messages.

    Raises:
        ExportError: an input or output has no range.
    """
    if not nodes:
        return model
    ranges = spread_ranges(model, ranges)
    outputs = {name for node in model.graph.node if node.name in nodes for name in node.output}
    bounds = [n.name for n in model.graph.node if n.op_type == "Relu" and n.input[0] in outputs]
    needed = [
        name for node in model.graph.node if node.name in nodes for name in (node.input[0], node.output[0])
    ]
    _require_ranges(ranges, needed, what)
    return _insert_pairs(model, ranges, {*nodes, *bounds}, QuantType.QUInt8, {})


def quantize_for_tensorrt(
    model: onnx.ModelProto, ranges: Ranges, nodes: Collection[str], what: str
) -> onnx.ModelProto:
    """Returns a copy of ``model`` with symmetric Q/DQ pairs before ``nodes``, weights and activations int8.

    Raises:
        ExportError: an input has no range.
    """
    if not nodes:
        return model
    ranges = spread_ranges(model, ranges)
    needed = [node.input[0] for node in model.graph.node if node.name in nodes]
    _require_ranges(ranges, needed, what)
    return _insert_pairs(model, ranges, nodes, QuantType.QInt8, _TENSORRT)


def spread_ranges(model: onnx.ModelProto, ranges: Ranges) -> dict[str, tuple[float, float]]:
    """Returns ``ranges`` with those of values that graph passes made of known ones added.

    Ranges are measured on the graph before its passes. A pass that hands the same numbers on in another
    shape, or a part of them, names its value after the old one: ``linear.rows`` after ``linear``. Values put
    together have the range of all of them.
    """
    found = dict(ranges)
    for node in model.graph.node:
        if node.op_type == "Concat" and all(name in found for name in node.input):
            low, high = zip(*(found[name] for name in node.input), strict=True)
            found.setdefault(node.output[0], (min(low), max(high)))
        for name in node.output:
            known = name
            while known not in found and "." in known:
                known = known.rpartition(".")[0]
            if known in found:
                found.setdefault(name, found[known])
    return found


def quantizable_convolutions(model: onnx.ModelProto) -> list[str]:
    """Returns the names of the convolutions that are worth eight bits.

    One over a single raw input channel has few weights and is faster in float; one that makes the
    graph's output stays float so that input louder than the training data is not clipped.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    last = _values_that_are_outputs(model.graph)
    chosen = []
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in weights or node.output[0] in last:
            continue
        groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        if weights[node.input[1]].dims[1] * groups > 1:
            chosen.append(node.name)
    return chosen


def quantizable_nodes(model: onnx.ModelProto) -> list[str]:
    """Returns the names of the convolutions and constant products that could be int8."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    convolutions = set(quantizable_convolutions(model))
    return [
        node.name
        for node in model.graph.node
        if node.name in convolutions or is_constant_product(node, weights)
    ]


def _insert_pairs(
    model: onnx.ModelProto,
    ranges: Ranges,
    nodes: Collection[str],
    activations: QuantType,
    options: Mapping[str, object],
) -> onnx.ModelProto:
    data = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    quantizer = QDQQuantizer(
        _typed(model),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=activations,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=list(nodes),
        nodes_to_exclude=[],
        op_types_to_quantize=[*_QUANTIZED, "Relu"],
        extra_options=dict(options),
    )
    quantizer.quantize_model()
    return clean_graph(sort_nodes(quantizer.model.model))


def _typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy that says of each value what type it has; behind contrib operators it is float."""
    typed = onnx.shape_inference.infer_shapes(copy_model(model))
    graph = typed.graph
    known = {value.name for value in (*graph.value_info, *graph.input, *graph.output)}
    for node in graph.node:
        for name in node.output:
            if name and name not in known:
                graph.value_info.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return typed


def _require_ranges(ranges: Ranges, needed: list[str], what: str) -> None:
    missing = [name for name in needed if name not in ranges]
    if missing:
        raise ExportError(
            f"{what} has no activation range for {missing[0]!r} (of {len(missing)} missing) in ranges.json; "
            "save the checkpoint again with the installed onnx and onnxscript, or export with --variant fp32"
        )


def _values_that_are_outputs(graph: onnx.GraphProto) -> set[str]:
    """Returns the names of values that reach an output of the graph unchanged but for their shape."""
    found = {value.name for value in graph.output}
    for node in reversed(graph.node):
        if node.op_type in _MOVES and node.output[0] in found:
            found.add(node.input[0])
    return found
