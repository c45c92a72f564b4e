"""Products over sequences written on rows: (B, T, d) as (B T, d), with the bias inside the product.

``MatMul -> Add`` of a 3-D tensor becomes ``Reshape -> Gemm -> Reshape``; the reshapes then move through
everything that works on each row or element alone, meet and vanish. What stays is one reshape where
a tensor of rows becomes a sequence again: in front of attention and of sums over time. A Gemm adds its
bias while it computes, and in int8 one row-wise product takes the place of two nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from edgeemo.export.passes.editing import (
    Dims,
    add_constant,
    add_node,
    constant,
    dims,
    graph_of,
    integer,
    producer,
    remove_dead,
    replace,
    sole_user,
)

_UNARY = frozenset({"Gelu", "Relu", "Sigmoid", "Tanh", "Erf", "Sqrt", "Neg", "Exp"})
_BINARY = frozenset({"Add", "Sub", "Mul", "Div"})


def flatten_rows(model: ir.Model) -> None:
    """Moves products and what surrounds them from sequences to rows."""
    for node in tuple(model.graph):
        if node.op_type == "MatMul" and node.domain == "":
            _flatten_product(node)
    for node in tuple(model.graph):  # in order, so that a reshape travels as far as it can
        if node.domain == "":
            _sink_reshape(node)
    for node in tuple(model.graph):
        if node.op_type == "Reshape" and node.domain == "":
            _merge_reshapes(node)
    common.CommonSubexpressionEliminationPass()(model)
    remove_dead(model)


def _flatten_product(product: ir.Node) -> None:
    """Turns ``MatMul(x, w) + b`` with x (B, T, d) into a Gemm on rows."""
    x, weight = product.inputs[0], constant(product.inputs[1])
    sizes, result = dims(x), dims(product.outputs[0])
    add = sole_user(product.outputs[0])
    if x is None or weight is None or weight.ndim != 2 or sizes is None or result is None or len(sizes) != 3:
        return
    if None in sizes[1:] or add is None or add.op_type != "Add" or add.domain:
        return
    bias = next((value for value in add.inputs if value is not product.outputs[0]), None)
    row = constant(bias)
    if bias is None or row is None or row.shape != weight.shape[1:]:
        return
    old = add.outputs[0]
    flat = _to_rows(add, x, sizes)
    (made,) = add_node(
        add, "Gemm", [flat, product.inputs[1], bias], [f"{old.name}.rows"], shapes=[(None, weight.shape[1])]
    )
    replace(old, _to_sequence(add, made, (*sizes[:2], weight.shape[1]), str(old.name)))


def _sink_reshape(node: ir.Node) -> None:
    """Moves reshapes from rows to sequences behind a node that works on rows or elements alone."""
    old = node.outputs[0]
    sizes = dims(old)
    if sizes is None or len(sizes) != 3 or sizes[1] is None or sizes[2] is None or len(node.outputs) != 1:
        return
    last = node.op_type == "LayerNormalization" and integer(node, "axis", -1) in (-1, 2)
    if last or node.op_type in _UNARY:
        rows = _rows_of(node.inputs[0])
        inputs = None if rows is None else [rows, *node.inputs[1:]]
    elif node.op_type == "MatMul":
        weight = constant(node.inputs[1])
        rows = _rows_of(node.inputs[0]) if weight is not None and weight.ndim == 2 else None
        inputs = None if rows is None else [rows, node.inputs[1]]
    elif node.op_type in _BINARY:
        inputs = _binary_inputs(node, sizes)
    else:
        return
    if inputs is None:
        return
    attributes = dict(node.attributes)
    if node.op_type == "LayerNormalization":
        attributes["axis"] = ir.AttrInt64("axis", -1)
    (made,) = add_node(
        node, node.op_type, inputs, [f"{old.name}.rows"], shapes=[(None, sizes[2])], attributes=attributes
    )
    replace(old, _to_sequence(node, made, sizes, str(old.name)))


def _binary_inputs(node: ir.Node, sizes: Dims) -> list[ir.Value] | None:
    """Returns the operands of an elementwise node on rows, where at least one was on rows already."""
    first, second = node.inputs
    if first is None or second is None:
        return None
    rows = [_rows_of(value) if dims(value) == sizes else None for value in (first, second)]
    if rows[0] is None and rows[1] is None:
        return None
    inputs: list[ir.Value] = []
    for value, flat in zip((first, second), rows, strict=True):
        array, shape = constant(value), dims(value)
        if flat is not None:
            inputs.append(flat)
        elif array is not None and array.shape in ((), (1,), (sizes[2],)):
            inputs.append(value)
        elif array is None and shape is not None and shape in (sizes, (*sizes[:2], 1)):
            inputs.append(_to_rows(node, value, shape))
        else:
            return None
    return inputs


def _rows_of(value: ir.Value | None) -> ir.Value | None:
    """Returns x of rows where ``value`` is ``Reshape(x)`` to a sequence of the same rows."""
    reshape = producer(value, "Reshape")
    before, after = (None, None) if reshape is None else (dims(reshape.inputs[0]), dims(value))
    if reshape is None or before is None or after is None or len(before) != 2 or len(after) != 3:
        return None
    return reshape.inputs[0] if before[1] == after[2] else None


def _to_rows(before: ir.Node, value: ir.Value, sizes: Dims) -> ir.Value:
    rows = _rows_of(value)
    if rows is not None:
        return rows
    return _reshape(before, value, (-1, sizes[2] or 0), (None, sizes[2]), f"{value.name}.rows")


def _to_sequence(before: ir.Node, value: ir.Value, sizes: Dims, name: str) -> ir.Value:
    shape = (-1, *(size or 0 for size in sizes[1:]))
    return _reshape(before, value, shape, sizes, f"{name}.sequence")


def _reshape(before: ir.Node, value: ir.Value, shape: Sequence[int], known: Dims, name: str) -> ir.Value:
    label = "x".join("rows" if size == -1 else str(size) for size in shape)
    target = add_constant(graph_of(before), f"shape.{label}", np.array(shape, np.int64))
    (made,) = add_node(before, "Reshape", [value, target], [name], shapes=[known])
    return made


def _merge_reshapes(node: ir.Node) -> None:
    """Reads what a chain of reshapes read first, or takes the chain out where it leads back."""
    shape, source = constant(node.inputs[1]), node.inputs[0]
    while shape is not None and 0 not in shape and (inner := producer(source, "Reshape")) is not None:
        source = inner.inputs[0]
    if source is None or source is node.inputs[0]:
        return
    before, after = dims(source), dims(node.outputs[0])
    back = before is not None and after is not None and len(before) == len(after) and before[1:] == after[1:]
    if back and None not in (before or ())[1:] and not node.outputs[0].is_graph_output():
        replace(node.outputs[0], source)
    else:
        node.replace_input_with(0, source)
