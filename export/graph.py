"""Graphs of a checkpoint: read without their weights, bound to them by name, folded and cleaned.

A checkpoint's graph holds no numbers. Each initializer is marked external and bears the name of a
module's weight; where it points to is never looked at. Binding writes the (merged) weight into it,
folding turns the tracer's transposes and shape arithmetic into constants, cleaning takes away what the
tracer left behind. All of it is deterministic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
from numpy.typing import NDArray
from onnxscript import optimizer

from edgeemo.errors import CheckpointError, ExportError

OPSET = 20
IR_VERSION = 10
TRANSPOSED = ".transposed"

Weights = Mapping[str, NDArray[np.float32]]


def load_graph(path: Path) -> onnx.ModelProto:
    """Returns the graph in ``path`` without loading or following any external data.

    Raises:
        CheckpointError: not an ONNX file, of another opset or IR version, with operators outside the
            standard set, or with external data anywhere but in its initializers.
    """
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as reason:
        raise CheckpointError(f"{path}: cannot be read ({reason.strerror or reason})") from None
    except Exception as reason:  # the protobuf backends have no common class for a parse error
        raise CheckpointError(f"{path}: not an ONNX model ({reason})") from None
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if opsets.get("ai.onnx") != OPSET or model.ir_version > IR_VERSION or not model.graph.output:
        raise CheckpointError(
            f"{path}: opset {opsets.get('ai.onnx')}, IR {model.ir_version}, {len(model.graph.output)} "
            f"outputs; expected opset {OPSET} and at most IR {IR_VERSION}: trace the network again with these"
        )
    for node in _all_nodes(model.graph):
        if node.domain not in ("", "ai.onnx"):
            raise CheckpointError(
                f"{path}: the node {node.name!r} is {node.domain}.{node.op_type}; expected standard operators"
            )
        for tensor in _attribute_tensors(node):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                raise CheckpointError(f"{path}: the node {node.name!r} points to data outside the graph")
    return model


def weight_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Returns name and shape of each initializer that waits for its weight.

    Raises:
        CheckpointError: such an initializer is not fp32.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        if tensor.data_type != onnx.TensorProto.FLOAT:
            kind = onnx.TensorProto.DataType.Name(tensor.data_type)
            raise CheckpointError(f"the initializer {tensor.name!r} is {kind}; weights are FLOAT")
        shapes[tensor.name] = tuple(tensor.dims)
    return shapes


def io_shapes(values: object) -> dict[str, tuple[int | str, ...]]:
    """Returns the shape of each graph input or output: numbers, and names where symbolic."""
    shapes: dict[str, tuple[int | str, ...]] = {}
    for value in values:  # type: ignore[attr-defined]  # a protobuf repeated field
        dims = value.type.tensor_type.shape.dim
        shapes[value.name] = tuple(
            dim.dim_value if dim.HasField("dim_value") else str(dim.dim_param) for dim in dims
        )
    return shapes


def bind_weights(model: onnx.ModelProto, weights: Weights) -> onnx.ModelProto:
    """Returns a copy of ``model`` whose initializers hold their weights.

    Raises:
        ExportError: an initializer has no weight of its name and shape.
    """
    bound = onnx.ModelProto()
    bound.CopyFrom(model)
    for tensor in bound.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        weight = weights.get(tensor.name)
        if weight is None or weight.shape != tuple(tensor.dims):
            found = "none" if weight is None else f"one of shape {list(weight.shape)}"
            raise ExportError(
                f"the graph's initializer {tensor.name!r} {list(tensor.dims)} needs a weight; found {found}"
            )
        fresh = onnx.TensorProto(name=tensor.name, data_type=onnx.TensorProto.FLOAT, dims=weight.shape)
        fresh.raw_data = np.ascontiguousarray(weight, dtype="<f4").tobytes()
        tensor.CopyFrom(fresh)
    return bound


def fold_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns ``model`` with constants folded, dead nodes gone and the tracer's remarks taken off.

    The transpose of a weight becomes the initializer ``<weight>.transposed``, also where several nodes
    use the weight: onnxruntime's quantizer transposes a shared weight in place, and a Transpose that was
    left beside it would turn it back. Equal initializers are stored once.
    """
    named = _name_transposes(model)
    graph = onnx_ir.from_proto(named)
    optimizer.optimize_ir(graph, should_fold=lambda node: True if node.op_type == "Transpose" else None)
    return clean_graph(onnx_ir.to_proto(graph))


def clean_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Takes metadata, documentation and shape remarks off ``model`` (changed in place) and returns it.

    Stale ``value_info`` makes onnxruntime's quantizer fail, and the tracer's metadata is half a megabyte.
    """
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    model.doc_string = ""
    model.graph.doc_string = ""
    model.graph.name = "edgeemo"
    model.producer_name = "edgeemo"
    model.producer_version = ""
    model.ir_version = IR_VERSION
    for part in (model.graph.node, model.graph.initializer, model.graph.input, model.graph.output):
        for item in part:
            item.doc_string = ""
            del item.metadata_props[:]
    return model


def copy_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy that can be changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def copy_node(node: onnx.NodeProto) -> onnx.NodeProto:
    """Returns a copy that outlives the graph it came from."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def sort_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Puts every node of ``model`` (changed in place) behind those whose values it uses; returns it.

    Nodes that do not depend on each other keep their order.
    """
    graph = model.graph
    made = {name for node in graph.node for name in node.output}
    waiting = [copy_node(node) for node in graph.node]
    ready: set[str] = set()
    ordered: list[onnx.NodeProto] = []
    while waiting:
        later = []
        for node in waiting:
            if all(name in ready or name not in made for name in node.input):
                ordered.append(node)
                ready.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise ExportError(f"the nodes of the graph feed each other in a circle, at {later[0].name!r}")
        waiting = later
    del graph.node[:]
    graph.node.extend(ordered)
    return model


def keep_used_initializers(graph: onnx.GraphProto) -> None:
    """Takes initializers that nothing uses out of ``graph`` (changed in place)."""
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    if len(kept) < len(graph.initializer):
        copies = [onnx.TensorProto() for _ in kept]
        for copy, tensor in zip(copies, kept, strict=True):
            copy.CopyFrom(tensor)
        del graph.initializer[:]
        graph.initializer.extend(copies)


def expose_values(model: onnx.ModelProto) -> onnx.ModelProto:
    """Makes every value that a node of ``model`` (changed in place) computes an output; returns it."""
    known = {value.name for value in model.graph.output}
    inner = [name for node in model.graph.node for name in node.output if name and name not in known]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    return model


def bytes_from_model(model: onnx.ModelProto) -> bytes:
    """Returns ``model`` serialized; equal models give equal bytes."""
    return bytes(model.SerializeToString(deterministic=True))


def _name_transposes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy in which what is made of a weight by a transpose bears the weight's name."""
    named = onnx.ModelProto()
    named.CopyFrom(model)
    weights = {tensor.name for tensor in named.graph.initializer}
    fresh: dict[str, str] = {}
    for node in named.graph.node:
        if node.op_type == "Transpose" and node.input[0] in weights:
            name = node.input[0] + TRANSPOSED
            if name not in fresh.values():
                fresh[node.output[0]] = name
    for node in named.graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                names[position] = fresh.get(name, name)
    del named.graph.value_info[:]
    return named


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _all_nodes(inner)


def _attribute_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for inner in (attribute.g, *attribute.graphs):
            yield from inner.initializer
