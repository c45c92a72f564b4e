"""Low-rank adapters of a foreign network, pointed out in one of four ways.

* ``[LowRank("fuse", a="fuse.a.audio", b="fuse.b.audio", scale=2.0, subset="audio"), ...]``: the network's
  own low-rank layers, each pair of parameters pointed out;
* ``{"audio": "voice_adapter", "audio+video": ("shared", "both"), ...}``: names of PEFT's LoRA adapters
  in the network (a ``PeftModel``, or a module that PEFT put layers into), by the subset they work for;
* ``{"audio": Path("adapters/audio"), ...}``: folders in PEFT's layout, for a network without layers of
  PEFT's; ``"common"`` works for all subsets;
* None: no adapters. Low-rank layers that nobody points out stay in the graph as they are: the answers
  are the same, the engines are larger.

What is pointed out is merged by the exporter; the merged network must answer as the original does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from edgeemo.errors import CheckpointError, TrainingError
from edgeemo.training.checkpoints.description import Array
from edgeemo.training.checkpoints.network import PREFIX
from edgeemo.training.checkpoints.plain import (
    LowRank,
    Pair,
    activate_peft,
    add_pairs,
    peft_layers,
    take_out_own,
    take_out_peft,
)
from edgeemo.training.lowrank import COMMON

Adapters = Sequence[LowRank] | Mapping[str, str | Sequence[str] | Path]


@dataclass(frozen=True)
class Adapted:
    """A network and its adapters, apart and together.

    Attributes:
        base: the network without adapters.
        pairs: ``"common"`` and subsets -> what the adapter adds.
        networks: subset -> the network as it was trained, its adapters unmerged where it holds them.
        activate: subset -> what to call before the network answers for it, where anything.
    """

    base: nn.Module
    pairs: Mapping[str, list[Pair]]
    networks: Mapping[str, nn.Module]
    activate: Mapping[str, Callable[[], None]] = field(default_factory=dict)

    def merged(self, subset: str) -> nn.Module:
        """Returns a copy of the base with the pairs of a subset added to its weights."""
        merged = copy.deepcopy(self.base)
        add_pairs(merged, [*self.pairs.get(COMMON, []), *self.pairs.get(subset, [])])
        return merged


def take_out_adapters(network: nn.Module, adapters: Adapters | None, subsets: Sequence[str]) -> Adapted:
    """Returns a network with its adapters taken out; ``network`` itself answers for the subsets.

    Args:
        network: in eval mode; which of its PEFT adapters are active may change.
        adapters: in one of the four ways.
        subsets: those it serves.

    Raises:
        TrainingError: an adapter, layer, parameter or subset that is not there or does not fit.
    """
    layers = peft_layers(network)
    base = copy.deepcopy(network)
    if not isinstance(adapters, Mapping):
        if adapters is None and not layers:
            return Adapted(base, {}, dict.fromkeys(subsets, network))
        if adapters is not None:
            taken = take_out_own(base, adapters)
            for entry, _ in taken:
                if entry.subset is not None and entry.subset not in subsets:
                    raise TrainingError(
                        f"{entry.layer}: no subset {entry.subset!r}; there are: {_list(subsets)}"
                    )
            pairs = {COMMON: [pair for entry, pair in taken if entry.subset is None]}
            pairs |= {key: [pair for entry, pair in taken if entry.subset == key] for key in subsets}
            return Adapted(base, pairs, dict.fromkeys(subsets, network))
        adapters = {key: key for key in subsets}
    if all(isinstance(where, Path) for where in adapters.values()):
        return _from_folders(base, {key: Path(str(where)) for key, where in adapters.items()}, subsets)
    by_name = take_out_peft(base)
    names = {key: _names(adapters.get(key, ()), by_name, key) for key in subsets}
    shared = set.intersection(*(set(group) for group in names.values())) if len(subsets) > 1 else set()
    pairs = {COMMON: [pair for name in by_name if name in shared for pair in by_name[name]]}
    for key in subsets:
        pairs[key] = [pair for name in names[key] if name not in shared for pair in by_name[name]]
    active = {key: partial(activate_peft, layers, names[key]) for key in subsets}
    return Adapted(base, pairs, dict.fromkeys(subsets, network), active)


def _names(asked: object, known: Mapping[str, list[Pair]], subset: str) -> tuple[str, ...]:
    names = (asked,) if isinstance(asked, str) else tuple(asked) if isinstance(asked, Sequence) else ()
    missing = [name for name in names if name not in known]
    if missing or not names:
        raise TrainingError(
            f"no PEFT adapter {', '.join(map(repr, missing)) or 'is named'} for subset {subset}; the network "
            f"has: {_list([*known]) or 'none'}. Give adapters={{subset: name, ...}}"
        )
    return names


def _from_folders(base: nn.Module, folders: Mapping[str, Path], subsets: Sequence[str]) -> Adapted:
    from edgeemo.export.adapters.merge import read_adapter

    unknown = [key for key in folders if key not in (COMMON, *subsets)]
    if unknown or peft_layers(base):
        raise TrainingError(
            f"no subset {unknown[0]!r}; there are: {_list([COMMON, *subsets])}"
            if unknown
            else "the network holds layers of PEFT's already; give the names of its adapters, not folders"
        )
    weights = {name: tensor.numpy() for name, tensor in base.state_dict().items()}
    # transformers' Conv1D, as in GPT-2, holds its weight (in, out).
    turned = {name for name, module in base.named_modules() if type(module).__name__ == "Conv1D"}
    pairs: dict[str, list[Pair]] = {}
    for name, folder in folders.items():
        try:
            adapter = read_adapter(folder, name, None, weights, transposed=turned)
        except CheckpointError as error:
            raise TrainingError(str(error)) from None
        pairs[name] = [
            Pair(layer, torch.tensor(pair.a), torch.tensor(pair.b), pair.scale)
            for layer, pair in adapter.pairs.items()
        ]
    adapted = Adapted(base, pairs, {})
    return replace(adapted, networks={key: adapted.merged(key) for key in subsets})


def adapter_files(
    pairs: Sequence[Pair], prefix: str = f"{PREFIX}.", *, turned: Collection[str] = ()
) -> tuple[dict[str, Array], dict[str, object]]:
    """Returns tensors and configuration of an adapter in PEFT's layout.

    Args:
        pairs: at least one, and at most one for each layer.
        prefix: put before the layers' names.
        turned: names, prefix included, of layers whose weight is stored (in, out): their pairs are for the
            weight as it is stored, and PEFT's are for the layer.
    """
    tensors: dict[str, Array] = {}
    for pair in pairs:
        halves = (pair.b.T, pair.a.T) if f"{prefix}{pair.layer}" in turned else (pair.a, pair.b)
        for side, half in zip("AB", halves, strict=True):
            key = f"base_model.model.{prefix}{pair.layer}.lora_{side}.weight"
            tensors[key] = half.detach().float().contiguous().numpy()
    rank, alpha = len(pairs[0].a), pairs[0].scale * len(pairs[0].a)
    ranks = {f"{prefix}{pair.layer}": len(pair.a) for pair in pairs}
    alphas = {f"{prefix}{pair.layer}": pair.scale * len(pair.a) for pair in pairs}
    return tensors, {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: r for name, r in ranks.items() if r != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
        "bias": "none",
        "fan_in_fan_out": any(layer in turned for layer in ranks),
        "target_modules": list(ranks),
        "inference_mode": True,
    }


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
