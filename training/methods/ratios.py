"""How often each subset is drawn: equally, or by dynamic ratios (DPFT) measured on train videos.

The ratios follow how far common and specific parts have moved apart, which needs no labels; they are
measured on train videos, never on dev, which only selects epochs and reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from edgeemo.training.config import MethodConfig
from edgeemo.training.methods.networks import Network


class Ratios:
    """Probabilities of the subsets, epoch by epoch."""

    def __init__(self, network: Network, config: MethodConfig, folder: Path) -> None:
        self.network = network
        self.equal = dict.fromkeys(network.subsets, 1 / len(network.subsets))

    def of_epoch(self, epoch: int) -> dict[str, float]:
        """Returns the probability of each subset in an epoch."""
        return self.equal

    def update(self, epoch: int, model: nn.Module, features: Mapping[str, Tensor], mask: Tensor) -> None:
        """Measures after an epoch what the next one draws."""
