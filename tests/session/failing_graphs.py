"""Real graphs that open, pass a warm-up and fail when they are run on what a session really sees.

A warm-up gives an engine full masks and a stem of words nothing but ids of 1; a running session has holes in
its windows and other words. So a graph can tell the two apart by its inputs alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RAISES, NAN, WRONG = "raises", "nan", "wrong"
WAYS = (RAISES, NAN)


def failing(ways: Mapping[str, str]) -> Callable[[str, bytes], bytes]:
    """Returns what `write_live_like` takes as ``change``, from graph name -> way to fail."""

    def change(name: str, model: bytes) -> bytes:
        return break_graph(model, ways[name]) if name in ways else model

    return change


def break_graph(model: bytes, way: str) -> bytes:
    """Returns a graph that fails where its input is not that of a warm-up.

    Args:
        model: an engine or stem of `live_like`.
        way: `RAISES` looks up a row that does not exist, `NAN` takes the logarithm of a negative number,
            `WRONG` gives another answer always, and fails nowhere.
    """
    graph = onnx.load_from_string(model)
    inputs = {value.name: value for value in graph.graph.input}
    output = graph.graph.output[0].name
    for node in graph.graph.node:
        for position, name in enumerate(node.output):
            if name == output:
                node.output[position] = "whole"
    source = next(name for name in inputs if name.startswith(("mask.", "input.")))
    tensors = {"poison.one": np.array(1, np.float32), "poison.none": np.array(0, np.float32)}
    nodes = [helper.make_node("Cast", [source], ["poison.in"], to=TensorProto.FLOAT)]
    if way == WRONG:
        tensors["poison.ramp"] = np.linspace(-3, 3, 7, dtype=np.float32)
        nodes.append(helper.make_node("Add", ["whole", "poison.ramp"], [output]))
    else:
        # 0 on a warm-up, above 0 on anything else.
        extreme = "ReduceMin" if source.startswith("mask.") else "ReduceMax"
        nodes += [
            helper.make_node(extreme, ["poison.in"], ["poison.extreme"], keepdims=0),
            helper.make_node("Sub", ["poison.extreme", "poison.one"], ["poison.off"]),
            helper.make_node("Abs", ["poison.off"], ["poison.far"]),
        ]
        if way == NAN:
            tensors["poison.half"] = np.array(0.5, np.float32)
            nodes += [
                helper.make_node("Sub", ["poison.half", "poison.far"], ["poison.left"]),
                helper.make_node("Log", ["poison.left"], ["poison.log"]),
                helper.make_node("Mul", ["poison.log", "poison.none"], ["poison"]),
            ]
        else:
            tensors["poison.rows"] = np.zeros(1, np.float32)
            nodes += [
                helper.make_node("Ceil", ["poison.far"], ["poison.up"]),
                helper.make_node("Cast", ["poison.up"], ["poison.row"], to=TensorProto.INT64),
                helper.make_node("Gather", ["poison.rows", "poison.row"], ["poison"]),
            ]
        nodes.append(helper.make_node("Add", ["whole", "poison"], [output]))
    graph.graph.node.extend(nodes)
    graph.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in tensors.items())
    onnx.checker.check_model(graph, full_check=True)
    data: bytes = graph.SerializeToString()
    return data
