"""Low-rank adaptation of named Linears: one common pair and one pair for each subset of modalities.

A Linear of the trunk computes, while subset k runs,

    y = W x + b + s B_common A_common x + s B_k A_k x

(MCULoRA, arXiv 2507.11202). Both pairs hang on the base independently of each other. Chaining them
(``B_k A_k (B_common A_common x)``) would give the specific pair a gradient of exactly zero for ever,
since every B starts at zero.

The trunk's code and its parameter names stay as they are: the pairs live beside it and are added by
forward hooks for the length of one call.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from edgeemo.errors import TrainingError
from edgeemo.modality import all_subsets, subset_key, subset_members
from edgeemo.training.answer import Answer

COMMON = "common"


class Trunk(Protocol):
    """What an adapted network must offer; `edgeemo.training.trunks.mculora.MCULoRATrunk` is one."""

    widths: dict[str, int]
    lengths: dict[str, int]

    def __call__(
        self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns logits (B, C) and the evidence (B, C) of each modality present."""
        ...

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Yields every module with its dotted name."""
        ...


@dataclass(frozen=True)
class LowRankSpec:
    """Ranks by module name, and the strength of the pairs.

    Attributes:
        ranks: (pattern, rank) pairs; a Linear takes the rank of the first regular expression that is
            found in its dotted name, and stays without pairs where none is.
        scale: s = alpha / r, the same for every pair.
        dropout: probability of dropping an input element of the pairs while training.
    """

    ranks: tuple[tuple[str, int], ...]
    scale: float = 1.0
    dropout: float = 0.1

    def rank_of(self, module: str) -> int | None:
        """Returns the rank for a module name, None where the module is not adapted."""
        return next((rank for pattern, rank in self.ranks if re.search(pattern, module)), None)


@dataclass(frozen=True)
class Parts:
    """What the two pairs of one Linear added to its output, for the orthogonality loss."""

    common: Tensor  # (B, ..., out)
    specific: Tensor  # (B, ..., out)


class LowRankPair(nn.Module):
    """A (r, in), kaiming, and B (out, r), zero: the pair adds nothing before the first step."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(rank, inputs))
        self.b = nn.Parameter(torch.zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.a, a=5**0.5)


