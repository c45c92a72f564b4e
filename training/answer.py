"""What a trunk says about a batch, and the cross entropy of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Answer(NamedTuple):
    """Everything a trunk computes for one subset.

    With ``per_position=True`` every leading (B) below is (B, T): each position is a sample of its own.

    Attributes:
        logits: (B, C), free of any prior.
        evidence: modality -> (B, C), centred over the classes; together the logits minus their mean.
        frame_logits: (B, T, C) of a temporal family that gives one label to a window, else None.
        training: what the `extra_losses` of the same trunk reads, name -> tensor.
    """

    logits: Tensor
    evidence: dict[str, Tensor]
    frame_logits: Tensor | None
    training: dict[str, Tensor]


def centred(scores: Tensor) -> Tensor:
    """Returns scores (..., C) minus their mean over the classes."""
    return scores - scores.mean(dim=-1, keepdim=True)


def cross_entropy(logits: Tensor, targets: Tensor, log_prior: Tensor | None = None) -> Tensor:
    """Returns the mean cross entropy over the samples that have a label.

    Args:
        logits: (..., C).
        targets: (...) int64 labels, negative = no label; or (..., C) shares of each class, all zero = none.
        log_prior: (C,) or (..., C), added to the logits (logit adjustment, arXiv 2007.07314), where given.
    """
    if log_prior is not None:
        logits = logits + log_prior
    shares = shares_from_targets(targets, logits.shape[-1], logits.dtype)
    each = -(shares * torch.log_softmax(logits, dim=-1)).sum(dim=-1)
    counted = (shares.sum(dim=-1) > 0).to(logits.dtype)
    return each.sum() / counted.sum().clamp(min=1.0)


def shares_from_targets(targets: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Returns (..., C) shares of each class; integer targets become one-hot, negative ones all zero."""
    if targets.is_floating_point():
        return targets.to(dtype)
    one_hot = torch.nn.functional.one_hot(targets.clamp(min=0), classes).to(dtype)
    return one_hot * (targets >= 0).to(dtype).unsqueeze(-1)
