"""Writes a trained model as a checkpoint folder; `edgeemo.export` reads it without torch.

```
checkpoint.json            what the model is: modalities, subsets, data, metrics, licence
model.safetensors          base weights, float32: ``trunk.*`` and ``stem.<modality>.*``
adapters/<name>/           low-rank pairs in PEFT's layout; ``common`` and one for each subset, as there are
graphs/<subset>.onnx       the trunk of a subset without adapters and without weights
graphs/stem.<modality>.onnx
reference.safetensors      feature windows and what torch answers for them, adapters active
ranges.json                activation ranges of the stems, statistics of the features
```
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

from edgeemo.bundle.disk import replace_folder
from edgeemo.errors import TrainingError
from edgeemo.training.checkpoints.adapters import Adapters
from edgeemo.training.checkpoints.description import Array, CheckpointInfo, ModalityPart, Windows
from edgeemo.training.checkpoints.foreign import network_from_module
from edgeemo.training.checkpoints.network import Network, answers, frame_answers, network_from_trunk
from edgeemo.training.checkpoints.trace import WEIGHTS_FILE, graph_from_stem, weights_from_module
from edgeemo.training.lowrank import COMMON, AdaptedTrunk

__all__ = [
    "CheckpointInfo",
    "ModalityPart",
    "RangesOf",
    "Windows",
    "answers",
    "save_checkpoint",
    "write_json",
]

FORMAT_VERSION = 1
MIN_REFERENCE_WINDOWS = 256

RangesOf = Callable[[Path, Mapping[str, Array], Iterable[Mapping[str, Array]]], dict[str, list[float]]]


def save_checkpoint(
    model: nn.Module | Mapping[str, nn.Module],
    out: str | Path,
    parts: Sequence[ModalityPart],
    info: CheckpointInfo,
    reference: Windows,
    *,
    adapters: Adapters | None = None,
    subsets: Sequence[str] | None = None,
    notes: Mapping[str, str] | None = None,
    ranges_of: RangesOf | None = None,
) -> None:
    """Writes a checkpoint folder; a folder that was there before is replaced once all is written.

    The network may be any torch module. It is called as ``model(features, masks)`` with two dicts that
    hold the modalities of one subset and no other: ``features[m]`` (B, T_m, D_m) and ``masks[m]``
    (B, T_m), 1 = valid. It returns logits (B, C), or ``(logits, evidence)`` where ``evidence[m]`` (B, C)
    is what modality m adds: together the logits, up to a constant. Without it the engines have no
    evidence and readings say nothing about it. The module itself is left as it is; what is saved is a
    copy in float32, on the CPU, in eval mode.

    Args:
        model: an `AdaptedTrunk`, any other module, or subset -> module for networks trained one by one.
        out: the folder to write.
        parts: one for each modality, in canonical order.
        info: everything that goes into ``checkpoint.json`` as it is.
        reference: at least 256 feature windows of validation or training data.
        adapters: of a module that is none of ours; see `edgeemo.training.checkpoints.adapters`. None for
            a network without adapters, or whose PEFT adapters bear the names of the subsets.
        subsets: those that the network serves; all of them if None.
        notes: further text files, name -> content, such as a model card.
        ranges_of: measures activation ranges; `edgeemo.export.calibrate.activation_ranges` by default.

    Raises:
        TrainingError: too few reference windows, a weight that is not finite, parts that do not belong
            to the network, or a network that does not leave out an absent modality, cannot be traced,
            or answers otherwise once its adapters are merged.
    """
    out = Path(out)
    network = _network(model, parts, info, reference, adapters=adapters, subsets=subsets)
    if ranges_of is None:
        from edgeemo.export.calibrate import activation_ranges

        ranges_of = activation_ranges
    work = out.with_name(f".{out.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    (work / "graphs").mkdir(parents=True)

    weights = dict(network.weights)
    stem_graphs = {}
    for part in parts:
        graph = graph_from_stem(part.stem, part.name, torch.from_numpy(part.examples[:2]))
        stem_graphs[part.name] = graph
        weights.update(weights_from_module(part.stem, f"stem.{part.name}"))
    _check_finite(weights)
    _save_tensors(weights, work / WEIGHTS_FILE)
    base_sha256 = hashlib.sha256((work / WEIGHTS_FILE).read_bytes()).hexdigest()

    for adapter, (pairs, config) in network.adapters.items():
        folder = work / "adapters" / adapter
        folder.mkdir(parents=True)
        _save_tensors(pairs, folder / "adapter_model.safetensors")
        write_json(folder / "adapter_config.json", config | {"base_sha256": base_sha256})

    for subset, graph in network.graphs.items():
        onnx.save(graph, str(work / "graphs" / f"{subset}.onnx"))
    ranges: dict[str, Any] = {}
    for part in parts:
        path = work / "graphs" / f"stem.{part.name}.onnx"
        onnx.save(stem_graphs[part.name], str(path))
        batches = [
            {f"input.{part.name}": part.calibration[i : i + 64]} for i in range(0, len(part.calibration), 64)
        ]
        ranges[f"stem.{part.name}"] = ranges_of(path, weights, batches)
    ranges["features"] = feature_statistics(reference)
    write_json(work / "ranges.json", ranges)

    _save_tensors(reference_answers(network, parts, reference), work / "reference.safetensors")
    write_json(work / "checkpoint.json", _checkpoint_json(network, parts, info))
    for name, content in (notes or {}).items():
        (work / name).write_text(content, encoding="utf-8")
    replace_folder(work, out)


def _network(
    model: nn.Module | Mapping[str, nn.Module],
    parts: Sequence[ModalityPart],
    info: CheckpointInfo,
    reference: Windows,
    *,
    adapters: Adapters | None,
    subsets: Sequence[str] | None,
) -> Network:
    """Returns the network of `save_checkpoint`, checked against its modalities and its windows."""
    if len(reference) < MIN_REFERENCE_WINDOWS:
        raise TrainingError(
            f"{len(reference)} reference windows were given; a checkpoint needs {MIN_REFERENCE_WINDOWS}"
        )
    if isinstance(model, AdaptedTrunk):
        _check_trunk(model, parts)
    for part in parts:
        _check_stem(part)
    if isinstance(model, AdaptedTrunk):
        if adapters is not None or subsets is not None:
            raise TrainingError("an AdaptedTrunk brings its adapters and subsets; give none besides")
        _check_words(model.subsets, info)
        _check_finite(model.state_dict())
        network = network_from_trunk(model)
    else:
        network = network_from_module(
            model, parts, len(info.labels), reference.rounded(), adapters=adapters, subsets=subsets
        )
        _check_words(tuple(network.models), info)
    for tensors, _ in network.adapters.values():
        _check_finite(tensors)
    return network


def _check_trunk(model: AdaptedTrunk, parts: Sequence[ModalityPart]) -> None:
    names = tuple(part.name for part in parts)
    if names != model.order:
        raise TrainingError(f"the trunk has modalities {model.order}, the parts are {names}")
    for part in parts:
        expected = (model.trunk.widths[part.name], model.trunk.lengths[part.name])
        if (part.width, part.length) != expected:
            raise TrainingError(
                f"{part.name}: width and length are {(part.width, part.length)}, the trunk has {expected}"
            )


def _check_words(subsets: Sequence[str], info: CheckpointInfo) -> None:
    for subset in subsets:
        for words in (info.temperatures, info.priors):
            if words is not None and subset not in words:
                raise TrainingError(f"no temperature or prior for subset {subset}")


def _check_stem(part: ModalityPart) -> None:
    with torch.no_grad():
        found = tuple(part.stem.eval()(torch.from_numpy(part.examples)).shape)
    expected = (len(part.examples), part.block // part.stride, part.width)
    if found != expected:
        raise TrainingError(
            f"the stem of {part.name} makes {list(found)} of its examples; expected {list(expected)}: one "
            "feature for each stride of a block, of the modality's width"
        )


def _check_finite(weights: Mapping[str, Any]) -> None:
    for name, array in weights.items():
        if not np.isfinite(np.asarray(array)).all():
            raise TrainingError(f"weight {name} is not finite: the training diverged, nothing was saved")


def _checkpoint_json(network: Network, parts: Sequence[ModalityPart], info: CheckpointInfo) -> dict[str, Any]:
    content: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "model_id": info.model_id,
        "family": info.family,
        "labels": list(info.labels),
        "hop_s": info.hop_s,
        "modalities": [part.as_json() for part in parts],
        "subsets": {
            subset: {
                "graph": f"graphs/{subset}.onnx",
                **({"adapter": f"adapters/{subset}"} if subset in network.adapters else {}),
                "temperature": info.temperature(subset),
                "prior": info.prior(subset),
            }
            for subset in network.models
        },
        "adapters": {COMMON: f"adapters/{COMMON}"} if COMMON in network.adapters else {},
    }
    if network.low_rank is not None:
        content |= {"low_rank": dict(network.low_rank), "trunk": dict(info.trunk)}
    if info.thresholds:
        content["thresholds"] = dict(info.thresholds)
    return content | {
        "data": [dict(entry) for entry in info.data],
        "metrics": dict(info.metrics),
        "licence": dict(info.licence),
    }


def reference_answers(
    network: Network, parts: Sequence[ModalityPart], reference: Windows
) -> dict[str, Array]:
    """Returns the tensors of ``reference.safetensors``."""
    rounded = reference.rounded()
    state: dict[str, Array] = {}
    for m in (part.name for part in parts):
        state[f"features.{m}"] = rounded.features[m].astype(np.float16)
        state[f"mask.{m}"] = rounded.masks[m].astype(np.float16)
    for subset, model in network.models.items():
        logits, evidence = answers(model, rounded, subset)
        state[f"logits.{subset}"] = logits
        for m, values in evidence.items():
            state[f"evidence.{subset}.{m}"] = values
        frames = frame_answers(model, rounded, subset)
        if frames is not None:
            state[f"frame_logits.{subset}"] = frames
    for part in parts:
        with torch.no_grad():
            output: Tensor = part.stem(torch.from_numpy(part.examples))
        state[f"stem.{part.name}.input"] = part.examples
        state[f"stem.{part.name}.output"] = output.float().numpy()
    return {name: np.ascontiguousarray(array) for name, array in state.items()}


def feature_statistics(windows: Windows) -> dict[str, dict[str, list[float]]]:
    """Returns mean and standard deviation of each feature over the valid positions, by modality."""
    statistics = {}
    for m, features in windows.features.items():
        valid = features[windows.masks[m] > 0]  # (positions, D)
        statistics[m] = {
            "mean": [round(float(value), 6) for value in valid.mean(axis=0)],
            "std": [round(float(value), 6) for value in valid.std(axis=0)],
        }
    return statistics


def _save_tensors(tensors: Mapping[str, Array], path: Path) -> None:
    save_file(dict(tensors), path)
    path.chmod(0o644)  # safetensors makes files that only their owner can read


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON that reads well in a diff and ends with a newline."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
