"""What the common and the specific pairs add to each modality, and a loss that keeps them apart."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from edgeemo.training.lowrank import Parts
from edgeemo.training.trunks.sequence import masked_mean

# The Linear that ends a block of one modality, in every family: ``blocks.<modality>.<...>.<name>``.
BLOCK_END = re.compile(r"^blocks\.([^.]+)\..*\b(fc2|conv)$")


def pooled_parts(
    parts: Mapping[str, Parts], masks: Mapping[str, Tensor]
) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Returns modality -> (common, specific) of each of its blocks, means over the valid positions.

    Args:
        parts: recorded by `AdaptedTrunk.forward` or `AdaptedTrunk.answer`.
        masks: modality -> (B, T_m) of the same call.

    Returns:
        Pairs of (B, d): R_m,common and R_mk of the paper's figure, taken at the end of each block (ours).
    """
    pooled: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for name, part in parts.items():
        found = BLOCK_END.match(name)
        if found is None:
            continue
        mask = masks[found[1]]
        both = (masked_mean(part.common, mask), masked_mean(part.specific, mask))
        pooled.setdefault(found[1], []).append(both)
    return pooled


def orthogonality_loss(parts: Mapping[str, Parts], masks: Mapping[str, Tensor]) -> Tensor:
    """Returns how much the common and the specific pairs of one subset say the same.

    ``mean over m and blocks of || R_mk^T R_m,common ||_F^2 / B^2`` with R (B, d) from `pooled_parts`
    (MCULoRA, arXiv 2507.11202: the loss is in the paper's figure; the form is ours).

    Args:
        parts: recorded by `AdaptedTrunk.forward` or `AdaptedTrunk.answer`.
        masks: modality -> (B, T_m) of the same call.
    """
    terms = [
        (specific.T @ common).square().sum() / common.shape[0] ** 2
        for pairs in pooled_parts(parts, masks).values()
        for common, specific in pairs
    ]
    return torch.stack(terms).mean()
