"""The network with its adapters beside it: what a merged engine is judged by where torch is absent.

A checkpoint's graph is bound to its base weights, and each adapter becomes a branch of its own, as in
training: ``y = x W^T + s (x A^T) B^T`` (LoRA, arXiv 2106.09685, section 3). Nothing is merged before
the answer is computed, so a mistake of the merge, of a pass or of a variant cannot hide in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle.tensors import Array
from edgeemo.errors import MissingDependencyError
from edgeemo.export.adapters import Adapter, LowRankPair
from edgeemo.export.graph import Weights, bind_weights, bytes_from_model
from edgeemo.modality import subset_members
from edgeemo.runtimes.ort import OrtRunner

try:
    import onnx
    from onnx import helper, numpy_helper
except ImportError as reason:
    raise MissingDependencyError(
        "export", reason.name or "onnx", "pip install 'edgeemo[export,cpu]'"
    ) from None


def unmerged_graph(graph: onnx.ModelProto, weights: Weights, adapters: Sequence[Adapter]) -> onnx.ModelProto:
    """Returns a graph that computes with base and adapters apart, in fp32.

    A weight that is the right factor of products gets a branch beside each of them. One that is used in
    any other way (a table's rows, a slice of it) is summed inside the graph, ``W + s (B A)``, in fp32.

    Args:
        graph: a trunk of a checkpoint, without weights; not changed.
        weights: base weights by name.
        adapters: applied together; pairs of modules that the graph does not have are left out.

    Raises:
        ExportError: an initializer of the graph has no weight of its name and shape.
    """
    model = bind_weights(graph, weights)
    for initializer in [tensor.name for tensor in model.graph.initializer]:
        module = initializer.removesuffix(".weight")
        if module == initializer:
            continue
        pairs = [(each.name, each.pairs[module]) for each in adapters if module in each.pairs]
        if pairs:
            products = _products(model.graph, initializer)
            for product in products or ():
                _add_branches(model, product, module, pairs)
            if products is None:
                _add_sum(model, initializer, module, pairs)
    return model


def unmerged_answers(
    graph: onnx.ModelProto,
    weights: Weights,
    adapters: Sequence[Adapter],
    subset: str,
    windows: Mapping[str, Array],
) -> dict[str, NDArray[np.float32]]:
    """Returns what the unmerged network says of some windows, named as a checkpoint's reference names it.

    Args:
        graph: the trunk of the subset, without weights.
        weights: base weights by name.
        adapters: the common one and the subset's own, as there are.
        subset: such as ``"audio+video"``.
        windows: ``features.<m>`` (N, T_m, D_m) and ``mask.<m>`` (N, T_m) of each of its modalities.

    Returns:
        ``logits.<subset>`` (N, C), and ``evidence.<subset>.<m>`` (N, C) and ``frame_logits.<subset>``
        (N, T, C) where the network gives them.

    Raises:
        ExportError: an initializer of the graph has no weight of its name and shape.
        BackendError: onnxruntime cannot run the graph.
    """
    model = bytes_from_model(unmerged_graph(graph, weights, adapters))
    feed = {
        f"{kind}.{name}": np.asarray(windows[f"{kind}.{name}"], dtype=np.float32)
        for name in subset_members(subset)
        for kind in ("features", "mask")
    }
    with OrtRunner(model, engine=f"{subset} unmerged") as runner:
        answers = runner.run(feed)
    found = {f"{name}.{subset}": answers[name] for name in ("logits", "frame_logits") if name in answers}
    for name in subset_members(subset):
        if f"evidence.{name}" in answers:
            found[f"evidence.{subset}.{name}"] = answers[f"evidence.{name}"]
    return found


@dataclass(frozen=True)
class _Product:
    """``x @ W`` or ``x @ W^T`` somewhere in a graph."""

    node: onnx.NodeProto
    transposed: bool


def _products(graph: onnx.GraphProto, weight: str) -> list[_Product] | None:
    """Returns the products whose right factor is the weight; None where it has any other use."""
    found: list[_Product] = []
    factors = {weight: False}  # value -> whether it is the weight's transpose
    for node in graph.node:
        if any(attribute.g.node or attribute.graphs for attribute in node.attribute):
            return None  # an inner graph may use it by name
        used = [position for position, name in enumerate(node.input) if name in factors]
        if not used:
            continue
        transposed = factors[node.input[used[0]]]
        if node.op_type == "Transpose":
            factors[node.output[0]] = not transposed
        elif used == [1] and node.op_type == "MatMul":
            found.append(_Product(node, transposed))
        elif used == [1] and node.op_type == "Gemm" and _gemm_flags(node)["transA"] == 0:
            found.append(_Product(node, transposed != bool(_gemm_flags(node)["transB"])))
        else:
            return None
    if any(value.name in factors for value in graph.output):
        return None
    return found


def _gemm_flags(node: onnx.NodeProto) -> dict[str, float]:
    flags = {"transA": 0.0, "transB": 0.0, "alpha": 1.0}
    return flags | {
        attribute.name: helper.get_attribute_value(attribute)
        for attribute in node.attribute
        if attribute.name in flags
    }


def _add_branches(
    model: onnx.ModelProto, product: _Product, module: str, pairs: Sequence[tuple[str, LowRankPair]]
) -> None:
    """Adds the adapters' own products to one product of a weight, in place."""
    graph, node = model.graph, product.node
    position = list(graph.node).index(node)
    result = node.output[0]
    node.output[0] = total = f"{result}.base"
    outer = _gemm_flags(node)["alpha"] if node.op_type == "Gemm" else 1.0
    fresh: list[onnx.NodeProto] = []
    for number, (name, pair) in enumerate(pairs):
        first, second = (pair.a.T, pair.b.T) if product.transposed else (pair.b, pair.a)
        stem = f"{result}.{name}"
        factors = [f"{stem}.first", f"{stem}.second", f"{stem}.scale"]
        arrays = [first, second, np.float32(pair.scale * outer)]
        graph.initializer.extend(
            numpy_helper.from_array(np.asarray(array, dtype=np.float32, order="C"), factor)
            for factor, array in zip(factors, arrays, strict=True)
        )
        summed = result if number == len(pairs) - 1 else f"{stem}.sum"
        fresh += [
            helper.make_node("MatMul", [node.input[0], factors[0]], [f"{stem}.inner"]),
            helper.make_node("MatMul", [f"{stem}.inner", factors[1]], [f"{stem}.outer"]),
            helper.make_node("Mul", [f"{stem}.outer", factors[2]], [f"{stem}.scaled"]),
            helper.make_node("Add", [total, f"{stem}.scaled"], [summed]),
        ]
        total = summed
    for each in reversed(fresh):
        graph.node.insert(position + 1, each)


def _add_sum(
    model: onnx.ModelProto, weight: str, module: str, pairs: Sequence[tuple[str, LowRankPair]]
) -> None:
    """Lets the graph add the adapters' products to a weight before it uses it, in place."""
    graph = model.graph
    base = next(tensor for tensor in graph.initializer if tensor.name == weight)
    base.name = total = f"{weight}.base"
    fresh: list[onnx.NodeProto] = []
    for number, (name, pair) in enumerate(pairs):
        stem = f"{module}.{name}"
        arrays = {f"{stem}.a": pair.a, f"{stem}.b": pair.b, f"{stem}.scale": np.float32(pair.scale)}
        graph.initializer.extend(
            numpy_helper.from_array(np.asarray(array, dtype=np.float32), key) for key, array in arrays.items()
        )
        summed = weight if number == len(pairs) - 1 else f"{stem}.sum"
        fresh += [
            helper.make_node("MatMul", [f"{stem}.b", f"{stem}.a"], [f"{stem}.product"]),
            helper.make_node("Mul", [f"{stem}.product", f"{stem}.scale"], [f"{stem}.scaled"]),
            helper.make_node("Add", [total, f"{stem}.scaled"], [summed]),
        ]
        total = summed
    for each in reversed(fresh):
        graph.node.insert(0, each)
