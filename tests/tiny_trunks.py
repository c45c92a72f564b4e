"""A tiny trunk of each family, both forms of denoising included, and random windows for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgeemo.modality import all_subsets, subset_members
from edgeemo.training.lowrank import AdaptedTrunk
from edgeemo.training.trunks import build_trunk, low_rank_spec

WIDTHS = {"audio": 5, "video": 4, "text": 6}
LENGTHS = {"audio": 6, "video": 3, "text": 5}
SUBSETS = all_subsets(tuple(WIDTHS))
CLASSES = 7
FLAT: dict[str, Any] = {"dropout": 0.0, "fusion_dropout": 0.0}
# name -> (family, options that make it tiny)
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "mculora": ("mculora", {"width": 8, "blocks": 2, "heads": 2}),
    "crosstemporal": ("crosstemporal", {"channels": (12, 8), "heads": 2, "kernel": 3}),
    "redifu-difference": ("redifu", {"width": 8, "heads": 2, "denoise": "difference", "reach": 2}),
    "redifu-dual": ("redifu", {"width": 8, "heads": 2, "layers": 2, "denoise": "dual", "reach": 2}),
}


def tiny_trunk(kind: str, *, seed: int = 0, lengths: dict[str, int] | None = None, **options: Any) -> Any:
    """Returns a tiny random trunk without dropout."""
    torch.manual_seed(seed)
    family, tiny = KINDS[kind]
    return build_trunk(family, WIDTHS, lengths or LENGTHS, CLASSES, **{**tiny, **FLAT, **options})


def tiny_adapted(kind: str, *, seed: int = 0, **options: Any) -> AdaptedTrunk:
    """Returns a tiny trunk with fresh adapters."""
    return AdaptedTrunk(tiny_trunk(kind, seed=seed, **options), low_rank_spec(KINDS[kind][0]))


def randomise_pairs(model: AdaptedTrunk) -> AdaptedTrunk:
    """Gives every A and B random numbers, as if it had been trained (changes ``model``)."""
    with torch.no_grad():
        for value in model.pairs.parameters():
            value.normal_(std=0.3)
    return model


def windows(
    subset: str, *, batch: int = 4, seed: int = 1, lengths: dict[str, int] | None = None, full: bool = False
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Returns random features and masks; the first sample has one valid position, the second a gap."""
    lengths = lengths or LENGTHS
    generator = torch.Generator().manual_seed(seed)
    members = subset_members(subset)
    features = {m: torch.randn(batch, lengths[m], WIDTHS[m], generator=generator) for m in members}
    masks = {m: torch.ones(batch, lengths[m]) for m in members}
    if not full:
        for mask in masks.values():
            mask[0, 1:] = 0.0
            mask[1, 1] = 0.0
    return features, masks
