"""Weights and low-rank pairs out of somebody else's state dict, under our names.

For checkpoints that no tool merges, such as those of MCULoRA's own repository: one file with the base and
the pairs of all subsets under names of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgeemo.errors import CheckpointError
from edgeemo.training.checkpoints.adapters import adapter_files
from edgeemo.training.checkpoints.name_map import (
    AdapterRule,
    NameMap,
    PairRule,
    WeightRule,
    filled,
    matched,
    read_name_map,
)
from edgeemo.training.checkpoints.plain import Pair
from edgeemo.training.checkpoints.weights import load_weights

_LISTED = 12
_TENSORS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"


def convert_weights(
    source: str | Path, names: str | Path, network: nn.Module, out: str | Path, *, key: str | None = None
) -> dict[str, Path]:
    """Loads a state dict into a network and writes its adapters in PEFT's layout.

    The network and the folders then go into `edgeemo.training.save_checkpoint`, which traces, checks and
    saves them like any others::

        adapters = convert_weights("mculora.pt", "names.toml", network, "adapters")
        save_checkpoint(network, "checkpoint", parts, info, windows, adapters=adapters)

    Args:
        source: a ``.pt`` or ``.pth`` file, read with ``weights_only=True`` or not at all, or
            ``.safetensors``.
        names: the name map, TOML or JSON; see `edgeemo.training.checkpoints.name_map`.
        network: the same network in a module of yours; its weights are replaced once all is checked.
        out: folder to write ``<adapter>/adapter_model.safetensors`` and ``adapter_config.json`` into.
        key: the entry of the file that holds the weights, where it holds more.

    Returns:
        ``"common"`` and subsets -> folder.

    Raises:
        CheckpointError: the file would run a program, a tensor has no place here or a weight none there
            (all of them are listed), or a shape, a rank or a number does not fit.
    """
    state = load_weights(source, key=key)
    rules = read_name_map(names)
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"{source}: {name!r} holds numbers that are not finite; the training diverged or the file "
                "is damaged"
            )
    own = dict(network.state_dict())
    used: set[str] = set()
    weights = _weights(rules, state, own, used)
    pairs = {rule.name: _pairs(rules, rule, state, own, used) for rule in rules.adapters}
    _check_whole(rules, state, own, weights, used)
    folders = {name: _write(Path(out) / name, found) for name, found in pairs.items()}
    network.load_state_dict(own | weights)
    return folders


def _weights(
    rules: NameMap, state: Mapping[str, Tensor], own: Mapping[str, Tensor], used: set[str]
) -> dict[str, Tensor]:
    """Returns our name -> their tensor; notes in ``used`` what was taken."""
    weights: dict[str, Tensor] = {}
    for rule in rules.weights:
        hits = [(name, stars) for name in state if (stars := matched(rule.theirs, name)) is not None]
        if not hits:
            raise CheckpointError(
                f"{rules.where}: no tensor of the file is called {rule.theirs!r}; there are: {_some(state)}"
            )
        for name, stars in hits:
            used.add(name)
            for ours, part in _placed(rules, rule, name, stars, state[name]):
                if ours in weights:
                    raise CheckpointError(f"{rules.where}: two tensors of the file become {ours!r}")
                if ours not in own:
                    raise CheckpointError(
                        f"{rules.where}: {name!r} becomes {ours!r}, which the network does not have; it has: "
                        f"{_some(own)}"
                    )
                if part.shape != own[ours].shape:
                    raise CheckpointError(
                        f"{rules.where}: {name!r} becomes {ours!r} with shape {list(part.shape)}; the "
                        f"network has {list(own[ours].shape)}. Does it need transpose = true, or is it "
                        "another network?"
                    )
                weights[ours] = part.to(own[ours].dtype)
    return weights


def _placed(
    rules: NameMap, rule: WeightRule, name: str, stars: tuple[str, ...], tensor: Tensor
) -> Iterable[tuple[str, Tensor]]:
    if len(rule.ours) == 1:
        return [(filled(rule.ours[0], stars), tensor.t() if rule.transpose and tensor.ndim == 2 else tensor)]
    if tensor.ndim == 0 or len(tensor) % len(rule.ours):
        raise CheckpointError(
            f"{rules.where}: {name!r} of shape {list(tensor.shape)} cannot be split into {len(rule.ours)} "
            "equal parts"
        )
    return zip((filled(ours, stars) for ours in rule.ours), tensor.chunk(len(rule.ours)), strict=True)


def _pairs(
    rules: NameMap,
    adapter: AdapterRule,
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    used: set[str],
) -> list[Pair]:
    """Returns the pairs of one adapter; notes in ``used`` what was taken."""
    where = f"{rules.where}: adapter {adapter.name!r}"
    pairs = []
    for rule in adapter.pairs:
        hits = [(name, stars) for name in state if (stars := matched(rule.a, name)) is not None]
        if not hits:
            raise CheckpointError(
                f"{where}: no tensor of the file is called {rule.a!r}; there are: {_some(state)}"
            )
        for name, stars in hits:
            pairs.append(_pair(where, adapter, _names(rule, stars), state, own))
            used |= {name, filled(rule.b, stars)}
    layers = [pair.layer for pair in pairs]
    twice = sorted({layer for layer in layers if layers.count(layer) > 1})
    if twice:
        raise CheckpointError(f"{where}: two pairs for {_some(twice)}")
    return pairs


def _names(rule: PairRule, stars: tuple[str, ...]) -> tuple[str, str, str]:
    return filled(rule.layer, stars), filled(rule.a, stars), filled(rule.b, stars)


def _pair(
    where: str,
    adapter: AdapterRule,
    names: tuple[str, str, str],
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
) -> Pair:
    layer, a_name, b_name = names
    if b_name not in state:
        raise CheckpointError(f"{where}: {a_name!r} is there and its B, {b_name!r}, is not")
    weight = own.get(f"{layer}.weight")
    if weight is None or weight.ndim != 2:
        raise CheckpointError(f"{where}: the network has no linear layer {layer!r}; it has: {_some(own)}")
    a, b = state[a_name].float(), state[b_name].float()
    outputs, inputs = weight.shape
    if a.ndim == 2 and a.shape[1] != inputs:
        a = a.t()
    if b.ndim == 2 and b.shape[0] != outputs:
        b = b.t()
    if a.ndim != 2 or b.ndim != 2 or a.shape != (len(a), inputs) or b.shape != (outputs, len(a)):
        raise CheckpointError(
            f"{where}: {a_name!r} {list(state[a_name].shape)} and {b_name!r} {list(state[b_name].shape)} do "
            f"not fit {layer!r} with {inputs} inputs and {outputs} outputs; expected A (r, {inputs}) and B "
            f"({outputs}, r) of one rank r"
        )
    scale = adapter.scale if adapter.scale is not None else (adapter.alpha or 0.0) / len(a)
    return Pair(layer, a.contiguous(), b.contiguous(), scale)


def _check_whole(
    rules: NameMap,
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    used: set[str],
) -> None:
    """Raises unless every tensor of the file has its place and every one of the network its source."""
    theirs = [name for name in state if name not in used and not _any(rules.ignore, name)]
    ours = [name for name in own if name not in weights and not _any(rules.keep, name)]
    both = [name for name in weights if _any(rules.keep, name)]
    if both:
        raise CheckpointError(
            f"{rules.where}: {_some(both)} is replaced and to be kept; take it off one list"
        )
    if theirs or ours:
        raise CheckpointError(
            f"{rules.where}: names without a match. In the file, {len(theirs)}: {_some(theirs) or 'none'}. "
            f"In the network, {len(ours)}: {_some(ours) or 'none'}. Map them, or list them under 'ignore' "
            "(theirs) or 'keep' (ours)"
        )


def _any(patterns: Iterable[str], name: str) -> bool:
    return any(matched(pattern, name) is not None for pattern in patterns)


def _write(folder: Path, pairs: list[Pair]) -> Path:
    tensors, config = adapter_files(pairs, prefix="")
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: torch.from_numpy(array) for name, array in tensors.items()}, folder / _TENSORS)
    (folder / _TENSORS).chmod(0o644)  # safetensors makes files that only their owner can read
    (folder / _CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return folder


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f", ... ({len(listed) - _LISTED} more)" if len(listed) > _LISTED else ""
    return ", ".join(listed[:_LISTED]) + more
