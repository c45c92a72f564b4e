"""Late fusion: single-modality networks, each calibrated, multiplied as experts.

``p(y | x_1..x_n)`` is proportional to ``p(y)^(1-n) prod_m p(y | x_m)`` where the modalities are independent
given the label. The networks are trained on nearly balanced labels, so the prior is taken as uniform and
drops out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_TEMPERATURES = np.exp(np.linspace(np.log(0.25), np.log(16.0), 121))


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns log probabilities (..., C)."""
    shifted = np.asarray(logits, np.float64)
    shifted = shifted - shifted.max(axis=-1, keepdims=True)
    out: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return out


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Returns the temperature in 0.25..16 with the least negative log likelihood of ``labels``.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2.

    Args:
        logits: (N, C).
        labels: (N,).
    """
    rows = np.arange(len(labels))
    losses = [-log_softmax(logits / value)[rows, labels].mean() for value in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def product_of_experts(experts: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Returns the log probabilities (N, C) of the product of calibrated experts, logits (N, C) each."""
    return log_softmax(np.sum([log_softmax(logits) for logits in experts], axis=0))
