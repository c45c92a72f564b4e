"""Graphs as a server runs them: whole windows through a stem, rows that do not see each other, softmax.

A session runs a stem block by block and an engine on one window at a time. A server gets whole windows of
many devices and runs them in one batch; these rewrites make the answers those of a session all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeemo.bundle import GraphFile, ModalitySpec, SubsetSpec
from edgeemo.errors import ExportError
from edgeemo.export.graph import IR_VERSION, OPSET, bytes_from_model, copy_model, copy_node

BATCH = "batch"
PASSED_LOGITS = "passed_logits"
_LARGEST_MODEL = 2**31 - 1  # bytes that protobuf can hold in one message
_DYNAMIC = "DynamicQuantize"


def read_model(graph: GraphFile) -> onnx.ModelProto:
    """Returns a graph of a bundle with all its numbers inside.

    Raises:
        ExportError: it is too large for one file.
    """
    size = len(graph.model) + sum(array.nbytes for array in graph.tensors.values())
    if size > _LARGEST_MODEL:
        raise ExportError(
            f"{graph.name} has {size / 1e9:.1f} GB with its weights; a model of one file holds 2.1 GB at most"
        )
    return onnx.load_model_from_string(graph.self_contained())


def sees_its_batch(model: onnx.ModelProto) -> bool:
    """Tells whether an answer depends on which other rows share the run: activations scaled over all."""
    return any(node.op_type.startswith(_DYNAMIC) for node in model.graph.node)


def window_items(spec: ModalitySpec) -> int:
    """Returns how many front-end items one window of an engine is made of, left context included."""
    stem = spec.stem
    if stem.scope == "window":
        return stem.block
    return stem.left_context + _blocks(spec) * stem.block


def window_stem(model: onnx.ModelProto, spec: ModalitySpec) -> onnx.ModelProto:
    """Returns a stem that takes a whole window instead of a block.

    The stem of a stream gets another input: ``input.<m>`` (batch, items, ...) is cut into the blocks that a
    session would run, oldest first, and ``mask.<m>`` (batch, T) empties the features of what was not there.
    A stem that takes windows already stays as it is.

    Args:
        model: the stem of the bundle.
        spec: its modality.
    """
    core = rows_alone(model)
    if spec.stem.scope == "window":
        return core
    name, stem, count = spec.name, spec.stem, _blocks(spec)
    span, length, width = stem.left_context + stem.block, spec.window.length, spec.feature_width
    source, cut, made = f"input.{name}", f"blocks.{name}", f"block_features.{name}"
    inner = renamed(core, {source: cut, f"features.{name}": made}).graph
    places = np.arange(count)[:, None] * stem.block + np.arange(span)  # (blocks, span)
    made_count = count * stem.features_per_block
    constants = {
        "window.places": places.astype(np.int64),
        "window.block_shape": np.array([-1, span, *stem.item_shape], np.int64),
        "window.shape": np.array([-1, made_count, width], np.int64),
        "window.first": np.array([made_count - length], np.int64),
        "window.end": np.array([made_count], np.int64),
        "window.axis": np.array([1], np.int64),
        "window.last": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Gather", [source, "window.places"], ["window.cut"], "window.gather", axis=1),
        helper.make_node("Reshape", ["window.cut", "window.block_shape"], [cut], "window.blocks"),
        *map(copy_node, inner.node),
        helper.make_node("Reshape", [made, "window.shape"], ["window.all"], "window.join"),
        helper.make_node(
            "Slice",
            ["window.all", "window.first", "window.end", "window.axis"],
            ["window.newest"],
            "window.keep",
        ),
        helper.make_node("Unsqueeze", [f"mask.{name}", "window.last"], ["window.mask"], "window.column"),
        helper.make_node("Mul", ["window.newest", "window.mask"], [f"features.{name}"], "window.empty"),
    ]
    kind = inner.input[0].type.tensor_type.elem_type
    graph = helper.make_graph(
        nodes,
        inner.name,
        [
            helper.make_tensor_value_info(source, kind, [BATCH, window_items(spec), *stem.item_shape]),
            helper.make_tensor_value_info(f"mask.{name}", TensorProto.FLOAT, [BATCH, length]),
        ],
        [helper.make_tensor_value_info(f"features.{name}", TensorProto.FLOAT, [BATCH, length, width])],
        [*inner.initializer, *(numpy_helper.from_array(array, key) for key, array in constants.items())],
    )
    return _model(graph, model)


def rows_alone(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a network whose answer to a row never depends on the other rows of the run.

    One that scales its activations over all rows gets each row run by itself (a Scan over the batch): what
    others sent at the same moment changes nothing. Any other stays as it is.
    """
    if not sees_its_batch(model):
        return model
    graph = model.graph
    inputs, outputs = [item.name for item in graph.input], [item.name for item in graph.output]
    body = renamed(model, {name: f"one.{name}" for name in (*inputs, *outputs)}).graph
    axis = numpy_helper.from_array(np.array([0], np.int64), "row.axis")
    nodes = [
        *(
            helper.make_node("Unsqueeze", [f"row.{n}", "row.axis"], [f"one.{n}"], f"row.in.{n}")
            for n in inputs
        ),
        *map(copy_node, body.node),
        *(
            helper.make_node("Squeeze", [f"one.{n}", "row.axis"], [f"row.{n}"], f"row.out.{n}")
            for n in outputs
        ),
    ]
    row = helper.make_graph(
        nodes,
        "row",
        [_without_batch(item) for item in graph.input],
        [_without_batch(item) for item in graph.output],
        [*body.initializer, axis],
    )
    scan = helper.make_node("Scan", inputs, outputs, "rows", body=row, num_scan_inputs=len(inputs))
    return _model(helper.make_graph([scan], graph.name, list(graph.input), list(graph.output)), model)


