"""Biases added once: constants that are added one after the other become one constant.

A projection's bias and the table of positions that follows it cost one addition instead of two.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeemo.export.passes.editing import (
    add_constant,
    add_node,
    constant,
    dims,
    graph_of,
    only_feeds,
    producer,
    remove_dead,
    replace,
)


def merge_biases(model: ir.Model) -> None:
    """Replaces ``(x + a) + b`` with constants a and b by ``x + (a + b)``, summed in float64."""
    for node in tuple(model.graph):
        if node.op_type == "Add" and node.domain == "":
            _merge(node)
    remove_dead(model)


def _merge(outer: ir.Node) -> None:
    second = _added(outer)
    inner = None if second is None else producer(second[0], "Add")
    first = None if inner is None else _added(inner)
    if inner is None or second is None or first is None:
        return
    if not only_feeds(inner.outputs[0], outer):
        return
    x, known = first[0], dims(first[0])
    terms = [constant(first[1]), constant(second[1])]
    # Only where x has all the dimensions: then both sums have the same shape as their sum.
    if terms[0] is None or terms[1] is None or len(known or ()) < max(terms[0].ndim, terms[1].ndim):
        return
    total = (terms[0].astype(np.float64) + terms[1].astype(np.float64)).astype(np.float32)
    merged = add_constant(graph_of(outer), f"{first[1].name}+{second[1].name}", total)
    old = outer.outputs[0]
    (fresh,) = add_node(outer, "Add", [x, merged], [f"{old.name}.biased"], shapes=[dims(old)])
    replace(old, fresh)


def _added(add: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """Returns what an Add adds a constant to, and the constant."""
    for value, other in ((add.inputs[1], add.inputs[0]), (add.inputs[0], add.inputs[1])):
        array = constant(value)
        if value is not None and other is not None and array is not None and array.dtype == np.float32:
            return None if constant(other) is not None else (other, value)
    return None
