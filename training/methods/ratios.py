"""How far the common and the specific pairs of a network have moved apart, which steers its ratios (DPFT).

That needs no labels. It is measured on the train videos without noise or dropout: in a cross-fit every dev
video reports in one of the two halves, so none may steer the training that both share.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgeemo.modality import subset_members
from edgeemo.training.dpft import separation_jsd
from edgeemo.training.lowrank import Parts
from edgeemo.training.methods.networks import Network, answer_subset


def divergences(
    model: nn.Module, network: Network, features: Mapping[str, Tensor], mask: Tensor
) -> dict[str, float]:
    """Returns JSD_k of each subset of a network with adapters.

    Args:
        model: in eval mode.
        network: whose subsets are measured.
        features: modality -> (V, T, D_m) of the train videos.
        mask: (V, T).
    """
    found: dict[str, float] = {}
    for subset in network.subsets:
        parts: dict[str, Parts] = {}
        with torch.no_grad():
            answer_subset(model, network, subset, features, mask, record=parts)
            masks = dict.fromkeys(subset_members(subset), mask)
            found[subset] = float(separation_jsd(parts, masks).mean())
    return found
