"""Takes low-rank layers out of a module and hands back the plain network and the pairs.

A layer that computes ``y = W x + b + s B A x`` (LoRA, arXiv 2106.09685) becomes the Linear ``W x + b``
under the layer's own name, so that the graph and the base weights know nothing of adapters and the
exporter merges the pairs. Whether the layers really are that sum is not believed: the caller compares
the merged network with the original.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from edgeemo.errors import TrainingError


@dataclass(frozen=True)
class LowRank:
    """Points out one pair of a network's own low-rank layers.

    Attributes:
        layer: dotted name of the module that computes ``W x + b + s B A x``: an ``nn.Linear`` with A and B
            beside its weight, or a module that holds exactly one ``nn.Linear`` besides A and B.
        a: dotted name of the parameter A in the network, (r, in) or (in, r).
        b: dotted name of the parameter B in the network, (out, r) or (r, out).
        scale: s, alpha / r.
        subset: the subset that the pair works for; None for all of them.
    """

    layer: str
    a: str
    b: str
    scale: float = 1.0
    subset: str | None = None


@dataclass(frozen=True)
class Pair:
    """What an adapter adds to one Linear: ``scale * b @ a``, with a (r, in) and b (out, r)."""

    layer: str
    a: Tensor
    b: Tensor
    scale: float


class PlainLinear(nn.Linear):
    """The base of a low-rank layer; takes and ignores what else the layer was called with."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias

    def forward(self, x: Tensor, *_: object, **__: object) -> Tensor:
        """Returns W x + b, (..., out)."""
        return F.linear(x, self.weight, self.bias)


def take_out_own(network: nn.Module, named: Sequence[LowRank]) -> list[tuple[LowRank, Pair]]:
    """Makes the named layers of ``network`` plain (changes it) and returns the pairs.

    Raises:
        TrainingError: a name that the network does not have, a layer without exactly one base Linear, or
            a shape that does not fit it.
    """
    parameters = dict(network.named_parameters(remove_duplicate=False))
    modules = dict(network.named_modules())
    for entry in named:
        for name in (entry.a, entry.b):
            if name not in parameters:
                raise TrainingError(f"no parameter {name!r} in the network; {_like(name, parameters)}")
        if entry.layer not in modules:
            raise TrainingError(f"no module {entry.layer!r} in the network; {_like(entry.layer, modules)}")
    halves = {id(parameters[name]) for entry in named for name in (entry.a, entry.b)}
    bases = {entry.layer: _base_of(entry.layer, modules[entry.layer], halves) for entry in named}
    pairs = []
    for entry in named:
        base, a, b = bases[entry.layer], parameters[entry.a].detach(), parameters[entry.b].detach()
        if a.ndim == 2 and a.shape[1] != base.in_features:
            a = a.T
        if b.ndim == 2 and b.shape[0] != base.out_features:
            b = b.T
        if a.shape != (len(a), base.in_features) or b.shape != (base.out_features, len(a)):
            raise TrainingError(
                f"{entry.layer}: A {list(a.shape)} and B {list(b.shape)} do not fit a Linear of "
                f"{base.in_features} inputs and {base.out_features} outputs; expected (r, in) and (out, r)"
            )
        pairs.append((entry, Pair(entry.layer, a.contiguous(), b.contiguous(), entry.scale)))
    for layer, base in bases.items():
        network.set_submodule(layer, PlainLinear(base))
    return pairs


def _base_of(name: str, layer: nn.Module, halves: set[int]) -> nn.Linear:
    if isinstance(layer, nn.Linear):
        return layer
    found = [
        module
        for module in layer.modules()
        if isinstance(module, nn.Linear) and not any(id(p) in halves for p in module.parameters())
    ]
    if len(found) != 1:
        raise TrainingError(
            f"the layer {name!r} holds {len(found)} Linears besides A and B; a low-rank layer has one"
        )
    return found[0]


def _like(name: str, known: Mapping[str, Any]) -> str:
    """Returns the names that end like ``name``, or some of all, for a message."""
    end = name.rpartition(".")[2]
    close = [other for other in known if other.rpartition(".")[2] == end] or [
        other for other in known if other
    ]
    return f"there are: {', '.join(close[:8])}{', ...' if len(close) > 8 else ''}"


def peft_layers(network: nn.Module) -> dict[str, Any]:
    """Returns the LoRA layers that PEFT put into a module, by their names.

    PEFT is not imported here: a module with its layers comes from a program that has imported it.
    """
    lora = sys.modules.get("peft.tuners.lora")
    if lora is None:
        return {}
    return {name: module for name, module in network.named_modules() if isinstance(module, lora.LoraLayer)}


def unwrap_peft(model: nn.Module) -> nn.Module:
    """Returns the user's module inside a ``PeftModel`` or ``LoraModel``, LoRA layers included."""
    while type(model).__module__.startswith("peft."):
        model = model.get_base_model() if hasattr(model, "get_base_model") else model.model
    return model


def activate_peft(layers: Mapping[str, Any], names: Sequence[str]) -> None:
    """Makes the named adapters the active ones of all LoRA layers (changes them)."""
    for layer in layers.values():
        layer.enable_adapters(True)
        layer.set_adapter(list(names))


def take_out_peft(network: nn.Module) -> dict[str, list[Pair]]:
    """Makes PEFT's LoRA layers plain (changes ``network``) and returns adapter name -> pairs.

    Raises:
        TrainingError: a layer of PEFT's that is no LoRA over a Linear, or that is merged already.
    """
    pairs: dict[str, list[Pair]] = {}
    for name, layer in peft_layers(network).items():
        base = layer.base_layer
        if not isinstance(base, nn.Linear):
            raise TrainingError(
                f"{name}: PEFT adapts a {type(base).__name__} here; only adapters of Linears are merged"
            )
        if layer.merged:
            raise TrainingError(f"{name}: an adapter is merged into the base; call unmerge_adapter() first")
        for adapter, scale in layer.scaling.items():
            if adapter in layer.lora_A:
                a, b = layer.lora_A[adapter].weight.detach(), layer.lora_B[adapter].weight.detach()
                pairs.setdefault(adapter, []).append(Pair(name, a, b, float(scale)))
        network.set_submodule(name, PlainLinear(base))
    for name, module in network.named_modules():
        if type(module).__module__.startswith("peft."):
            raise TrainingError(
                f"{name} is a {type(module).__name__} of PEFT's; only LoRA over Linears can be merged"
            )
    return pairs


def add_pairs(network: nn.Module, pairs: Sequence[Pair]) -> None:
    """Merges pairs into the Linears of a plain network (changes it), summed in float64."""
    modules = dict(network.named_modules())
    with torch.no_grad():
        for pair in pairs:
            weight = modules[pair.layer].weight
            weight.copy_(weight.double() + pair.scale * pair.b.double() @ pair.a.double())


def stacked(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """Yields one pair for each layer, scale above 0: several of a layer are one pair of their added ranks."""
    layers: dict[str, list[Pair]] = {}
    for pair in pairs:
        layers.setdefault(pair.layer, []).append(pair)
    for layer, group in layers.items():
        if len(group) == 1 and group[0].scale > 0:
            yield group[0]
        else:
            a, b = torch.cat([p.a for p in group]), torch.cat([p.scale * p.b for p in group], dim=1)
            yield Pair(layer, a, b, 1.0)
