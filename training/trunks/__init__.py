"""The three trunks: feature sequences of any subset of modalities in, logits and evidence out."""

from __future__ import annotations

from edgeemo.training.answer import Answer, cross_entropy
from edgeemo.training.trunks.build import FAMILIES, FamilyTrunk, build_trunk, low_rank_spec, trunk_options
from edgeemo.training.trunks.separation import orthogonality_loss, pooled_parts

__all__ = [
    "FAMILIES",
    "Answer",
    "FamilyTrunk",
    "build_trunk",
    "cross_entropy",
    "low_rank_spec",
    "orthogonality_loss",
    "pooled_parts",
    "trunk_options",
]
