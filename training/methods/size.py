"""How large a method is: parameters, and the bytes of the engines that it ships."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgeemo.export.graph import bind_weights, bytes_from_model, fold_graph, load_graph
from edgeemo.export.variants.dynamic import quantize_products
from edgeemo.modality import subset_members
from edgeemo.training.checkpoints.trace import graph_from_trunk, weights_from_module
from edgeemo.training.config import MethodConfig
from edgeemo.training.lowrank import AdaptedTrunk
from edgeemo.training.methods.networks import Network, networks_of, new_network, trunk_of


@dataclass(frozen=True)
class MethodSize:
    """Sizes of one method.

    Attributes:
        parameters: of all trunks together.
        adapter_parameters: of the common and all specific pairs.
        engines: number of engines that serve the seven subsets.
        fp32_bytes: of those engines, adapters merged.
        int8_bytes: of their int8 variant.
    """

    parameters: int
    adapter_parameters: int
    engines: int
    fp32_bytes: int
    int8_bytes: int


def method_size(
    config: MethodConfig,
    widths: Mapping[str, int],
    length: int,
    *,
    classes: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> MethodSize:
    """Returns the sizes of a method; they do not depend on what its weights have learned.

    Args:
        config: the method.
        widths: modality -> feature width.
        length: utterances of the longest video.
        classes: number of labels.
        progress: called with (engines made, engines).
    """
    networks = networks_of(config, tuple(widths))
    engines = [(network, subset) for network in networks for subset in _shipped(network)]
    built: dict[str, nn.Module] = {}
    fp32 = int8 = 0
    for done, (network, subset) in enumerate(engines):
        if network.name not in built:
            model = new_network(network, config, widths=widths, length=length, classes=classes, seed=0)
            built[network.name] = model.eval()
        plain, small = _engine_bytes(built[network.name], subset)
        fp32, int8 = fp32 + len(plain), int8 + len(small)
        if progress is not None:
            progress(done + 1, len(engines))
    trunks = sum(p.numel() for model in built.values() for p in trunk_of(model).parameters())
    everything = sum(p.numel() for model in built.values() for p in model.parameters())
    return MethodSize(trunks, everything - trunks, len(engines), fp32, int8)


def _shipped(network: Network) -> tuple[str, ...]:
    """Returns the subsets that need an engine of their own: one alone where zeros fill the gaps."""
    return network.subsets[-1:] if network.zeros else network.subsets


def _engine_bytes(model: nn.Module, subset: str) -> tuple[bytes, bytes]:
    """Returns the fp32 and the int8 engine of one subset."""
    trunk = trunk_of(model)
    traced = graph_from_trunk(trunk, subset_members(subset))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        path.write_bytes(traced.SerializeToString())
        graph = load_graph(path)
    plain = fold_graph(bind_weights(graph, merged_weights(model, subset)))
    return bytes_from_model(plain), bytes_from_model(quantize_products(plain))


def merged_weights(model: nn.Module, subset: str) -> dict[str, NDArray[np.float32]]:
    """Returns the weights of a subset's engine, ``trunk.<name>``, adapters merged in float64."""
    weights: dict[str, NDArray[np.float32]] = weights_from_module(trunk_of(model), "trunk")
    if isinstance(model, AdaptedTrunk):
        for name in model.modules_of[subset]:
            merged = model.merged_weight(name, subset).float().cpu().numpy()
            weights[f"trunk.{name}.weight"] = merged
    return weights
