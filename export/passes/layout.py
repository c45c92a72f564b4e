"""Transposes and reshapes merged, and everything that splits a tensor brought into one form.

- A reshape to ``Concat(Shape(x), constants)`` gets a constant shape: only the batch is symbolic.
- Slices that cut a last axis into parts without a gap become one Split.
- Heads that were cut out of a product by ``Reshape -> Transpose -> Gather`` become
  ``Split -> Reshape -> Transpose``, so that a product's parts are read where they lie and a transpose of
  three tensors at once is spared. Attention is recognized in this form.
- Transposes of transposes and reshapes of reshapes become one, or none (onnxscript's rules).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import IdentityEliminationPass
from onnxscript.rewriter.rules import common

from edgeemo.export.passes.editing import (
    add_constant,
    add_node,
    apply_rules,
    constant,
    dims,
    graph_of,
    infer_shapes,
    integer,
    ints,
    producer,
    remove_dead,
    replace,
)

_RULES = {
    "Flatten": (common.flatten_to_reshape_rule,),
    "Reshape": (common.materialize_reshape_shape_rule, common.reshape_reshape_rule),
    "Transpose": (common.transpose_transpose_rule, common.no_op_transpose_rule),
}


def merge_layout(model: ir.Model) -> None:
    """Merges transposes and reshapes and turns parts of a tensor into outputs of one Split."""
    apply_rules(model, _RULES)
    for node in tuple(model.graph):
        if node.op_type == "Transpose" and node.domain == "":
            _split_heads(node)
    for value in [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]:
        _split_slices(value)
    apply_rules(model, _RULES)
    IdentityEliminationPass()(model)
    remove_dead(model)
    infer_shapes(model)


def _split_heads(transpose: ir.Node) -> None:
    """Rewrites the Gathers of one axis of ``Transpose(Reshape(x))`` as a Split of x."""
    reshape = producer(transpose.inputs[0], "Reshape")
    if reshape is None or transpose.outputs[0].is_graph_output():
        return
    source = reshape.inputs[0]
    before, after = dims(source), dims(reshape.outputs[0])
    permutation = ints(transpose, "perm")
    if source is None or before is None or after is None or len(after) != len(permutation):
        return
    axis = len(before) - 1  # of the reshaped tensor, the first of those that the last of x becomes
    parts = [part for part in after[axis:] if part is not None]
    if len(parts) < 2 or len(parts) != len(after) - axis or before[1:-1] != after[1:axis]:
        return
    gathers = [use.node for use in transpose.outputs[0].uses()]
    found: dict[int, list[ir.Node]] = {}
    for node in gathers:
        index = constant(node.inputs[1]) if node.op_type == "Gather" else None
        if index is None or index.ndim or permutation[integer(node, "axis", 0)] != axis:
            return
        found.setdefault(int(index) % parts[0], []).append(node)
    if sorted(found) != list(range(parts[0])):
        return
    graph = graph_of(transpose)
    split = add_node(
        transpose,
        "Split",
        [source],
        [f"{transpose.outputs[0].name}.part{index}" for index in range(parts[0])],
        shapes=[(*before[:-1], int(np.prod(parts[1:])))] * parts[0],
        attributes={"axis": axis, "num_outputs": parts[0]},
    )
    kept = [place for place in range(len(after)) if place != axis]
    shape = np.array([-1, *(size or 0 for size in after[1:axis]), *parts[1:]], np.int64)
    perm = [kept.index(place) for place in permutation if place != axis]
    target = add_constant(graph, f"{reshape.inputs[1].name if reshape.inputs[1] else ''}.heads", shape)
    for number, nodes in found.items():
        for node in nodes:
            old = node.outputs[0]
            (apart,) = add_node(
                node,
                "Reshape",
                [split[number], target],
                [f"{old.name}.heads"],
                shapes=[tuple(after[place] for place in kept)],
            )
            (turned,) = add_node(
                node,
                "Transpose",
                [apart],
                [f"{old.name}.turned"],
                shapes=[dims(old)],
                attributes={"perm": perm},
            )
            replace(old, turned)


def _split_slices(value: ir.Value) -> None:
    """Turns slices that cut the last axis of ``value`` into parts without gap or overlap into one Split."""
    sizes = dims(value)
    if sizes is None or not sizes or sizes[-1] is None:
        return
    last, width = len(sizes) - 1, sizes[-1]
    cuts: dict[tuple[int, int], list[ir.Node]] = {}
    for use in value.uses():
        cut = _cut_of(use.node, last, width) if use.idx == 0 else None
        if cut is not None:
            cuts.setdefault(cut, []).append(use.node)
    ends = sorted(cuts)
    if len(ends) < 2 or ends[0][0] != 0 or ends[-1][1] != width:
        return
    if any(left[1] != right[0] for left, right in pairwise(ends)):
        return
    cutting = {node for nodes in cuts.values() for node in nodes}
    first = next(node for node in graph_of(cuts[ends[0]][0]) if node in cutting)
    parts = [end - begin for begin, end in ends]
    lengths = add_constant(graph_of(first), f"{value.name}.parts", np.array(parts, np.int64))
    even = len(set(parts)) == 1
    split = add_node(
        first,
        "Split",
        [value] if even else [value, lengths],
        [f"{value.name}.part{index}" for index in range(len(parts))],
        shapes=[(*sizes[:-1], part) for part in parts],
        attributes={"axis": last, "num_outputs": len(parts)} if even else {"axis": last},
    )
    for part, cut in zip(split, ends, strict=True):
        for node in cuts[cut]:
            replace(node.outputs[0], part)


def _cut_of(node: ir.Node, last: int, width: int) -> tuple[int, int] | None:
    """Returns begin and end where a node is a Slice of the last axis in steps of one."""
    if node.op_type != "Slice" or node.domain or len(node.inputs) < 4 or node.outputs[0].is_graph_output():
        return None
    begin, end, axes = (constant(value) for value in node.inputs[1:4])
    step = constant(node.inputs[4]) if len(node.inputs) > 4 else np.array([1])
    if begin is None or end is None or axes is None or step is None or axes.tolist() not in ([last], [-1]):
        return None
    if begin.size != 1 or step.tolist() != [1] or begin.min() < 0 or end.min() < 0:
        return None
    return int(begin[0]), min(int(end[0]), width)
