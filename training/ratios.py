"""The training ratios of a run, epoch by epoch, kept in a file so that a resumed run goes on with them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeemo.training.dpft import FLOOR, TrainingRatios


class RatioLog:
    """Probabilities of the subsets: fixed, or dynamic ones (DPFT) that follow what each epoch measured.

    Args:
        base: subset -> weight, q_base.
        path: of the file that keeps the state after every epoch.
        dynamic: whether `finish_epoch` moves anything.
    """

    def __init__(self, base: Mapping[str, float], path: Path, *, dynamic: bool) -> None:
        self.ratios = TrainingRatios(base, floor=min(FLOOR, 1 / len(base)))
        self.path, self.dynamic = path, dynamic
        self.states: list[dict[str, Any]] = []
        if dynamic and path.exists():
            self.states = json.loads(path.read_text(encoding="utf-8"))

    def start_epoch(self, epoch: int) -> dict[str, float]:
        """Returns the probability of each subset in an epoch, counted from 0."""
        self.states = self.states[:epoch]
        if self.states:
            self.ratios.load_state_dict(self.states[-1])
        return self.ratios.probabilities

    def finish_epoch(self, divergences: Mapping[str, float]) -> None:
        """Takes in JSD_k of each subset and decides what the next epoch draws."""
        if not self.dynamic:
            return
        self.ratios.update(divergences)
        self.states.append(self.ratios.state_dict())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.states) + "\n", encoding="utf-8")
        os.replace(temporary, self.path)
