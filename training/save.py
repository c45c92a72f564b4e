"""Writes a trained model as a checkpoint folder; `edgeemo.export` reads it without torch.

```
checkpoint.json            what the model is: modalities, subsets, data, metrics, licence
model.safetensors          base weights, float32: ``trunk.*`` and ``stem.<modality>.*``
adapters/<name>/           low-rank pairs in PEFT's layout; ``common`` and one for each subset
graphs/<subset>.onnx       the trunk of a subset without adapters and without weights
graphs/stem.<modality>.onnx
reference.safetensors      feature windows and what torch answers for them, adapters active
ranges.json                activation ranges of the stems, statistics of the features
```
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor, nn

from edgeemo.errors import TrainingError
from edgeemo.modality import subset_members
from edgeemo.training.lowrank import COMMON, AdaptedTrunk, peft_config, peft_state
from edgeemo.training.trace import WEIGHTS_FILE, graph_from_stem, graph_from_trunk, weights_from_module

FORMAT_VERSION = 1
MIN_REFERENCE_WINDOWS = 256

Array = NDArray[Any]
RangesOf = Callable[[Path, Mapping[str, Array], Iterable[Mapping[str, Array]]], dict[str, list[float]]]


@dataclass(frozen=True)
class ModalityPart:
    """One modality of a checkpoint: its stem, its window, and inputs to check and calibrate it with.

    Attributes:
        name: such as ``"audio"``.
        front_end: the whole front-end specification, as it goes into JSON.
        stem: the frozen encoder, (B, items, *item_shape) -> (B, n, D).
        width: D.
        length: positions in a window, T.
        period_s: seconds from one position to the next.
        window_s: seconds that a window looks back.
        stride: input items for each position.
        left_context: items of the past that a block of input starts with.
        block: new items in one block, a multiple of the stride.
        scope: ``"stream"`` (blocks follow each other) or ``"window"`` (a block is a whole window).
        item_shape: shape of one input item.
        examples: (N, left_context + block, *item_shape) synthetic inputs, N >= 2; saved with the
            stem's answers. Never a recording.
        calibration: (N, left_context + block, *item_shape) inputs from training data; only activation
            ranges are kept of them.
    """

    name: str
    front_end: Mapping[str, Any]
    stem: nn.Module
    width: int
    length: int
    period_s: float
    window_s: float
    stride: int
    left_context: int
    block: int
    scope: str
    item_shape: tuple[int, ...]
    examples: Array
    calibration: Array

    def as_json(self) -> dict[str, Any]:
        """Returns the entry of ``checkpoint.json``."""
        return {
            "name": self.name,
            "front_end": dict(self.front_end),
            "feature_width": self.width,
            "window": {"length": self.length, "period_s": self.period_s, "window_s": self.window_s},
            "stem": {
                "graph": f"graphs/stem.{self.name}.onnx",
                "stride": self.stride,
                "left_context": self.left_context,
                "block": self.block,
                "scope": self.scope,
                "item_shape": list(self.item_shape),
                "dtype": str(self.examples.dtype),
            },
        }


@dataclass(frozen=True)
class Windows:
    """Feature windows: modality -> features (N, T, D) and mask (N, T), float32."""

    features: dict[str, Array]
    masks: dict[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.masks.values())))

    def rounded(self) -> Windows:
        """Returns the windows as the reference file will hold them: through float16 and back."""

        def through_half(arrays: dict[str, Array]) -> dict[str, Array]:
            return {m: array.astype(np.float16).astype(np.float32) for m, array in arrays.items()}

        return Windows(through_half(self.features), through_half(self.masks))


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says about itself besides its weights.

    Attributes:
        model_id: such as ``"live"``.
        family: of the trunk, such as ``"mculora"``.
        labels: class names in the order of the logits.
        hop_s: seconds between two readings.
        temperatures: subset -> T in ``softmax(logits / T + log prior)``.
        priors: subset -> class probabilities.
        trunk: arguments to build the trunk again (`edgeemo.training.load`).
        data: name, licence and use of each data set.
        metrics: validation figures.
        licence: of the weights.
    """

    model_id: str
    family: str
    labels: Sequence[str]
    hop_s: float
    temperatures: Mapping[str, float]
    priors: Mapping[str, Sequence[float]]
    trunk: Mapping[str, Any]
    data: Sequence[Mapping[str, str]]
    licence: Mapping[str, Any]
    metrics: Mapping[str, Any] = field(default_factory=dict)


