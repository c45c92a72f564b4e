"""The ``int8`` variant for CPUs: eight-bit weights per channel, inputs and outputs fp32.

What becomes int8, and why (one core with VNNI, side by side, error relative to the root mean square):

- products with a constant (MatMul, Gemm): weights QInt8 per output channel, activations quantized on
  the fly (`DynamicQuantizeLinear`), so no range of an engine's inputs is assumed. LayerNorm, softmax,
  residual additions and attention's products of two activations stay float.
- convolutions: static Q/DQ pairs from ranges learned on training data, which onnxruntime fuses to
  `QLinearConv`. The face stem takes 0.16 ms instead of 0.46. A convolution over one raw input channel
  stays float: it has 2 % of the weights and the voice stem takes 0.14 ms with it in int8, 0.09 without.
  One that makes the features themselves stays float too, so that input louder than the training data
  is not clipped (largest error of the voice stem 8 % -> 3 % for 16 kB).
- lookup tables: int8 with one scale a row, so that rare rows keep their precision: error 0.6 % for
  1.1 MB, where one scale a table gives 1.8 % for 1.05 MB and one a column costs 25 % more time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import ExportError, MissingDependencyError
from edgeemo.export.graph import clean_graph

try:
    import onnx
    from onnx import helper, numpy_helper
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
except ImportError as reason:
    raise MissingDependencyError(
        "export", reason.name or "onnxruntime", "pip install 'edgeemo[export,cpu]'"
    ) from None

SMALLEST_TABLE = 1024  # rows; below, a table is not worth two more nodes
_LEVELS = 127
# Nodes that only move numbers: a convolution before them still makes the graph's output.
_MOVES = frozenset({"Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "Flatten"})


def quantize_engine(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the int8 variant of a folded trunk: constant products quantized, everything else float."""
    return _quantize_products(model)


def quantize_stem(
    model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]], what: str
) -> onnx.ModelProto:
    """Returns the int8 variant of a folded stem.

    Args:
        model: the folded stem.
        ranges: value name -> (lo, hi) on training data, as `activation_ranges` measured them.
        what: the stem's name, for messages.

    Raises:
        ExportError: a convolution's input or output has no range.
    """
    return _quantize_tables(_quantize_convolutions(_quantize_products(model), ranges, what))


def rows_from_table(
    table: NDArray[np.float32],
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Returns a table (rows, width) as int8 and its scales (rows, 1): ``table ~ int8 * scale``.

    The error of a number is at most half a scale, which is the row's largest number / 127. Rows of
    zeros stay exactly zero.
    """
    largest = np.abs(table).max(axis=1, keepdims=True)
    scale = np.where(largest > 0, largest / np.float32(_LEVELS), np.float32(1)).astype(np.float32)
    rows = np.clip(np.rint(table / scale), -_LEVELS, _LEVELS).astype(np.int8)
    return rows, scale


def _quantize_products(model: onnx.ModelProto) -> onnx.ModelProto:
    if not any(node.op_type in ("MatMul", "Gemm") for node in model.graph.node):
        return model
    prepared = _copy(model)
    # Without this mark the quantizer warns through the root logger about a step that folding replaces.
    helper.set_model_props(prepared, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory(prefix="edgeemo-") as folder:
        place = Path(folder) / "int8.onnx"
        quantize_dynamic(
            prepared,
            place,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        return clean_graph(onnx.load(place))


def _quantize_convolutions(
    model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]], what: str
) -> onnx.ModelProto:
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    last = _values_that_are_outputs(model.graph)
    chosen, needed = [], []
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in weights or node.output[0] in last:
            continue
        groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        if weights[node.input[1]].dims[1] * groups > 1:
            chosen.append(node.name)
            needed += [node.input[0], node.output[0]]
    if not chosen:
        return model
    missing = [name for name in needed if name not in ranges]
    if missing:
        raise ExportError(
            f"the stem of {what!r} has no activation range for {missing[0]!r} (of {len(missing)} missing) in "
            "ranges.json; save the checkpoint again with the installed onnx and onnxscript, or export "
            "with --variant fp32"
        )
    data = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    others = [
        node.name for node in model.graph.node if node.op_type in ("Conv", "Relu") and node.name not in chosen
    ]
    followers = {name for node in model.graph.node if node.name in chosen for name in node.output}
    excluded = [
        node.name
        for node in model.graph.node
        if node.name in others and not (node.op_type == "Relu" and node.input[0] in followers)
    ]
    quantizer = QDQQuantizer(
        onnx.shape_inference.infer_shapes(_copy(model)),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=[],
        nodes_to_exclude=excluded,
        op_types_to_quantize=["Conv", "Relu"],
        extra_options={},
    )
    quantizer.quantize_model()
    return clean_graph(quantizer.model.model)


def _values_that_are_outputs(graph: onnx.GraphProto) -> set[str]:
    """Returns the names of values that reach an output of the graph unchanged but for their shape."""
    found = {value.name for value in graph.output}
    for node in reversed(graph.node):
        if node.op_type in _MOVES and node.output[0] in found:
            found.add(node.input[0])
    return found


def _quantize_tables(model: onnx.ModelProto) -> onnx.ModelProto:
    quantized = _copy(model)
    graph = quantized.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    tables: dict[str, onnx.TensorProto] = {}
    for node in graph.node:
        tensor = weights.get(node.input[0]) if node.op_type == "Gather" else None
        if tensor is None or not _is_table(tensor):
            nodes.append(node)
            continue
        tables[tensor.name] = tensor
        nodes += _lookup_nodes(tensor.name, node.input[1], node.output[0])
    for name, tensor in tables.items():
        rows, scale = rows_from_table(numpy_helper.to_array(tensor))
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(rows, f"{name}_quantized"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
    kept = [_copy_node(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    return quantized


def _is_table(tensor: onnx.TensorProto) -> bool:
    return (
        tensor.data_type == onnx.TensorProto.FLOAT
        and len(tensor.dims) == 2
        and tensor.dims[0] >= SMALLEST_TABLE
    )


def _lookup_nodes(table: str, ids: str, output: str) -> list[onnx.NodeProto]:
    """Returns the nodes for ``table[ids]`` out of int8 rows and their scales."""
    rows, scale, numbers = f"{output}.rows", f"{output}.scale", f"{output}.numbers"
    return [
        helper.make_node("Gather", [f"{table}_quantized", ids], [rows], name=rows),
        helper.make_node("Gather", [f"{table}_scale", ids], [scale], name=scale),
        helper.make_node("Cast", [rows], [numbers], name=numbers, to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", [numbers, scale], [output], name=f"{output}.scaled"),
    ]


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _copy_node(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy
