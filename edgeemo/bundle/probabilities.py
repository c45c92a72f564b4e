"""From an engine's logits to probabilities: the same rule for session, evaluation, gate and training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
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
    scores = logits.astype(np.float64) / spec.temperature + _log_prior(tuple(spec.prior))
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    powers = np.exp(scores, out=scores)
    powers /= np.add.reduce(powers, axis=-1, keepdims=True)
    return np.asarray(powers)


def probabilities_from_row(logits: Sequence[float], spec: SubsetSpec) -> list[float]:
    """Returns the same for the C logits of one hop, in plain floats.

    For so few numbers numpy's calls cost five times as much as the sums.

    Args:
        logits: C of them.
        spec: temperature and prior of the subset whose engine gave them.
    """
    prior = _log_prior_row(spec.prior)
    scores = [logit / spec.temperature + log for logit, log in zip(logits, prior, strict=True)]
    most = max(scores)
    powers = [math.exp(score - most) for score in scores]
    total = sum(powers)
    return [power / total for power in powers]


@lru_cache(maxsize=256)
def _log_prior(prior: tuple[float, ...]) -> NDArray[np.float64]:
    """Returns the logarithms, computed once: every hop needs those of its subset."""
    logs = np.log(np.asarray(prior, np.float64))
    logs.setflags(write=False)
    return logs


@lru_cache(maxsize=256)
def _log_prior_row(prior: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(_log_prior(prior).tolist())
