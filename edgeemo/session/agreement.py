"""Whether the modalities say the same: what each says on its own, and how much they contradict each other.

Measured on voices, faces and sentences of matched and of mismatched labels (``benchmarks/agreement``): the
evidence that a multimodal engine gives anyway tells the two apart as well as the single-modality engines
do, within 0.013 of area under the ROC curve, without running two or three more engines a hop.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

CLEAR_CONTRADICTION = 0.75
"""From here on modalities are shown as contradicting each other. In the measurement 4 to 7 % of the pairs
and triples under one label lie above it."""


def shares_from_evidence(evidence: NDArray[np.floating], *, temperature: float) -> Float64:
    """Returns what each modality says on its own: softmax(evidence / temperature), without any prior.

    Args:
        evidence: (M, C) share of each modality in the logits of an engine.
        temperature: of the engine's subset.
    """
    scores = evidence.astype(np.float64) / temperature
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def contradiction_of(shares: Float64) -> float | None:
    """Returns the probability that the modalities express different emotions; None for fewer than two.

    With S = sum over labels of the product of the modalities' shares and C labels, all equally likely,
    the odds of one common label against independent ones are ``C^(M-1) S`` to 1; both taken as equally
    likely beforehand, independence has the probability ``1 / (1 + C^(M-1) S)``. So 0.5 means that nothing
    can be told (a modality without an opinion), towards 0 they agree, at 1 they exclude each other.

    Args:
        shares: (M, C), rows summing to 1.
    """
    count, labels = shares.shape
    if count < 2:
        return None
    odds = float(labels ** (count - 1) * shares.prod(axis=0).sum())
    return 1 / (1 + odds)
