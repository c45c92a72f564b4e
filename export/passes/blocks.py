"""Sums of products with blocks of one matrix written as one product of everything that is put in.

    y_m = sum_n x_n W_mn + b_m  for all m   ->   Split([x_a x_v x_t] W + b)

A fusion that is written block by block, so that an absent modality has no weight, costs nine small products
for three modalities, each of which is mostly the price of calling it. What is put together depends on the
subset, so it is done with weights that no two subsets share: those that an adapter of the subset changes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from edgeemo.export.passes.editing import (
    Array,
    add_constant,
    add_node,
    constant,
    dims,
    graph_of,
    integer,
    remove_dead,
    replace,
    sole_user,
)
from edgeemo.export.passes.fold import TRANSPOSED


@dataclass
class _Sum:
    """One y_m: its value, the blocks (in, out) by the input that they multiply, and its bias."""

    root: ir.Value
    blocks: dict[ir.Value, Array] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    bias: Array | None = None


def merge_blocks(model: ir.Model, own: Collection[str]) -> None:
    """Merges sums of products of the same inputs.

    Args:
        model: changed in place.
        own: names of weights that this graph shares with no other.
    """
    groups: dict[tuple[ir.Value, ...], list[_Sum]] = {}
    order = {value: place for place, value in enumerate(_values(model.graph))}
    for node in tuple(model.graph):
        if node.op_type != "Add" or node.domain or _continues(node):
            continue
        found = _Sum(node.outputs[0])
        if _collect(node, found, own) and len(found.blocks) > 1:
            inputs = tuple(sorted(found.blocks, key=lambda value: order[value]))
            groups.setdefault(inputs, []).append(found)
    for inputs, sums in groups.items():
        _merge(model.graph, inputs, sums)
    remove_dead(model)


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *(value for node in graph for value in node.outputs)]


def _continues(add: ir.Node) -> bool:
    """Tells whether the sum goes on behind this Add."""
    user = sole_user(add.outputs[0])
    return user is not None and user.op_type == "Add" and not user.domain


def _collect(node: ir.Node | None, found: _Sum, own: Collection[str]) -> bool:
    """Adds what a node of a sum stands for to ``found``; False where it is no sum of blocks."""
    if node is None or node.domain or node.op_type not in ("Add", "MatMul", "Gemm"):
        return False
    if node.op_type != "Add":
        return _collect_product(node, found, own)
    for side in node.inputs:
        row = constant(side)
        if row is not None and row.ndim == 1 and _add_bias(found, row):
            continue
        if side is None or sole_user(side) is None or not _collect(side.producer(), found, own):
            return False
    return True


def _collect_product(node: ir.Node, found: _Sum, own: Collection[str]) -> bool:
    x, weight = node.inputs[0], constant(node.inputs[1])
    name = str(node.inputs[1].name) if node.inputs[1] is not None else ""
    if x is None or x in found.blocks or weight is None or weight.ndim != 2:
        return False
    if name.removesuffix(TRANSPOSED) not in own or integer(node, "transA", 0):
        return False
    found.blocks[x] = weight.T if integer(node, "transB", 0) else weight
    found.names.append(name.removesuffix(TRANSPOSED).removesuffix(".weight"))
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    return len(node.inputs) < 3 or (bias is not None and bias.ndim == 1 and _add_bias(found, bias))


def _add_bias(found: _Sum, row: Array) -> bool:
    total = row.astype(np.float64) if found.bias is None else found.bias + row.astype(np.float64)
    found.bias = total
    return True


def _merge(graph: ir.Graph, inputs: Sequence[ir.Value], sums: Sequence[_Sum]) -> None:
    widths = [next(iter(one.blocks.values())).shape[1] for one in sums]
    sizes = [dims(value) for value in inputs]
    known = sizes[0]
    same = all(size is not None and known is not None and size[:-1] == known[:-1] for size in sizes)
    roots = {one.root.producer() for one in sums}
    first = next(node for node in graph if node in roots)
    if not same or known is None or not _all_before(graph, first, inputs):
        return
    stacked = np.block([[one.blocks[value] for one in sums] for value in inputs])
    biases = [
        np.zeros(width) if one.bias is None else one.bias for one, width in zip(sums, widths, strict=True)
    ]
    bias_array = np.concatenate(biases).astype(np.float32)
    name = _common_parent([name for one in sums for name in one.names])
    weight = add_constant(graph_of(first), f"{name}.blocks.weight{TRANSPOSED}", stacked)
    bias = add_constant(graph_of(first), f"{name}.blocks.bias", bias_array)
    shape = (*known[:-1], sum(widths))
    (x,) = add_node(
        first,
        "Concat",
        inputs,
        [f"{name}.blocks.input"],
        shapes=[(*known[:-1], stacked.shape[0])],
        attributes={"axis": -1},
    )
    if len(known) == 2:
        (y,) = add_node(first, "Gemm", [x, weight, bias], [f"{name}.blocks"], shapes=[shape])
    else:
        (product,) = add_node(first, "MatMul", [x, weight], [f"{name}.blocks.product"], shapes=[shape])
        (y,) = add_node(first, "Add", [product, bias], [f"{name}.blocks"], shapes=[shape])
    if len(sums) == 1:
        replace(sums[0].root, y)
        return
    even = len(set(widths)) == 1
    lengths = (
        None if even else add_constant(graph_of(first), f"{name}.blocks.widths", np.array(widths, np.int64))
    )
    parts = add_node(
        first,
        "Split",
        [y] if lengths is None else [y, lengths],
        [f"{name}.blocks.part{place}" for place in range(len(sums))],
        shapes=[(*known[:-1], width) for width in widths],
        attributes={"axis": len(known) - 1} | ({"num_outputs": len(sums)} if even else {}),
    )
    for one, part in zip(sums, parts, strict=True):
        replace(one.root, part)


def _common_parent(names: Sequence[str]) -> str:
    """Returns the dotted name that all names begin with."""
    parts = [name.split(".") for name in names]
    shared = [level[0] for level in zip(*parts, strict=False) if len(set(level)) == 1]
    return ".".join(shared) or "sum"


def _all_before(graph: ir.Graph, first: ir.Node, inputs: Sequence[ir.Value]) -> bool:
    """Tells whether all inputs exist where the first sum is complete."""
    seen: set[ir.Node] = set()
    for node in graph:
        if node is first:
            break
        seen.add(node)
    return all(value.producer() is None or value.producer() in seen for value in inputs)