class AdaptedTrunk(nn.Module):
    """A trunk with one common low-rank adapter and one for each non-empty subset of its modalities.

    Args:
        trunk: the network; its modalities are the keys of ``trunk.widths``, in canonical order.
        spec: which Linears get pairs, and of which rank.

    Raises:
        TrainingError: no Linear matches ``spec``, or a matching module is not a Linear.
    """

    def __init__(self, trunk: nn.Module, spec: LowRankSpec) -> None:
        super().__init__()
        self.trunk = trunk
        self.spec = spec
        self.order: tuple[str, ...] = tuple(trunk.widths)
        self.subsets: tuple[str, ...] = all_subsets(self.order)
        self.linears: dict[str, nn.Linear] = {}
        for name, module in trunk.named_modules():
            if isinstance(module, nn.Linear) and spec.rank_of(name) is not None:
                self.linears[name] = module
        if not self.linears:
            patterns = ", ".join(pattern for pattern, _ in spec.ranks)
            raise TrainingError(f"no Linear of the trunk matches any of the patterns {patterns}")
        self.modules_of: dict[str, tuple[str, ...]] = {
            subset: self._linears_used(subset) for subset in self.subsets
        }
        self.pairs = nn.ModuleDict({COMMON: self._new_pairs(tuple(self.linears))})
        for subset in self.subsets:
            self.pairs[subset] = self._new_pairs(self.modules_of[subset])

    def _linears_used(self, subset: str) -> tuple[str, ...]:
        """Returns the adapted Linears that the sub-network of a subset runs, found by running it."""
        used: set[str] = set()
        handles = [
            linear.register_forward_hook(lambda *_, name=name: used.add(name))
            for name, linear in self.linears.items()
        ]
        members = subset_members(subset)
        with torch.no_grad():
            self.trunk(
                {m: torch.zeros(1, self.trunk.lengths[m], self.trunk.widths[m]) for m in members},
                {m: torch.ones(1, self.trunk.lengths[m]) for m in members},
            )
        for handle in handles:
            handle.remove()
        return tuple(name for name in self.linears if name in used)

    def _new_pairs(self, names: Sequence[str]) -> nn.ModuleDict:
        pairs = nn.ModuleDict()
        for name in names:
            linear, rank = self.linears[name], self.spec.rank_of(name)
            if rank is not None:
                pairs[_key(name)] = LowRankPair(linear.in_features, linear.out_features, rank)
        return pairs

    def forward(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        record: dict[str, Parts] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns what the trunk returns for the subset that ``features`` holds, adapters active.

        Args:
            features: modality -> (B, T_m, D_m), for the present modalities alone.
            masks: modality -> (B, T_m), 1 = valid.
            record: filled with the parts of every adapted Linear, where given.
        """
        subset = subset_key(features, self.order)
        with self._attached(subset, record):
            logits, evidence = self.trunk(features, masks)
        return logits, evidence

    def answer(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        record: dict[str, Parts] | None = None,
        **context: Tensor,
    ) -> Answer:
        """Returns all that a trunk of `edgeemo.training.trunks` says, adapters active.

        Args:
            features: as in `forward`.
            masks: as in `forward`.
            record: as in `forward`.
            **context: what the family's ``answer`` takes besides, such as ``speakers``.
        """
        subset = subset_key(features, self.order)
        with self._attached(subset, record):
            answer: Answer = self.trunk.answer(features, masks, **context)
        return answer

    @contextmanager
    def _attached(self, subset: str, record: dict[str, Parts] | None) -> Iterator[None]:
        """Adds the pairs of ``subset`` to the trunk's Linears inside the ``with`` block."""
        handles = [
            self.linears[name].register_forward_hook(self._hook(name, subset, record))
            for name in self.modules_of[subset]
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, name: str, subset: str, record: dict[str, Parts] | None) -> object:
        common = self.pairs[COMMON][_key(name)]
        specific = self.pairs[subset][_key(name)]
        scale, rank = self.spec.scale, common.a.shape[0]

        def add_pairs(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            x = F.dropout(inputs[0], self.spec.dropout, self.training)
            low = F.linear(x, torch.cat((common.a, specific.a)))  # (B, ..., 2 r)
            if record is None:
                return output + scale * F.linear(low, torch.cat((common.b, specific.b), dim=1))
            parts = Parts(
                scale * F.linear(low[..., :rank], common.b), scale * F.linear(low[..., rank:], specific.b)
            )
            record[name] = parts
            return output + parts.common + parts.specific

        return add_pairs

    def named_pairs(self, adapter: str) -> Iterator[tuple[str, LowRankPair]]:
        """Yields (module name in the trunk, pair) of ``"common"`` or of a subset, in the trunk's order."""
        for key, pair in self.pairs[adapter].items():
            yield key.replace("/", "."), pair

    def merged_weight(self, name: str, subset: str) -> Tensor:
        """Returns W + s B_common A_common + s B_k A_k of one adapted Linear, (out, in) in float64."""
        weight = self.linears[name].weight.detach().double()
        for adapter in (COMMON, subset):
            pair = self.pairs[adapter][_key(name)]
            weight = weight + self.spec.scale * pair.b.detach().double() @ pair.a.detach().double()
        return weight


def _key(name: str) -> str:
    """Returns a module name as a ModuleDict key, which may not hold dots."""
    return name.replace(".", "/")


def draw_subsets(count: int, probabilities: Mapping[str, float], generator: torch.Generator) -> list[str]:
    """Returns one subset for each of ``count`` samples, drawn from ``probabilities`` (they sum to 1)."""
    names = list(probabilities)
    weights = torch.tensor([probabilities[name] for name in names], dtype=torch.float64)
    drawn = torch.multinomial(weights, count, replacement=True, generator=generator)
    return [names[index] for index in drawn.tolist()]


def rows_by_subset(subsets: Sequence[str]) -> dict[str, list[int]]:
    """Returns the rows of a batch grouped by their subset, so that each group runs its own sub-network."""
    groups: dict[str, list[int]] = {}
    for row, subset in enumerate(subsets):
        groups.setdefault(subset, []).append(row)
    return groups


def peft_state(model: AdaptedTrunk, adapter: str, prefix: str) -> dict[str, Tensor]:
    """Returns an adapter's pairs under PEFT's names.

    Args:
        model: the adapted trunk.
        adapter: ``"common"`` or a subset.
        prefix: name of the trunk in the saved model, such as ``"trunk"``.

    Returns:
        ``base_model.model.<prefix>.<module>.lora_A.weight`` (r, in) and ``.lora_B.weight`` (out, r),
        float32, contiguous.
    """
    state: dict[str, Tensor] = {}
    for name, pair in model.named_pairs(adapter):
        stem = f"base_model.model.{prefix}.{name}"
        state[f"{stem}.lora_A.weight"] = pair.a.detach().float().contiguous()
        state[f"{stem}.lora_B.weight"] = pair.b.detach().float().contiguous()
    return state


def peft_config(model: AdaptedTrunk, adapter: str, prefix: str, base_sha256: str) -> dict[str, object]:
    """Returns the ``adapter_config.json`` that belongs to `peft_state`, in PEFT's words."""
    ranks = {f"{prefix}.{name}": int(pair.a.shape[0]) for name, pair in model.named_pairs(adapter)}
    default = max(ranks.values())
    others = {name: rank for name, rank in ranks.items() if rank != default}
    scale = model.spec.scale
    return {
        "peft_type": "LORA",
        "r": default,
        "lora_alpha": scale * default,
        "rank_pattern": others,
        "alpha_pattern": {name: scale * rank for name, rank in others.items()},
        "lora_dropout": model.spec.dropout,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": list(ranks),
        "inference_mode": True,
        "base_sha256": base_sha256,
    }
