"""Dynamic training ratios: how often each subset of modalities is drawn (DPFT of arXiv 2507.11202).

The published code keeps a presence probability; the clean form here is ours, the idea is the same. q is a
distribution over the non-empty subsets. After every epoch, on data that is not trained on,

    d_k = | JSD_k(T) - JSD_k(T - 1) |
    q_k ~ q_base,k (1 + c s_k),   s from +1 (smallest d) down to -1 (largest d),   q_k >= floor

where JSD_k is the Jensen-Shannon divergence between the softmaxed common and specific representations,
averaged over the modalities of k. The subset whose separation moved least is trained more.

Measure on *validation* data that selects epochs, never on the data that a result is reported on: the
released code did the latter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeemo.errors import TrainingError
from edgeemo.training.lowrank import Parts
from edgeemo.training.trunks.separation import pooled_parts

STRENGTH = 0.2  # c
FLOOR = 0.05


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """Returns KL(p || q) = sum p log(p / q) in nats, (...), of distributions (..., d), all positive.

    p is the distribution that the mean is taken over. (`torch.nn.functional.kl_div` takes log q first
    and p second, which the released code had the wrong way round.)
    """
    return (p * (p.log() - q.log())).sum(dim=-1)


def js_divergence(first: Tensor, second: Tensor) -> Tensor:
    """Returns the Jensen-Shannon divergence of softmax(first) and softmax(second), (...), in [0, log 2].

    Args:
        first: representations (..., d), before the softmax.
        second: (..., d).
    """
    p, q = (torch.softmax(x.double(), dim=-1).clamp(min=1e-300) for x in (first, second))
    middle = (p + q) / 2
    return (kl_divergence(p, middle) + kl_divergence(q, middle)) / 2


def separation_jsd(parts: Mapping[str, Parts], masks: Mapping[str, Tensor]) -> Tensor:
    """Returns JSD_k of each sample, (B,), averaged over the modalities of a subset and their blocks.

    Args:
        parts: recorded by `AdaptedTrunk.answer` on one subset, model in eval mode.
        masks: modality -> (B, T_m) of the same call.

    Raises:
        TrainingError: nothing was recorded that ends a block of a modality.
    """
    each = [
        torch.stack([js_divergence(common, specific) for common, specific in pairs]).mean(dim=0)
        for pairs in pooled_parts(parts, masks).values()
    ]
    if not each:
        raise TrainingError("no block's adapters were recorded; pass record={} to the adapted trunk")
    return torch.stack(each).mean(dim=0)


def ranked_signs(moves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns s, (K,): +1 for the smallest move, -1 for the largest, evenly between; equal moves share.

    The s add up to zero.
    """
    count = len(moves)
    if count == 1:
        return np.zeros(1)
    below = (moves[None, :] < moves[:, None]).sum(axis=1)
    equal = (moves[None, :] == moves[:, None]).sum(axis=1)
    rank = below + (equal - 1) / 2  # 0 for the smallest
    signs: NDArray[np.float64] = 1 - 2 * rank / (count - 1)
    return signs


def lift_to_floor(shares: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    """Returns the distribution with nothing below ``floor`` and the rest in proportion, (K,), sum 1.

    Args:
        shares: (K,), not negative, not all zero.
        floor: at most 1 / K.
    """
    lifted = np.zeros(len(shares), dtype=bool)
    result = shares / shares.sum()
    for _ in range(len(shares)):
        low = (result < floor) & ~lifted
        if not low.any():
            break
        lifted |= low
        free = np.where(lifted, 0.0, shares)
        result = np.where(lifted, floor, free * ((1 - floor * lifted.sum()) / max(free.sum(), 1e-300)))
    lifted_shares: NDArray[np.float64] = result / result.sum()
    return lifted_shares


class TrainingRatios:
    """The probability of drawing each subset, adapted once an epoch; never that of the empty subset.

    Args:
        base: subset -> positive weight; q_base after they are made to sum to 1.
        strength: c, in [0, 1).
        floor: the least probability of a subset, at most 1 / the number of subsets.

    Raises:
        TrainingError: no subset or an empty one, a weight that is not positive, or a strength or floor out
            of its range.
    """

    def __init__(
        self, base: Mapping[str, float], *, strength: float = STRENGTH, floor: float = FLOOR
    ) -> None:
        if not base or any(not name for name in base):
            raise TrainingError(f"the subsets to draw from are {list(base)}; each needs a modality")
        wrong = [name for name, weight in base.items() if not (math.isfinite(weight) and weight > 0)]
        if wrong:
            raise TrainingError(f"weights of subsets must be positive; not so: {', '.join(wrong)}")
        if not 0 <= strength < 1:
            raise TrainingError(f"strength is {strength}; expected 0 <= strength < 1")
        if not 0 <= floor <= 1 / len(base):
            raise TrainingError(f"floor is {floor}; {len(base)} subsets leave room for {1 / len(base):.4f}")
        self.subsets = tuple(base)
        self.strength, self.floor = strength, floor
        weights = np.array([base[name] for name in self.subsets], dtype=np.float64)
        self._base = weights / weights.sum()
        self._shares = lift_to_floor(self._base, floor)
        self._before: NDArray[np.float64] | None = None

    @property
    def probabilities(self) -> dict[str, float]:
        """Returns subset -> q_k, at least the floor each, 1 together."""
        return dict(zip(self.subsets, self._shares.tolist(), strict=True))

    def update(self, divergences: Mapping[str, float]) -> dict[str, float]:
        """Takes in JSD_k after an epoch and returns the new probabilities.

        The first call has nothing to compare with and leaves the probabilities as they are.

        Args:
            divergences: subset -> mean of `separation_jsd` over validation data.

        Raises:
            TrainingError: other subsets than those drawn from, or a divergence that is not finite.
        """
        if set(divergences) != set(self.subsets):
            raise TrainingError(
                f"divergences came for {', '.join(divergences)}; expected {', '.join(self.subsets)}"
            )
        now = np.array([divergences[name] for name in self.subsets], dtype=np.float64)
        if not np.isfinite(now).all():
            raise TrainingError("a divergence is not finite: the training diverged")
        if self._before is not None:
            signs = ranked_signs(np.abs(now - self._before))
            self._shares = lift_to_floor(self._base * (1 + self.strength * signs), self.floor)
        self._before = now
        return self.probabilities

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run needs, plain numbers alone."""
        return {
            "subsets": list(self.subsets),
            "shares": self._shares.tolist(),
            "before": None if self._before is None else self._before.tolist(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from a `state_dict`.

        Raises:
            TrainingError: the state belongs to other subsets.
        """
        if tuple(state["subsets"]) != self.subsets:
            raise TrainingError(
                f"the state is of {', '.join(state['subsets'])}; expected {', '.join(self.subsets)}"
            )
        self._shares = np.array(state["shares"], dtype=np.float64)
        self._before = None if state["before"] is None else np.array(state["before"], dtype=np.float64)
