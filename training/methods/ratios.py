"""How often each subset is drawn: equally, or by dynamic ratios (DPFT), epoch by epoch.

The ratios follow how far common and specific pairs have moved apart, which needs no labels. They are
measured on the train videos without noise or dropout: in a cross-fit every dev video reports in one of the
two halves, so none may steer the training that both share.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeemo.modality import subset_members
from edgeemo.training.config import MethodConfig
from edgeemo.training.dpft import TrainingRatios, separation_jsd
from edgeemo.training.lowrank import Parts
from edgeemo.training.methods.networks import Network, answer_subset


class Ratios:
    """Probabilities of a network's subsets; a resumed run finds those of its next epoch in a file.

    Args:
        network: whose subsets are drawn.
        config: says whether the ratios are dynamic; without adapters they never are.
        path: of the file that keeps the state after every epoch.
    """

    def __init__(self, network: Network, config: MethodConfig, path: Path) -> None:
        self.network, self.path = network, path
        self.ratios = TrainingRatios(
            dict.fromkeys(network.subsets, 1.0), floor=min(0.05, 1 / len(network.subsets))
        )
        self.dynamic = network.adapted and config.adaptation.dynamic_ratios
        self.states: list[dict[str, Any]] = []
        if self.dynamic and path.exists():
            self.states = json.loads(path.read_text(encoding="utf-8"))

    def start_epoch(self, epoch: int) -> dict[str, float]:
        """Returns the probability of each subset in an epoch, counted from 0."""
        self.states = self.states[:epoch]
        if self.states:
            self.ratios.load_state_dict(self.states[-1])
        return self.ratios.probabilities

    def finish_epoch(self, model: nn.Module, features: Mapping[str, Tensor], mask: Tensor) -> None:
        """Measures what the next epoch draws.

        Args:
            model: in eval mode.
            features: modality -> (V, T, D_m) of the train videos.
            mask: (V, T).
        """
        if not self.dynamic:
            return
        divergences: dict[str, float] = {}
        for subset in self.network.subsets:
            parts: dict[str, Parts] = {}
            with torch.no_grad():
                answer_subset(model, self.network, subset, features, mask, record=parts)
                masks = dict.fromkeys(subset_members(subset), mask)
                divergences[subset] = float(separation_jsd(parts, masks).mean())
        self.ratios.update(divergences)
        self.states.append(self.ratios.state_dict())
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.states) + "\n", encoding="utf-8")
        os.replace(temporary, self.path)
