"""Projections of one input fused into one product: Q, K and V of an attention, above all.

    x Wq + bq, x Wk + bk, x Wv + bv  ->  Split(x [Wq Wk Wv] + [bq bk bv])

One wide product is faster than three narrow ones, and in int8 its input is quantized once. Only weights
of one parent module are put together (``attention.query``, ``attention.key``...), so that the same weights
meet in every subset and what two subsets share stays equal byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeemo.export.passes.editing import (
    Array,
    add_constant,
    add_node,
    constant,
    dims,
    graph_of,
    remove_dead,
    replace,
    sole_user,
)
from edgeemo.export.passes.fold import TRANSPOSED


@dataclass(frozen=True)
class _Projection:
    """``MatMul(x, weight)`` and, where there is one, the Add of its bias."""

    product: ir.Node
    weight: Array
    bias: Array | None
    result: ir.Value
    module: str


def fuse_projections(model: ir.Model) -> None:
    """Replaces products of one input with weights of one module by one product and a Split."""
    for value in [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]:
        groups: dict[tuple[str, bool], list[_Projection]] = {}
        for use in tuple(value.uses()):
            found = _projection(use.node) if use.idx == 0 else None
            if found is not None:
                parent = found.module.rpartition(".")[0]
                groups.setdefault((parent, found.bias is None), []).append(found)
        for (parent, _), group in groups.items():
            modules = {projection.module for projection in group}
            if parent and len(group) == len(modules) > 1:
                _fuse(value, group, parent)
    remove_dead(model)


def _projection(product: ir.Node) -> _Projection | None:
    weight = constant(product.inputs[1]) if product.op_type == "MatMul" and not product.domain else None
    if weight is None or weight.ndim != 2 or product.inputs[1] is None or dims(product.outputs[0]) is None:
        return None
    name = str(product.inputs[1].name).removesuffix(TRANSPOSED)
    if not name.endswith(".weight"):
        return None
    result, bias, add = product.outputs[0], None, sole_user(product.outputs[0])
    if add is not None and add.op_type == "Add" and not add.domain:
        other = add.inputs[1] if add.inputs[0] is result else add.inputs[0]
        row = constant(other)
        if row is not None and row.shape == weight.shape[1:]:
            bias, result = row, add.outputs[0]
    return _Projection(product, weight, bias, result, name.removesuffix(".weight"))


def _fuse(value: ir.Value, group: Sequence[_Projection], parent: str) -> None:
    parts = sorted(group, key=lambda projection: projection.module)
    nodes = {projection.product for projection in parts}
    first = next(node for node in graph_of(parts[0].product) if node in nodes)
    graph = graph_of(first)
    name = f"{parent}.{'+'.join(projection.module.rpartition('.')[2] for projection in parts)}"
    sizes = (dims(parts[0].product.outputs[0]) or ())[:-1]
    width = sum(projection.weight.shape[1] for projection in parts)
    stacked = np.concatenate([projection.weight for projection in parts], axis=1)
    weight = add_constant(graph, f"{name}.weight{TRANSPOSED}", stacked)
    (whole,) = add_node(first, "MatMul", [value, weight], [f"{name}.product"], shapes=[(*sizes, width)])
    biases = [projection.bias for projection in parts if projection.bias is not None]
    if biases:
        bias = add_constant(graph, f"{name}.bias", np.concatenate(biases))
        (whole,) = add_node(first, "Add", [whole, bias], [f"{name}.sum"], shapes=[(*sizes, width)])
    widths = [projection.weight.shape[1] for projection in parts]
    even = len(set(widths)) == 1
    lengths = None if even else add_constant(graph, f"{name}.widths", np.array(widths, np.int64))
    attributes = {"axis": len(sizes)} | ({"num_outputs": len(parts)} if even else {})
    split = add_node(
        first,
        "Split",
        [whole] if lengths is None else [whole, lengths],
        [f"{name}.part{place}" for place in range(len(parts))],
        shapes=[(*sizes, size) for size in widths],
        attributes=attributes,
    )
    for projection, part in zip(parts, split, strict=True):
        replace(projection.result, part)
