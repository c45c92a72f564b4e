"""The network with its adapters beside it: what a merged engine is judged by where torch is absent.

A checkpoint's graph is bound to its base weights, and each adapter becomes a branch of its own, as in
training: ``y = x W^T + s (x A^T) B^T`` (LoRA, arXiv 2106.09685, section 3). Nothing is merged before
the answer is computed, so a mistake of the merge, of a pass or of a variant cannot hide in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgeemo.bundle.tensors import Array
from edgeemo.export.adapters.merge import Adapter, LowRankPair
from edgeemo.export.graph import Weights, bind_weights, bytes_from_model
from edgeemo.modality import subset_members
from edgeemo.runtimes.ort import OrtRunner


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
    uses = _uses(model.graph)
    before: list[onnx.NodeProto] = []
    after: dict[int, list[onnx.NodeProto]] = {}
    for tensor in list(model.graph.initializer):
        module = tensor.name.removesuffix(".weight")
        pairs = [(each.name, each.pairs[module]) for each in adapters if module in each.pairs]
        if module == tensor.name or not pairs:
            continue
        products = _products(model.graph, uses, tensor.name)
        for product in products or ():
            after[product.position] = _branches(model.graph, product, pairs)
        if products is None:
            before += _sum(model.graph, tensor, pairs)
    nodes = [*before]
    for position, node in enumerate(model.graph.node):
        nodes += [node, *after.get(position, ())]
    rebuilt = onnx.GraphProto(node=nodes)
    del model.graph.node[:]
    model.graph.node.extend(rebuilt.node)
    return model


class UnmergedNetwork:
    """The unmerged graph of one subset, open in onnxruntime; a context manager.

    Args:
        graph: the trunk of the subset, without weights.
        weights: base weights by name.
        adapters: the common one and the subset's own, as there are.
        subset: such as ``"audio+video"``.

    Raises:
        ExportError: an initializer of the graph has no weight of its name and shape.
        BackendError: onnxruntime cannot open the graph.
    """

    def __init__(
        self, graph: onnx.ModelProto, weights: Weights, adapters: Sequence[Adapter], subset: str
    ) -> None:
        model = bytes_from_model(unmerged_graph(graph, weights, adapters))
        self.subset = subset
        self._runner = OrtRunner(model, engine=f"{subset} unmerged")

    def answers(self, windows: Mapping[str, Array]) -> dict[str, NDArray[np.float32]]:
        """Returns what it says of some windows, named as a checkpoint's reference names it.

        Args:
            windows: ``features.<m>`` (N, T_m, D_m) and ``mask.<m>`` (N, T_m) of each of its modalities.

        Returns:
            ``logits.<subset>`` (N, C), and ``evidence.<subset>.<m>`` (N, C) and ``frame_logits.<subset>``
            (N, T, C) where the network gives them.

        Raises:
            BackendError: onnxruntime cannot run the graph.
        """
        members = subset_members(self.subset)
        feed = {
            f"{kind}.{name}": np.asarray(windows[f"{kind}.{name}"], dtype=np.float32)
            for name in members
            for kind in ("features", "mask")
        }
        answers = self._runner.run(feed)
        names = {name: f"{name}.{self.subset}" for name in ("logits", "frame_logits")}
        names |= {f"evidence.{name}": f"evidence.{self.subset}.{name}" for name in members}
        return {name: answers[output] for output, name in names.items() if output in answers}

    def close(self) -> None:
        """Frees it; nothing happens the second time."""
        self._runner.close()

    def __enter__(self) -> UnmergedNetwork:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def unmerged_answers(
    graph: onnx.ModelProto,
    weights: Weights,
    adapters: Sequence[Adapter],
    subset: str,
    windows: Mapping[str, Array],
) -> dict[str, NDArray[np.float32]]:
    """Returns what the unmerged network says of some windows; see `UnmergedNetwork`."""
    with UnmergedNetwork(graph, weights, adapters, subset) as network:
        return network.answers(windows)


@dataclass(frozen=True)
class _Product:
    """``x @ W`` or ``x @ W^T``, at a position among a graph's nodes."""

    position: int
    transposed: bool


