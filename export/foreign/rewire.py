"""Puts new numbers into a graph, for one module and no other."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgeemo.errors import CheckpointError
from edgeemo.export.products import Site, scope_of


def replace_weight(model: onnx.ModelProto, site: Site, array: NDArray[np.float32]) -> None:
    """Gives the products of ``site`` another weight (changes ``model``).

    Where others use the same initializer, the products get one of their own.

    Args:
        model: the model that ``site`` was found in.
        site: a linear layer.
        array: the new weight, stored the way round that the old one is.
    """
    graph = model.graph
    if site.whole:
        tensor = next(tensor for tensor in graph.initializer if tensor.name == site.tensor)
        tensor.CopyFrom(numpy_helper.from_array(array, site.tensor))
        return
    for product in site.products:
        turned = product.takes_in_out != site.transposed
        name = f"{site.module}.weight.merged{'.transposed' if turned else ''}"
        if all(tensor.name != name for tensor in graph.initializer):
            own = np.ascontiguousarray(array.T) if turned else array
            graph.initializer.append(numpy_helper.from_array(own, name))
        graph.node[product.node].input[product.slot] = name


def replace_parameter(model: onnx.ModelProto, name: str, module: str, array: NDArray[np.float32]) -> None:
    """Gives a parameter that is no linear layer's weight, such as a bias, other numbers (changes ``model``).

    Raises:
        CheckpointError: other modules use the same initializer.
    """
    users = [node for node in model.graph.node if name in node.input]
    foreign = sorted({scope_of(node) for node in users} - {module})
    if len(users) > 1 and foreign:
        raise CheckpointError(
            f"the adapter replaces {name!r}, which the exporter made one with parameters of "
            f"{', '.join(scope or 'modules without a name' for scope in foreign)}; export the model again "
            "with torch.onnx.export(model, ..., dynamo=True, optimize=False)"
        )
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def take_away_unused(model: onnx.ModelProto, touched: set[str]) -> None:
    """Removes those of the initializers ``touched`` that nothing uses any more (changes ``model``).

    Transposes and Identities of them that led to products with a weight of their own now go with them.
    """
    graph = model.graph
    while True:
        used = {name for node in _nodes(graph) for name in node.input} | {
            value.name for value in graph.output
        }
        views = set(touched)
        dead = []
        for position, node in enumerate(graph.node):
            if node.op_type in ("Transpose", "Identity") and node.input[0] in views:
                views.add(node.output[0])
                if node.output[0] not in used:
                    dead.append(position)
        for position in reversed(dead):
            del graph.node[position]
        if not dead:
            break
    kept = [tensor for tensor in graph.initializer if tensor.name not in touched or tensor.name in used]
    if len(kept) < len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(kept)


def _nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    found = []
    for node in graph.node:
        found.append(node)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                found += _nodes(inner)
                found.append(onnx.NodeProto(input=[value.name for value in inner.output]))
    return found
