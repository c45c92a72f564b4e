"""Over random networks, ranks and subsets: merged is unmerged.

Both are run in float64 (numpy), so that they differ by the one rounding of each merged weight to float32 and
no more, and the merged one in onnxruntime too. The bounds are derived: a ReLU makes no error larger, so what
a layer is off by at its output is at most ``|W| e + UNIT |W| |x|`` where its input x is off by e.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tiny_linear import KINDS, Array, Layer, chain, random_layer, write_adapter

from edgeemo.export import merge_peft
from edgeemo.export.adapters.merge import Adapter, LowRankPair, merge_adapters, read_adapter
from edgeemo.export.adapters.unmerged import unmerged_answers
from edgeemo.export.graph import bind_weights
from edgeemo.modality import all_subsets, subset_members
from edgeemo.runtimes import OrtRunner

UNIT = float(np.finfo(np.float32).eps) / 2  # one rounding to float32 is off by at most this, relatively
ROWS = 3
MODALITIES = ("audio", "video", "text")


@dataclass(frozen=True)
class Pair:
    """An adapter's A (r, in) and B (out, r) for one layer, and its strength."""

    a: Array
    b: Array
    scale: float

    def of(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the adapter adds to the layer's output."""
        return self.scale * (x @ self.a.T.astype(np.float64)) @ self.b.T.astype(np.float64)


def random_pair(rng: np.random.Generator, layer: Layer, rank: int, scale: float) -> Pair:
    out, inner = layer.weight.shape
    a, b = rng.normal(size=(rank, inner)), rng.normal(size=(out, rank))
    return Pair(a.astype(np.float32), b.astype(np.float32), scale)


def forward(
    x: NDArray[np.float64], layers: Sequence[tuple[Layer, Sequence[Pair]]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns the unmerged answer, how far the merged one may be off, and the size of its sums.

    The last one, the same sums with every number's magnitude, is what fp32 arithmetic errs relatively to.
    """
    off, size = np.zeros_like(x), np.abs(x)
    for position, (layer, pairs) in enumerate(layers):
        merged = layer.weight.astype(np.float64)
        y = x @ merged.T + layer.bias
        for pair in pairs:
            y = y + pair.of(x)
            merged = merged + pair.scale * pair.b.astype(np.float64) @ pair.a.astype(np.float64)
        grown = np.abs(merged.T) * (1 + UNIT)
        off = off @ grown + UNIT * np.abs(x) @ grown
        size = size @ grown + np.abs(layer.bias)
        x = y if position == len(layers) - 1 else np.maximum(y, 0.0)
    return x, off, size


def run(model: onnx.ModelProto, feed: dict[str, Any], name: str) -> NDArray[np.float32]:
    with OrtRunner(model.SerializeToString(), engine="merged") as runner:
        return np.asarray(runner.run(feed)[name])


def close_in_fp32(found: Any, expected: Any, size: Any, depth: int) -> None:
    """fp32 errs by a rounding for each product of a sum, at most 40 of them, in each layer."""
    assert np.all(np.abs(found - expected) <= 45 * (depth + 1) * UNIT * size)


@st.composite
def adapted_chains(draw: st.DrawFn) -> tuple[list[Layer], dict[int, int], dict[str, Any], int, str]:
    """Layers, rank by adapted layer, words of the config, a seed, and a prefix around the exported names."""
    widths = draw(st.lists(st.integers(1, 20), min_size=2, max_size=5))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    prefix = draw(st.sampled_from(["", "model.", "model.encoder."]))
    layers = [
        random_layer(rng, f"{prefix}layer.{i}.dense", inner, out, draw(st.sampled_from(KINDS)))
        for i, (inner, out) in enumerate(pairwise(widths))
    ]
    chosen = draw(st.sets(st.integers(0, len(layers) - 1), min_size=1))
    ranks = {i: draw(st.integers(1, 6)) for i in sorted(chosen)}
    config: dict[str, Any] = {"r": 2, "lora_alpha": draw(st.sampled_from([1, 4, 7.5]))}
    config["use_rslora"] = draw(st.booleans())
    config["fan_in_fan_out"] = draw(st.booleans())  # the graph knows better
    config["rank_pattern"] = {f"layer.{i}.dense": rank for i, rank in ranks.items() if rank != 2}
    config["alpha_pattern"] = {f"{i}.dense": 3 for i in ranks if draw(st.booleans())}
    return layers, ranks, config, seed, prefix


@settings(max_examples=80, deadline=None)
@given(adapted_chains())
def test_a_foreign_model_merged_with_its_adapter_is_the_unmerged_one(
    drawn: tuple[list[Layer], dict[int, int], dict[str, Any], int, str],
) -> None:
    layers, ranks, config, seed, prefix = drawn
    rng = np.random.default_rng([seed, 1])
    pairs: dict[int, Pair] = {}
    for i, rank in ranks.items():
        alpha = 3 if f"{i}.dense" in config["alpha_pattern"] else config["lora_alpha"]
        scale = alpha / (np.sqrt(rank) if config["use_rslora"] else rank)
        pairs[i] = random_pair(rng, layers[i], rank, float(scale))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        named = {layers[i].name.removeprefix(prefix): (pair.a, pair.b) for i, pair in pairs.items()}
        write_adapter(folder / "adapter", named, **config)
        (folder / "base.onnx").write_bytes(chain(layers).SerializeToString())
        report = merge_peft(folder / "base.onnx", folder / "adapter", folder / "merged.onnx")
        merged = onnx.load(folder / "merged.onnx")
    assert {entry.module for entry in report.weights} == {layers[i].name for i in pairs}
    x = rng.normal(size=(ROWS, layers[0].weight.shape[1])).astype(np.float32)
    expected, off, size = forward(
        x.astype(np.float64), [(layer, [pairs[i]] if i in pairs else []) for i, layer in enumerate(layers)]
    )
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in merged.graph.initializer}
    exact = x.astype(np.float64)
    for i, layer in enumerate(layers):
        weight = arrays[layer.stored()[0]].astype(np.float64)
        turned = layer.kind in ("conv1d", "folded")
        exact = exact @ (weight if turned else weight.T) + layer.bias
        exact = exact if i == len(layers) - 1 else np.maximum(exact, 0.0)
    assert np.all(np.abs(exact - expected) <= 1.01 * off + 1e-11 * size)
    close_in_fp32(run(merged, {"x": x}, "answer"), expected, size, len(layers))


@dataclass(frozen=True)
class Network:
    """A chain for each modality, whose answers are added up: the smallest network with subsets."""

    branches: dict[str, list[Layer]]

    def graph(self, subset: str) -> onnx.ModelProto:
        """The subset's graph without weights, as a checkpoint holds it."""
        nodes: list[onnx.NodeProto] = []
        inputs: list[onnx.ValueInfoProto] = []
        tensors: dict[str, onnx.TensorProto] = {}
        for m in subset_members(subset):
            part = chain(self.branches[m]).graph
            own = {"x": f"pooled.{m}", "answer": f"part.{m}"}
            renamed = {
                name: own.get(name, name) for node in part.node for name in (*node.input, *node.output)
            }
            weights = {tensor.name for tensor in part.initializer}
            renamed = {k: v if k in weights or k in own else f"{m}.{v}" for k, v in renamed.items()}
            nodes.append(
                helper.make_node("ReduceMean", [f"features.{m}", "time"], [f"pooled.{m}"], keepdims=0)
            )
            for node in part.node:
                node.input[:] = [renamed[name] for name in node.input]
                node.output[:] = [renamed[name] for name in node.output]
                nodes.append(node)
            tensors |= {tensor.name: tensor for tensor in part.initializer}
            width = self.branches[m][0].weight.shape[1]
            inputs += [
                helper.make_tensor_value_info(f"features.{m}", TensorProto.FLOAT, ["batch", 2, width]),
                helper.make_tensor_value_info(f"mask.{m}", TensorProto.FLOAT, ["batch", 2]),
            ]
        nodes.append(helper.make_node("Sum", [f"part.{m}" for m in subset_members(subset)], ["logits"]))
        output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
        for tensor in tensors.values():
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
        time = numpy_helper.from_array(np.array([1], np.int64), "time")
        graph = helper.make_graph(nodes, subset, inputs, [output], [time, *tensors.values()])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    def weights(self) -> dict[str, Array]:
        """All initializers by name."""
        layers = [layer for branch in self.branches.values() for layer in branch]
        return dict(layer.stored() for layer in layers) | {
            f"{layer.name}.bias": layer.bias for layer in layers
        }


@st.composite
def networks(draw: st.DrawFn) -> tuple[Network, str, dict[str, dict[str, tuple[int, float]]], int]:
    """A network, a subset, adapter -> layer -> rank and scale, and a seed."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    order = draw(st.lists(st.sampled_from(MODALITIES), min_size=1, max_size=3, unique=True))
    branches = {}
    for m in MODALITIES:
        if m in order:
            widths = [*draw(st.lists(st.integers(1, 10), min_size=1, max_size=3)), 3]
            branches[m] = [
                random_layer(
                    rng, f"{m}.{i}", inner, out, draw(st.sampled_from(["transpose", "gemm", "conv1d"]))
                )
                for i, (inner, out) in enumerate(pairwise(widths))
            ]
    subset = draw(st.sampled_from(all_subsets(tuple(branches))))
    adapters: dict[str, dict[str, tuple[int, float]]] = {}
    for name in ("common", subset):
        reach = branches if name == "common" else {m: branches[m] for m in subset_members(subset)}
        names = [layer.name for branch in reach.values() for layer in branch]
        chosen = draw(st.lists(st.sampled_from(names), unique=True))
        strength = st.sampled_from([0.25, 1.0, 2.0, 7.3])
        adapters[name] = {layer: (draw(st.integers(1, 5)), draw(strength)) for layer in chosen}
    return Network(branches), subset, adapters, seed


@settings(max_examples=80, deadline=None)
@given(networks())
def test_every_subset_merged_is_the_unmerged_network(
    drawn: tuple[Network, str, dict[str, dict[str, tuple[int, float]]], int],
) -> None:
    network, subset, spec, seed = drawn
    rng = np.random.default_rng([seed, 1])
    layers = {layer.name: layer for branch in network.branches.values() for layer in branch}
    pairs = {
        name: {layer: random_pair(rng, layers[layer], *strength) for layer, strength in chosen.items()}
        for name, chosen in spec.items()
    }
    weights = network.weights()
    with tempfile.TemporaryDirectory() as name:
        adapters = list(read_all(Path(name), pairs, layers, weights))
    merged = merge_adapters(weights, adapters)
    graph = network.graph(subset)
    members = subset_members(subset)
    feed = {f"mask.{m}": np.ones((ROWS, 2), np.float32) for m in members}
    total = np.zeros((ROWS, 3))
    size = np.zeros((ROWS, 3))
    for m in members:
        width = network.branches[m][0].weight.shape[1]
        features = rng.normal(size=(ROWS, 2, width)).astype(np.float32)
        feed[f"features.{m}"] = features
        chosen = [
            (layer, [pairs[name][layer.name] for name in pairs if layer.name in pairs[name]])
            for layer in network.branches[m]
        ]
        part, _, sums = forward(features.astype(np.float64).mean(axis=1), chosen)
        total, size = total + part, size + sums
    depth = max(len(network.branches[m]) for m in members) + 2
    close_in_fp32(run(bind_weights(graph, merged), feed, "logits"), total, size, depth)
    apart = unmerged_answers(graph, weights, adapters, subset, feed)[f"logits.{subset}"]
    close_in_fp32(apart, total, size + magnitude(pairs, feed, network, members), depth)
    adapted = {layer for chosen in pairs.values() for layer in chosen}
    for layer in layers:
        key = layers[layer].stored()[0]
        assert np.array_equal(merged[key], weights[key]) == (layer not in adapted)


def magnitude(
    pairs: dict[str, dict[str, Pair]], feed: dict[str, Any], network: Network, members: Sequence[str]
) -> NDArray[np.float64]:
    """The size of the sums where base and adapters are not added before they are multiplied."""
    total = np.zeros((ROWS, 3))
    for m in members:
        x = np.abs(feed[f"features.{m}"].astype(np.float64)).mean(axis=1)
        for layer in network.branches[m]:
            y = x @ np.abs(layer.weight.T.astype(np.float64)) + np.abs(layer.bias)
            for chosen in pairs.values():
                if layer.name in chosen:
                    pair = chosen[layer.name]
                    y = y + Pair(np.abs(pair.a), np.abs(pair.b), pair.scale).of(x)
            x = y
        total = total + x
    return total


def read_all(
    folder: Path, pairs: dict[str, dict[str, Pair]], layers: dict[str, Layer], weights: dict[str, Array]
) -> Iterator[Adapter]:
    """Writes the adapters as PEFT would, Conv1D layers included, and reads them back."""
    turned = {name for name, layer in layers.items() if layer.kind == "conv1d"}
    for name, chosen in pairs.items():
        if not chosen:
            continue
        halves = {layer: (pair.a, pair.b) for layer, pair in chosen.items()}
        ranks = {layer: len(pair.a) for layer, pair in chosen.items()}
        alphas = {layer: pair.scale * len(pair.a) for layer, pair in chosen.items()}
        place = write_adapter(
            folder / name, halves, rank_pattern=ranks, alpha_pattern=alphas, fan_in_fan_out=bool(turned)
        )
        adapter = read_adapter(place, name, None, weights, transposed=turned)
        assert all(isinstance(pair, LowRankPair) for pair in adapter.pairs.values())
        yield adapter