def _uses(graph: onnx.GraphProto) -> dict[str, list[int]] | None:
    """Returns value -> positions of the nodes that use it; None where an inner graph may use any by name."""
    found: dict[str, list[int]] = {}
    for position, node in enumerate(graph.node):
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            return None
        for name in dict.fromkeys(node.input):
            found.setdefault(name, []).append(position)
    return found


def _products(
    graph: onnx.GraphProto, uses: Mapping[str, list[int]] | None, weight: str
) -> list[_Product] | None:
    """Returns the products whose right factor is the weight; None where it has any other use."""
    if uses is None:
        return None
    outputs = {value.name for value in graph.output}
    found: list[_Product] = []
    factors = [(weight, False)]  # value, and whether it is the weight's transpose
    for name, transposed in factors:
        if name in outputs:
            return None
        for position in uses.get(name, ()):
            node = graph.node[position]
            if node.op_type == "Transpose":
                factors.append((node.output[0], not transposed))
                continue
            flags = _gemm_flags(node)
            right = list(node.input).index(name) == 1 and list(node.input).count(name) == 1
            if not right or node.op_type not in ("MatMul", "Gemm") or flags["transA"]:
                return None
            found.append(_Product(position, transposed != bool(flags["transB"])))
    return found


def _gemm_flags(node: onnx.NodeProto) -> dict[str, float]:
    flags = {"transA": 0.0, "transB": 0.0, "alpha": 1.0}
    if node.op_type != "Gemm":
        return flags
    return flags | {
        attribute.name: helper.get_attribute_value(attribute)
        for attribute in node.attribute
        if attribute.name in flags
    }


def _branches(
    graph: onnx.GraphProto, product: _Product, pairs: Sequence[tuple[str, LowRankPair]]
) -> list[onnx.NodeProto]:
    """Renames the result of a product and returns the nodes that add the adapters' products to it."""
    node = graph.node[product.position]
    result, outer = node.output[0], _gemm_flags(node)["alpha"]
    node.output[0] = total = f"{result}.base"
    fresh: list[onnx.NodeProto] = []
    for number, (name, pair) in enumerate(pairs):
        first, second = (pair.a.T, pair.b.T) if product.transposed else (pair.b, pair.a)
        stem = f"{result}.{name}"
        factors = [f"{stem}.first", f"{stem}.second", f"{stem}.scale"]
        for factor, array in zip(factors, (first, second, np.float32(pair.scale * outer)), strict=True):
            graph.initializer.append(numpy_helper.from_array(np.array(array, np.float32, order="C"), factor))
        summed = result if number == len(pairs) - 1 else f"{stem}.sum"
        fresh += [
            helper.make_node("MatMul", [node.input[0], factors[0]], [f"{stem}.inner"]),
            helper.make_node("MatMul", [f"{stem}.inner", factors[1]], [f"{stem}.outer"]),
            helper.make_node("Mul", [f"{stem}.outer", factors[2]], [f"{stem}.scaled"]),
            helper.make_node("Add", [total, f"{stem}.scaled"], [summed]),
        ]
        total = summed
    return fresh


def _sum(
    graph: onnx.GraphProto, base: onnx.TensorProto, pairs: Sequence[tuple[str, LowRankPair]]
) -> list[onnx.NodeProto]:
    """Renames a weight and returns the nodes that add the adapters' products to it."""
    weight = base.name
    base.name = total = f"{weight}.base"
    fresh: list[onnx.NodeProto] = []
    for number, (name, pair) in enumerate(pairs):
        stem = f"{weight}.{name}"
        factors = [f"{stem}.b", f"{stem}.a", f"{stem}.scale"]
        for factor, array in zip(factors, (pair.b, pair.a, np.float32(pair.scale)), strict=True):
            graph.initializer.append(numpy_helper.from_array(np.array(array, np.float32, order="C"), factor))
        summed = weight if number == len(pairs) - 1 else f"{stem}.sum"
        fresh += [
            helper.make_node("MatMul", factors[:2], [f"{stem}.product"]),
            helper.make_node("Mul", [f"{stem}.product", factors[2]], [f"{stem}.scaled"]),
            helper.make_node("Add", [total, f"{stem}.scaled"], [summed]),
        ]
        total = summed
    return fresh
