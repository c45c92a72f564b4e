"""The bias of a LayerNormalization moved into the products behind it, which add theirs for nothing.

    (n(x) g + c) W + b  =  n(x) g W + (c W + b)

Only where every user of the normalized value is a product with a bias of its own. The gain stays: a
normalization without one costs as much. c W is summed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeemo.export.passes.editing import (
    Array,
    add_constant,
    constant,
    graph_of,
    integer,
    remove_dead,
    sole_user,
)

SHIFTED = ".shifted"


def move_norm_bias(model: ir.Model) -> None:
    """Takes the bias off each LayerNormalization that feeds nothing but products with a bias."""
    for node in tuple(model.graph):
        if node.op_type == "LayerNormalization" and not node.domain and len(node.inputs) > 2:
            _move(node)
    remove_dead(model)


def _move(norm: ir.Node) -> None:
    shift, value = constant(norm.inputs[2]), norm.outputs[0]
    users = tuple(value.uses())
    if shift is None or shift.ndim != 1 or value.is_graph_output() or not users:
        return
    places = [_bias_place(use.node, value) if use.idx == 0 else None for use in users]
    if None in places:
        return
    _add_shift(norm, shift, [place for place in places if place is not None])
    norm.resize_inputs(2)


def _bias_place(product: ir.Node, value: ir.Value) -> tuple[ir.Node, int, Array] | None:
    """Returns the node that adds a product's bias, which of its inputs that is, and the weight (in, out)."""
    weight = constant(product.inputs[1]) if len(product.inputs) > 1 else None
    if weight is None or weight.ndim != 2 or product.domain:
        return None
    if product.op_type == "Gemm":
        turned = integer(product, "transB", 0)
        bias = constant(product.inputs[2]) if len(product.inputs) > 2 else None
        kept = integer(product, "transA", 0) == 0
        fits = bias is not None and bias.shape == (weight.shape[0 if turned else 1],)
        return (product, 2, weight.T if turned else weight) if kept and fits else None
    add = sole_user(product.outputs[0]) if product.op_type == "MatMul" else None
    if add is None or add.op_type != "Add" or add.domain:
        return None
    for place in (0, 1):
        bias = constant(add.inputs[place])
        if bias is not None and bias.shape == weight.shape[1:]:
            return add, place, weight
    return None


def _add_shift(norm: ir.Node, shift: Array, places: Sequence[tuple[ir.Node, int, Array]]) -> None:
    for node, place, weight in places:
        old = node.inputs[place]
        bias = constant(old)
        if old is None or bias is None:
            continue
        moved = np.zeros(weight.shape[1], np.float64)
        for number, row in zip(shift.astype(np.float64), weight.astype(np.float64), strict=True):
            moved += number * row  # in this order on every CPU, as BLAS would not
        total = (bias.astype(np.float64) + moved).astype(np.float32)
        node.replace_input_with(place, add_constant(graph_of(norm), f"{old.name}{SHIFTED}", total))
