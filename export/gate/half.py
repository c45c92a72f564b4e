"""An fp16 graph as a GPU computes it: every value rounded to fp16, and how large the values get.

onnxruntime's CPU provider has few fp16 kernels. It computes such graphs in fp32 and takes out the casts
between, so that what overflows on a GPU looks fine there. Here each operator computes in fp32, from
inputs that are fp16 numbers, and its result is rounded to fp16, where it may become infinite. Sums are
kept in fp32 inside an operator, as TensorRT keeps those of products and normalizations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeemo.bundle.tensors import Array
from edgeemo.export.graph import bytes_from_model, copy_model, copy_node
from edgeemo.runtimes.ort import CPU_PROVIDER, FATAL, load_onnxruntime

_LARGEST = "largest of each value"
_BATCH = 16
# Operators that hand numbers on: their results are fp16 numbers where their inputs are.
_MOVES = frozenset(
    {"Concat", "Flatten", "Gather", "Identity", "Relu", "Reshape"}
    | {"Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)


@dataclass(frozen=True)
class HalfAnswer:
    """What an fp16 graph gives in real fp16.

    Attributes:
        outputs: name -> array.
        largest: the largest magnitude that any value of the graph took; infinite after an overflow.
        where: name of the value that took it.
    """

    outputs: dict[str, NDArray[np.float32]]
    largest: float
    where: str


def run_in_half(model: onnx.ModelProto, feed: Mapping[str, Array]) -> HalfAnswer:
    """Returns the answers of an fp16 graph, operator by operator in fp16.

    Args:
        model: a graph that `halve_floats` made.
        feed: inputs by name, all rows.
    """
    rounded, values = rounded_model(model)
    names = [value.name for value in rounded.graph.output]
    session = _plain_session(rounded)
    parts = []
    for first in range(0, len(next(iter(feed.values()))), _BATCH):
        some = {name: np.asarray(array[first : first + _BATCH]) for name, array in feed.items()}
        parts.append(dict(zip(names, session.run(names, some), strict=True)))
    peaks = np.max([part[_LARGEST] for part in parts], axis=0) if values else np.zeros(1, np.float32)
    peaks = np.where(np.isnan(peaks), np.inf, peaks)
    worst = int(np.argmax(peaks))
    return HalfAnswer(
        outputs={name: np.concatenate([part[name] for part in parts]) for name in names if name != _LARGEST},
        largest=float(peaks[worst]),
        where=values[worst] if values else "",
    )


def _plain_session(model: onnx.ModelProto) -> Any:
    """Returns a session without any rewriting of the graph: neither wanted here nor worth its time."""
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = FATAL
    options.enable_cpu_mem_arena = False
    return ort.InferenceSession(bytes_from_model(model), options, providers=[CPU_PROVIDER])


def rounded_model(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """Returns ``model`` in fp32 with every fp16 value rounded to fp16, and the names of those values.

    One more output holds the largest magnitude of each of them. Outputs of the graph keep their names.
    """
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    }
    rounded = copy_model(model)
    graph = rounded.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
            )
    nodes: list[onnx.NodeProto] = []
    values: list[str] = []
    for node in graph.node:
        single = copy_node(node)
        for attribute in single.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
        if node.op_type in _MOVES:
            nodes.append(single)
            continue
        halves = [name for name in node.output if kinds.get(name) == TensorProto.FLOAT16]
        for position, name in enumerate(single.output):
            if name in halves:
                single.output[position] = f"{name}.exact"
        nodes.append(single)
        for name in halves:
            values.append(name)
            nodes += [
                helper.make_node("Cast", [f"{name}.exact"], [f"{name}.half"], to=TensorProto.FLOAT16),
                helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT),
                helper.make_node("Abs", [name], [f"{name}.size"]),
                helper.make_node("ReduceMax", [f"{name}.size"], [f"{name}.peak"], keepdims=0),
                helper.make_node("Reshape", [f"{name}.peak", "one axis"], [f"{name}.entry"]),
            ]
    if values:
        graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "one axis"))
        entries = [f"{name}.entry" for name in values]
        nodes.append(helper.make_node("Concat", entries, [_LARGEST], axis=0))
        graph.output.append(helper.make_tensor_value_info(_LARGEST, TensorProto.FLOAT, [len(values)]))
    del graph.node[:]
    graph.node.extend(nodes)
    return rounded, values