def save_checkpoint(
    out: Path,
    model: AdaptedTrunk,
    parts: Sequence[ModalityPart],
    info: CheckpointInfo,
    reference: Windows,
    *,
    notes: Mapping[str, str] | None = None,
    ranges_of: RangesOf | None = None,
) -> None:
    """Writes a checkpoint folder; a folder that was there before is replaced once all is written.

    Args:
        out: the folder to write.
        model: trunk and adapters.
        parts: one for each modality, in canonical order.
        info: everything that goes into ``checkpoint.json`` as it is.
        reference: at least 256 feature windows of validation or training data.
        notes: further text files, name -> content, such as a model card.
        ranges_of: measures activation ranges; `edgeemo.export.calibrate.activation_ranges` by default.

    Raises:
        TrainingError: too few reference windows, a weight that is not finite, or parts that do not
            belong to the trunk.
    """
    _check(model, parts, info, reference)
    if ranges_of is None:
        from edgeemo.export.calibrate import activation_ranges

        ranges_of = activation_ranges
    model = model.eval()
    work = out.with_name(f".{out.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    (work / "graphs").mkdir(parents=True)

    weights = weights_from_module(model.trunk, "trunk")
    for part in parts:
        weights.update(weights_from_module(part.stem.eval(), f"stem.{part.name}"))
    _check_finite(weights)
    _save_tensors(weights, work / WEIGHTS_FILE)
    base_sha256 = hashlib.sha256((work / WEIGHTS_FILE).read_bytes()).hexdigest()

    for adapter in (COMMON, *model.subsets):
        folder = work / "adapters" / adapter
        folder.mkdir(parents=True)
        pairs = {name: tensor.numpy() for name, tensor in peft_state(model, adapter, "trunk").items()}
        _check_finite(pairs)
        _save_tensors(pairs, folder / "adapter_model.safetensors")
        write_json(folder / "adapter_config.json", peft_config(model, adapter, "trunk", base_sha256))

    for subset in model.subsets:
        onnx.save(
            graph_from_trunk(model.trunk, subset_members(subset)), str(work / "graphs" / f"{subset}.onnx")
        )
    ranges: dict[str, Any] = {}
    for part in parts:
        path = work / "graphs" / f"stem.{part.name}.onnx"
        onnx.save(graph_from_stem(part.stem, part.name, torch.from_numpy(part.examples[:2])), str(path))
        batches = [
            {f"input.{part.name}": part.calibration[i : i + 64]} for i in range(0, len(part.calibration), 64)
        ]
        ranges[f"stem.{part.name}"] = ranges_of(path, weights, batches)
    ranges["features"] = feature_statistics(reference)
    write_json(work / "ranges.json", ranges)

    _save_tensors(reference_answers(model, parts, reference), work / "reference.safetensors")
    write_json(work / "checkpoint.json", _checkpoint_json(model, parts, info))
    for name, content in (notes or {}).items():
        (work / name).write_text(content, encoding="utf-8")
    replace_folder(work, out)


def _check(
    model: AdaptedTrunk, parts: Sequence[ModalityPart], info: CheckpointInfo, reference: Windows
) -> None:
    names = tuple(part.name for part in parts)
    if names != model.order:
        raise TrainingError(f"the trunk has modalities {model.order}, the parts are {names}")
    for part in parts:
        expected = (model.trunk.widths[part.name], model.trunk.lengths[part.name])
        if (part.width, part.length) != expected:
            raise TrainingError(
                f"{part.name}: width and length are {(part.width, part.length)}, the trunk has {expected}"
            )
    if len(reference) < MIN_REFERENCE_WINDOWS:
        raise TrainingError(
            f"{len(reference)} reference windows were given; a checkpoint needs {MIN_REFERENCE_WINDOWS}"
        )
    for subset in model.subsets:
        if subset not in info.temperatures or subset not in info.priors:
            raise TrainingError(f"no temperature or prior for subset {subset}")


def _check_finite(weights: Mapping[str, Array]) -> None:
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise TrainingError(f"weight {name} is not finite: the training diverged, nothing was saved")


def _checkpoint_json(
    model: AdaptedTrunk, parts: Sequence[ModalityPart], info: CheckpointInfo
) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "model_id": info.model_id,
        "family": info.family,
        "labels": list(info.labels),
        "hop_s": info.hop_s,
        "modalities": [part.as_json() for part in parts],
        "subsets": {
            subset: {
                "graph": f"graphs/{subset}.onnx",
                "adapter": f"adapters/{subset}",
                "temperature": float(info.temperatures[subset]),
                "prior": [float(value) for value in info.priors[subset]],
            }
            for subset in model.subsets
        },
        "adapters": {COMMON: f"adapters/{COMMON}"},
        "low_rank": {
            "scale": model.spec.scale,
            "ranks": dict(model.spec.ranks),
            "dropout": model.spec.dropout,
        },
        "trunk": dict(info.trunk),
        "data": [dict(entry) for entry in info.data],
        "metrics": dict(info.metrics),
        "licence": dict(info.licence),
    }


def answers(model: AdaptedTrunk, windows: Windows, subset: str) -> tuple[Array, dict[str, Array]]:
    """Returns logits (N, C) and evidence (N, C) of one subset, adapters active, in eval mode."""
    members = subset_members(subset)
    logits: list[Array] = []
    evidence: dict[str, list[Array]] = {m: [] for m in members}
    model.eval()
    with torch.no_grad():
        for start in range(0, len(windows), 256):
            rows = slice(start, start + 256)
            features = {m: torch.from_numpy(windows.features[m][rows]) for m in members}
            masks = {m: torch.from_numpy(windows.masks[m][rows]) for m in members}
            out, parts = model(features, masks)
            logits.append(out.numpy())
            for m in members:
                evidence[m].append(parts[m].numpy())
    return np.concatenate(logits), {m: np.concatenate(rows_of) for m, rows_of in evidence.items()}


def reference_answers(
    model: AdaptedTrunk, parts: Sequence[ModalityPart], reference: Windows
) -> dict[str, Array]:
    """Returns the tensors of ``reference.safetensors``."""
    rounded = reference.rounded()
    state: dict[str, Array] = {}
    for m in model.order:
        state[f"features.{m}"] = rounded.features[m].astype(np.float16)
        state[f"mask.{m}"] = rounded.masks[m].astype(np.float16)
    for subset in model.subsets:
        logits, evidence = answers(model, rounded, subset)
        state[f"logits.{subset}"] = logits
        for m, values in evidence.items():
            state[f"evidence.{subset}.{m}"] = values
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


def replace_folder(work: Path, out: Path) -> None:
    """Puts a finished folder in the place of another; what was there goes only once the new one is in."""
    aside = out.with_name(f".{out.name}.replaced")
    if aside.exists() and not out.exists():
        os.replace(aside, out)  # an earlier run was killed between the two renames
    shutil.rmtree(aside, ignore_errors=True)
    if out.exists():
        os.replace(out, aside)
    os.replace(work, out)
    shutil.rmtree(aside, ignore_errors=True)
