"""The few edits that every pass is made of: reading constants and shapes, adding and replacing values.

Names are derived from what is replaced, so that the same graph always gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnxscript.rewriter import RewriteRuleSet

Array = NDArray[Any]
Dims = tuple[int | None, ...]
CONTRIB = "com.microsoft"


def constant(value: ir.Value | None) -> Array | None:
    """Returns the numbers of an initializer; None for anything that is computed or fed."""
    if value is None or value.const_value is None or not value.is_initializer() or value.is_graph_input():
        return None
    array: Array = value.const_value.numpy()
    return array


def scalar(value: ir.Value | None) -> float | None:
    """Returns the one number of a constant that holds one, whatever its rank."""
    array = constant(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def dims(value: ir.Value | None) -> Dims | None:
    """Returns the sizes of a value, None for each that is symbolic; None where the rank is unknown."""
    if value is None or value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else None for size in value.shape)


def rank(value: ir.Value | None) -> int | None:
    """Returns how many dimensions a value has, where that is known."""
    found = dims(value)
    return None if found is None else len(found)


def producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """Returns the standard node of ``op_type`` that computes ``value``, if that is what computes it."""
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type and node.domain == "" else None


def sole_user(value: ir.Value) -> ir.Node | None:
    """Returns the one node that uses ``value``, once; None where there are others or it is an output."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def only_feeds(value: ir.Value, node: ir.Node) -> bool:
    """Tells whether ``node`` is the one user of ``value``."""
    user = sole_user(value)
    return user is not None and user is node


def ints(node: ir.Node, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
    """Returns an attribute that is a list of integers."""
    attribute = node.attributes.get(name)
    return tuple(default) if attribute is None else tuple(attribute.as_ints())


def integer(node: ir.Node, name: str, default: int) -> int:
    """Returns an attribute that is an integer."""
    attribute = node.attributes.get(name)
    return default if attribute is None else int(attribute.as_int())


def graph_of(node: ir.Node) -> ir.Graph:
    """Returns the graph that holds ``node``."""
    graph = node.graph
    if not isinstance(graph, ir.Graph):
        raise TypeError(f"the node {node.name!r} belongs to no graph")
    return graph


def add_constant(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """Returns an initializer of ``graph`` with these numbers; one of that name and content is used again."""
    fresh, number = name, 1
    while fresh in graph.initializers:
        held = constant(graph.initializers[fresh])
        if held is not None and held.dtype == array.dtype and np.array_equal(held, array):
            return graph.initializers[fresh]
        number += 1
        fresh = f"{name}.{number}"
    tensor = ir.tensor(np.ascontiguousarray(array), name=fresh)
    value = ir.Value(
        name=fresh, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value


def add_node(
    before: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    names: Sequence[str],
    *,
    shapes: Sequence[Dims | None] = (),
    attributes: Mapping[str, Any] | None = None,
    domain: str = "",
    dtype: ir.DataType = ir.DataType.FLOAT,
) -> tuple[ir.Value, ...]:
    """Inserts a node in front of ``before`` and returns its outputs.

    Args:
        before: a node that comes after everything in ``inputs``.
        op_type: the operator.
        inputs: what it takes.
        names: of its outputs, with a number behind them where they are taken; the first is the node's too.
        shapes: of its outputs, where known; a None in a shape is a size that is not.
        attributes: of the node.
        domain: of the operator.
        dtype: of the outputs.
    """
    graph = graph_of(before)
    taken = {value.name for node in graph for value in node.outputs} | {node.name for node in graph}
    outputs = []
    for place, name in enumerate(names):
        known = shapes[place] if place < len(shapes) else None
        shape = None if known is None else ir.Shape(known)
        outputs.append(ir.Value(name=_free_name(name, taken), shape=shape, type=ir.TensorType(dtype)))
    node = ir.node(op_type, inputs, attributes or {}, domain=domain, outputs=outputs, name=outputs[0].name)
    graph.insert_before(before, node)
    if domain:
        graph.opset_imports.setdefault(domain, 1)
    return tuple(outputs)


def _free_name(name: str, taken: set[str | None]) -> str:
    fresh, number = name, 1
    while fresh in taken:
        number += 1
        fresh = f"{name}.{number}"
    taken.add(fresh)
    return fresh


def replace(old: ir.Value, new: ir.Value) -> None:
    """Makes every user of ``old``, and the graph where ``old`` is its output, take ``new``.

    The name of a graph's output is part of the engine contract, so ``new`` takes it over.
    """
    if old.is_graph_output():
        name, old.name = old.name, f"{old.name}.replaced"
        new.name = name
        if new.shape is None:
            new.shape = old.shape
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)


def remove_dead(model: ir.Model) -> None:
    """Takes out nodes and initializers that nothing uses (changes ``model``)."""
    ir.passes.common.RemoveUnusedNodesPass()(model)


def infer_shapes(model: ir.Model) -> None:
    """Writes the shapes that ONNX can infer on the values of ``model`` (changed in place)."""
    ir.passes.common.ShapeInferencePass()(model)


def apply_rules(model: ir.Model, rules: Mapping[str, Sequence[Any]]) -> int:
    """Applies onnxscript's rewrite rules and returns how often they did.

    Args:
        model: changed in place.
        rules: an operator that the rules cannot match without -> the rules.
    """
    present = {node.op_type for node in model.graph}
    able = [rule for operator, some in rules.items() if operator in present for rule in some]
    return int(RewriteRuleSet(able).apply_to_model(model)) if able else 0
