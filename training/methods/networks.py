"""Which networks a method consists of, and how each of them sees a subset of the modalities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgeemo.errors import TrainingError
from edgeemo.modality import all_subsets, subset_members
from edgeemo.training.answer import Answer
from edgeemo.training.config import MethodConfig
from edgeemo.training.lowrank import AdaptedTrunk, Parts
from edgeemo.training.trunks import build_trunk, low_rank_spec, trunk_options


@dataclass(frozen=True)
class Network:
    """One network to train for a method.

    Attributes:
        name: of its folder, unique within a comparison.
        modalities: those that it has branches for, in canonical order.
        subsets: those that it answers for, each drawn equally often in training.
        adapted: whether the trunk carries low-rank adapters.
        zeros: whether a missing modality is fed as zeros instead of being absent.
    """

    name: str
    modalities: tuple[str, ...]
    subsets: tuple[str, ...]
    adapted: bool = False
    zeros: bool = False


def networks_of(config: MethodConfig, modalities: tuple[str, ...]) -> tuple[Network, ...]:
    """Returns the networks that a method trains.

    Late fusion has the single-modality networks of ``separate`` under their own names, so a folder that
    holds those need not train them again.
    """
    subsets = all_subsets(modalities)
    method = config.method
    if method == "separate":
        return tuple(Network(f"separate.{subset}", subset_members(subset), (subset,)) for subset in subsets)
    if method == "late_fusion":
        return tuple(Network(f"separate.{m}", (m,), (m,)) for m in modalities)
    return (Network(method, modalities, subsets, adapted=config.adapted, zeros=method == "zeros"),)


def new_network(
    network: Network,
    config: MethodConfig,
    *,
    widths: Mapping[str, int],
    length: int,
    classes: int,
    seed: int,
) -> nn.Module:
    """Returns the fresh model of a network: a trunk that labels each position, with adapters or without.

    Args:
        network: which one.
        config: its family and options.
        widths: modality -> feature width of the data.
        length: utterances of the longest video.
        classes: number of labels.
        seed: of the weights.

    Raises:
        TrainingError: the family does not take one of the options; the message lists them.
    """
    known = sorted(set(trunk_options(config.family)) - {"per_position", "prompts"})
    unknown = sorted(set(config.trunk) - set(known))
    if unknown:
        raise TrainingError(
            f"unknown option {', '.join(map(repr, unknown))} at [trunk] of a {config.family} trunk; "
            f"it has: {', '.join(known)}"
        )
    torch.manual_seed(seed)
    trunk = build_trunk(
        config.family,
        {m: widths[m] for m in network.modalities},
        dict.fromkeys(network.modalities, length),
        classes,
        per_position=True,
        **config.trunk,
    )
    return AdaptedTrunk(trunk, low_rank_spec(config.family)) if network.adapted else trunk


def answer_subset(
    model: nn.Module,
    network: Network,
    subset: str,
    features: Mapping[str, Tensor],
    mask: Tensor,
    *,
    record: dict[str, Parts] | None = None,
) -> Answer:
    """Returns what a network says when only the modalities of ``subset`` are there.

    Args:
        model: from `new_network`.
        network: tells whether the others are absent or zeros.
        subset: one of ``network.subsets``.
        features: modality -> (B, T, D_m); those outside the subset are not looked at.
        mask: (B, T), 1 where there is an utterance.
        record: filled with what the adapters add, where the network has adapters.
    """
    members = subset_members(subset)
    if network.zeros:
        shown = {
            m: features[m] if m in members else torch.zeros_like(features[m]) for m in network.modalities
        }
    else:
        shown = {m: features[m] for m in members}
    masks = dict.fromkeys(shown, mask)
    if network.adapted:
        adapted: Answer = model.answer(shown, masks, record)
        return adapted
    answer: Answer = model.answer(shown, masks)
    return answer


def trunk_of(model: nn.Module) -> nn.Module:
    """Returns the trunk of a network, inside its adapters or not."""
    return model.trunk if isinstance(model, AdaptedTrunk) else model
