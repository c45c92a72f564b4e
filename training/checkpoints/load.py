"""Builds the PyTorch network again from a checkpoint folder, to compare engines with or to train on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from edgeemo.errors import CheckpointError, TrainingError
from edgeemo.training.checkpoints.trace import WEIGHTS_FILE
from edgeemo.training.lowrank import COMMON, AdaptedTrunk, LowRankSpec
from edgeemo.training.trunks import FAMILIES, build_trunk


def trunk_from_checkpoint(checkpoint: Path) -> AdaptedTrunk:
    """Returns trunk and adapters of a checkpoint, unmerged, in eval mode.

    Args:
        checkpoint: a folder that `edgeemo.training.checkpoints.save.save_checkpoint` wrote.

    Raises:
        CheckpointError: the folder holds no checkpoint of one of the `FAMILIES`, or its tensors do not
            fit the trunk that it describes.
    """
    description = _read_json(checkpoint / "checkpoint.json")
    family = description.get("family")
    if family not in FAMILIES or "trunk" not in description:
        raise CheckpointError(
            f"{checkpoint} is of family {family!r}; only these are built here: {', '.join(FAMILIES)}"
        )
    modalities = description["modalities"]
    try:
        trunk = build_trunk(
            family,
            {entry["name"]: entry["feature_width"] for entry in modalities},
            {entry["name"]: entry["window"]["length"] for entry in modalities},
            len(description["labels"]),
            **description["trunk"],
        )
    except TrainingError as error:
        raise CheckpointError(f"{checkpoint}: {error}") from error
    low_rank = description["low_rank"]
    spec = LowRankSpec(
        ranks=tuple(low_rank["ranks"].items()), scale=low_rank["scale"], dropout=low_rank["dropout"]
    )
    model = AdaptedTrunk(trunk, spec)
    weights = _tensors(checkpoint / WEIGHTS_FILE)
    prefix = "trunk."
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    try:
        trunk.load_state_dict(own)
        for adapter in (COMMON, *model.subsets):
            _load_pairs(model, adapter, checkpoint / "adapters" / adapter / "adapter_model.safetensors")
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(f"{checkpoint}: the tensors do not fit the trunk: {error}") from error
    model.eval()
    return model


def _load_pairs(model: AdaptedTrunk, adapter: str, path: Path) -> None:
    state = _tensors(path)
    with torch.no_grad():
        for name, pair in model.named_pairs(adapter):
            pair.a.copy_(state[f"base_model.model.trunk.{name}.lora_A.weight"])
            pair.b.copy_(state[f"base_model.model.trunk.{name}.lora_B.weight"])


def _tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; is this a checkpoint folder?")
    tensors: dict[str, Tensor] = load_file(path)
    return tensors


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; is this a checkpoint folder?")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
