"""What a checkpoint is written from: weights, graphs, adapters and answers of a trained network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from edgeemo.modality import subset_members
from edgeemo.training.checkpoints.description import Array, Windows
from edgeemo.training.checkpoints.trace import graph_from_trunk, is_temporal, weights_from_module
from edgeemo.training.lowrank import COMMON, AdaptedTrunk, peft_config, peft_state

if TYPE_CHECKING:
    import onnx

PREFIX = "trunk"
FRAME_WINDOWS = 32
# (features, masks) of a subset -> logits (B, C) and the evidence of each modality, empty where it has none.
Model = Callable[[dict[str, Tensor], dict[str, Tensor]], tuple[Tensor, Mapping[str, Tensor]]]


@dataclass(frozen=True)
class Network:
    """A trained network, ready to be written down.

    Attributes:
        models: subset -> the network with that subset's adapters active, in eval mode.
        weights: ``trunk.*`` of the network without adapters.
        graphs: subset -> graph without adapters and without weights.
        adapters: ``"common"`` and subsets -> tensors and configuration in PEFT's layout.
        low_rank: how `edgeemo.training.checkpoints.load` builds the adapters again, or None.
    """

    models: Mapping[str, Model]
    weights: Mapping[str, Array]
    graphs: Mapping[str, onnx.ModelProto]
    adapters: Mapping[str, tuple[dict[str, Array], dict[str, object]]]
    low_rank: Mapping[str, Any] | None = None


def network_from_trunk(model: AdaptedTrunk) -> Network:
    """Returns one of our own trunks with its adapters (put into eval mode)."""
    model.eval()
    graphs = {subset: graph_from_trunk(model.trunk, subset_members(subset)) for subset in model.subsets}
    adapters = {}
    for name in (COMMON, *model.subsets):
        tensors = {key: tensor.numpy() for key, tensor in peft_state(model, name, PREFIX).items()}
        adapters[name] = (tensors, peft_config(model, name, PREFIX, ""))
    spec = model.spec
    return Network(
        models=dict.fromkeys(model.subsets, model),
        weights=used_weights(weights_from_module(model.trunk, PREFIX), graphs),
        graphs=graphs,
        adapters=adapters,
        low_rank={"scale": spec.scale, "ranks": dict(spec.ranks), "dropout": spec.dropout},
    )


def used_weights(weights: Mapping[str, Array], graphs: Mapping[str, onnx.ModelProto]) -> dict[str, Array]:
    """Returns the weights that some graph waits for; a head used in training alone does not ship."""
    wanted = {
        tensor.name
        for graph in graphs.values()
        for tensor in graph.graph.initializer
        if tensor.data_location == tensor.EXTERNAL
    }
    return {name: array for name, array in weights.items() if name in wanted}


def answers(model: Model, windows: Windows, subset: str) -> tuple[Array, dict[str, Array]]:
    """Returns logits (N, C) and evidence (N, C) of one subset, in eval mode.

    Args:
        model: called with the features and masks of the subset's modalities alone.
        windows: N windows.
        subset: such as ``"audio+video"``.
    """
    members = subset_members(subset)
    logits: list[Array] = []
    evidence: dict[str, list[Array]] = {}
    if isinstance(model, torch.nn.Module):
        model.eval()
    with torch.no_grad():
        for start in range(0, len(windows), 256):
            rows = slice(start, start + 256)
            features = {m: torch.from_numpy(windows.features[m][rows]) for m in members}
            masks = {m: torch.from_numpy(windows.masks[m][rows]) for m in members}
            out, parts = model(features, masks)
            logits.append(out.numpy())
            for m, values in parts.items():
                evidence.setdefault(m, []).append(values.numpy())
    return np.concatenate(logits), {m: np.concatenate(rows_of) for m, rows_of in evidence.items()}


def frame_answers(model: Model, windows: Windows, subset: str) -> Array | None:
    """Returns the logits of every frame (N, T, C) of the first windows, or None where there are none.

    Args:
        model: as `answers` takes it; only our own temporal trunks label frames.
        windows: at most `FRAME_WINDOWS` of them are taken: they are as large as the features.
        subset: such as ``"audio+video"``.
    """
    if not isinstance(model, AdaptedTrunk) or not is_temporal(model.trunk):
        return None
    model.eval()
    members = subset_members(subset)
    features = {m: torch.from_numpy(windows.features[m][:FRAME_WINDOWS]) for m in members}
    masks = {m: torch.from_numpy(windows.masks[m][:FRAME_WINDOWS]) for m in members}
    with torch.no_grad():
        frames = model.answer(features, masks).frame_logits
    return None if frames is None else np.asarray(frames.numpy())
