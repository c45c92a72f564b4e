"""Short names for what only the graph itself refers to: half of a graph without its weights is names.

Run last, on a finished variant: ranges and recipes refer to values and nodes by the names before.
"""

from __future__ import annotations

import onnx

_DIGITS = "abcdefghijklmnopqrstuvwxyz"


def shorten_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """Gives values and nodes of ``model`` (changed in place) the shortest names; returns it.

    Inputs, outputs and weights keep theirs: the engine contract and the tensors that engines share.
    A node that computes one value is called like the value, so that a profile can be read. Constants of
    integers (shapes, axes) get short names too. The same graph always gets the same names.
    """
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    short = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT64}
    kept |= {tensor.name for tensor in graph.initializer} - short
    fresh: dict[str, str] = {}
    number = 0
    names = [name for node in graph.node for name in node.output]
    for old in [*sorted(short), *names]:
        if not old or old in kept or old in fresh:
            continue
        while (name := _letters(number)) in kept:
            number += 1
        fresh[old] = name
        number += 1
    for node in graph.node:
        for places in (node.input, node.output):
            for place, old in enumerate(places):
                places[place] = fresh.get(old, old)
        node.name = node.output[0]
    for tensor in graph.initializer:
        tensor.name = fresh.get(tensor.name, tensor.name)
    del graph.value_info[:]
    return model


def _letters(number: int) -> str:
    """Returns a, b, ... z, aa, ab, ..."""
    text = ""
    while number >= 0:
        text = _DIGITS[number % len(_DIGITS)] + text
        number = number // len(_DIGITS) - 1
    return text
