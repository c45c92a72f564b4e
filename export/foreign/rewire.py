"""Puts new numbers into a graph, for one module and no other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgeemo.errors import CheckpointError
from edgeemo.export.adapters.products import Site, scope_of
from edgeemo.export.foreign.load import array_from_tensor


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


def replace_bias(
    model: onnx.ModelProto, site: Site, array: NDArray[np.float32]
) -> tuple[float, list[tuple[int, onnx.NodeProto]]]:
    """Gives the products of ``site`` a bias of their own (changes ``model``).

    Exporters leave a bias of zeros out and store equal ones once, so the old one may be nowhere, or shared.

    Args:
        model: the model that ``site`` was found in.
        site: a linear layer.
        array: (out,).

    Returns:
        The largest change of an element, and nodes to put behind those at the given positions.

    Raises:
        CheckpointError: nothing says whether a constant that is added to a product is its bias.
    """
    graph = model.graph
    name = f"{site.module}.bias.merged"
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in tensors:
            tensors[node.output[0]] = tensors[node.input[0]]
    change = 0.0
    more: list[tuple[int, onnx.NodeProto]] = []
    for product in site.products:
        node = graph.node[product.node]
        old = np.zeros_like(array)
        if node.op_type == "Gemm":
            if len(node.input) > 2 and node.input[2] in tensors:
                old = array_from_tensor(tensors[node.input[2]])
            del node.input[2:]
            node.input.append(name)
            for attribute in node.attribute:
                if attribute.name == "beta":
                    attribute.f = 1.0
        elif (place := _bias_of(graph, node, tensors, site.module)) is not None:
            adder, slot = place
            old = array_from_tensor(tensors[adder.input[slot]])
            adder.input[slot] = name
        else:
            inner = f"{node.output[0]}.without_bias"
            more.append((product.node, helper.make_node("Add", [inner, name], [node.output[0]], name=name)))
            node.output[0] = inner
        if old.size not in (array.size, 1):
            raise CheckpointError(
                f"the adapter brings a bias of shape {list(array.shape)} for {site.module!r}, where the "
                f"graph adds {list(old.shape)}; is this the base that the adapter was trained over?"
            )
        change = max(change, float(np.abs(array - old.reshape(-1)).max(initial=0.0)))
    graph.initializer.append(numpy_helper.from_array(array, name))
    return change, more


def insert_nodes(model: onnx.ModelProto, nodes: list[tuple[int, onnx.NodeProto]]) -> None:
    """Puts each of ``nodes`` behind the node that stands at its position (changes ``model``)."""
    for position, node in sorted(nodes, key=lambda entry: entry[0], reverse=True):
        model.graph.node.insert(position + 1, node)


def _bias_of(
    graph: onnx.GraphProto, product: onnx.NodeProto, tensors: Mapping[str, onnx.TensorProto], module: str
) -> tuple[onnx.NodeProto, int] | None:
    """Returns the Add of a MatMul's bias and which of its inputs that is; None where there is none."""
    for node in graph.node:
        if node.op_type != "Add" or product.output[0] not in node.input:
            continue
        slot = 1 if node.input[0] == product.output[0] else 0
        other = tensors.get(node.input[slot])
        if other is None or len(other.dims) > 1:
            continue
        if scope_of(node) == module or node.input[slot] == f"{module}.bias":
            return node, slot
        if not scope_of(node):
            raise CheckpointError(
                f"the adapter brings a bias for {module!r}, and nothing says whether {node.input[slot]!r}, "
                f"which {node.name!r} adds to its product, is the old one; export the model with names kept"
            )
    return None


def replace_parameter(model: onnx.ModelProto, name: str, module: str, array: NDArray[np.float32]) -> None:
    """Gives a parameter that is no linear layer's, such as a norm's, other numbers (changes ``model``).

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
