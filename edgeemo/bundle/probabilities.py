"""From an engine's logits to probabilities: the same rule for session, evaluation, gate and training."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle.manifest import SubsetSpec


def probabilities_from_logits(logits: NDArray[Any], spec: SubsetSpec) -> NDArray[np.float64]:
    """Returns softmax(logits / temperature + log prior), (..., C), in float64.

    The logits are free of any prior: the network is trained with logit adjustment (Menon et al.,
    arXiv 2007.07314).

    Args:
        logits: (..., C).
        spec: temperature and prior of the subset whose engine gave them.
    """
    scores = logits.astype(np.float64) / spec.temperature + np.log(np.asarray(spec.prior))
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