def probabilities_model(spec: SubsetSpec) -> onnx.ModelProto:
    """Returns the rule of `edgeemo.bundle.probabilities_from_logits` as a graph: logits -> probabilities.

    The logits come out again as `PASSED_LOGITS`: Triton prunes a step whose outputs nobody asked for even
    where a later step needs them, so what an ensemble gives must be nothing that one of its steps takes.
    """
    count = len(spec.prior)
    constants = {
        "temperature": np.float32(spec.temperature),
        "log_prior": np.array([math.log(share) for share in spec.prior], np.float32),
    }
    nodes = [
        helper.make_node("Div", ["logits", "temperature"], ["tempered"], "temper"),
        helper.make_node("Add", ["tempered", "log_prior"], ["scores"], "weigh"),
        helper.make_node("Softmax", ["scores"], ["probabilities"], "normalize", axis=-1),
        helper.make_node("Identity", ["logits"], [PASSED_LOGITS], "pass"),
    ]
    row = [BATCH, count]
    graph = helper.make_graph(
        nodes,
        "edgeemo",
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, row)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, row)
            for name in ("probabilities", PASSED_LOGITS)
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version, model.producer_name = IR_VERSION, "edgeemo"
    return model


def renamed(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """Returns a copy of ``model`` whose values of these names have others."""
    copy = copy_model(model)
    _rename(copy.graph, names)
    return copy


def bytes_of(model: onnx.ModelProto) -> bytes:
    """Returns the checked model as a file.

    Raises:
        ExportError: the model is not what ONNX allows.
    """
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as reason:
        raise ExportError(f"a graph for the server is not valid: {reason}") from None
    return bytes_from_model(model)


def _blocks(spec: ModalitySpec) -> int:
    return -(-spec.window.length // spec.stem.features_per_block)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for item in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        item.name = names.get(item.name, item.name)
    for node in graph.node:
        for values in (node.input, node.output):
            for place, name in enumerate(values):
                values[place] = names.get(name, name)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, names)


def _shape_node(operator: str, before: str, after: str, name: str) -> onnx.NodeProto:
    return helper.make_node(
        operator, [f"{before}.{name}", "row.axis"], [f"{after}.{name}"], f"{after}.{name}"
    )


def _without_batch(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    kind = value.type.tensor_type
    shape = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in kind.shape.dim]
    return helper.make_tensor_value_info(f"row.{value.name}", kind.elem_type, shape[1:])


def _model(graph: onnx.GraphProto, like: onnx.ModelProto) -> onnx.ModelProto:
    model = helper.make_model(graph, opset_imports=list(like.opset_import))
    model.ir_version, model.producer_name = like.ir_version, like.producer_name
    return model
