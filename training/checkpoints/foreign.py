"""Networks that are none of ours, as `edgeemo.training.save_checkpoint` takes them.

Any torch module will do that is called with the features and masks of one subset and answers with
logits; whatever it does with them inside, it must run nothing for a modality that is absent. Its
low-rank adapters, if it has any, are pointed out in one of the ways of
`edgeemo.training.checkpoints.adapters`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from edgeemo.errors import SubsetError, TrainingError
from edgeemo.export.adapters.products import transposed_modules
from edgeemo.modality import all_subsets, parse_subset, subset_members
from edgeemo.training.answer import centred
from edgeemo.training.checkpoints.adapters import Adapted, Adapters, adapter_files, take_out_adapters
from edgeemo.training.checkpoints.description import Array, ModalityPart, Windows
from edgeemo.training.checkpoints.left_out import check_left_out
from edgeemo.training.checkpoints.network import PREFIX, Network, answers, used_weights
from edgeemo.training.checkpoints.plain import Pair, stacked, unwrap_peft
from edgeemo.training.checkpoints.trace import SubsetGraph, graph_from_module, weights_from_module
from edgeemo.training.lowrank import COMMON

if TYPE_CHECKING:
    import onnx

# What the exporter's gate allows an fp32 engine, of the largest logit.
MAX_DEVIATION = 1e-4


class ForeignModel(nn.Module):
    """A user's network whose answers are checked and brought into one form.

    Args:
        network: the user's module.
        subset: the subset it is asked for.
        classes: number of labels C.
        activate: called before each answer, where given.
    """

    def __init__(
        self, network: nn.Module, subset: str, classes: int, activate: Callable[[], None] | None = None
    ) -> None:
        super().__init__()
        self.network, self.subset, self.classes, self.activate = network, subset, classes, activate

    def forward(
        self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns logits (B, C) and evidence (B, C) of each modality, centred; {} where there is none."""
        if self.activate is not None:
            self.activate()
        return _checked(self.network(dict(features), dict(masks)), self.subset, self.classes)


class ForeignGraph(SubsetGraph):
    """The sub-network of one subset as a function of positional tensors; its weights are ``trunk.*``."""

    def __init__(self, network: nn.Module, subset: str, classes: int) -> None:
        super().__init__(network, subset_members(subset))
        self.subset, self.classes = subset, classes

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Returns logits, then the evidence of each member where the network gives it."""
        features = dict(zip(self.members, inputs[0::2], strict=True))
        masks = dict(zip(self.members, inputs[1::2], strict=True))
        logits, evidence = _checked(self.trunk(features, masks), self.subset, self.classes)
        return (logits, *evidence.values())


def _checked(answer: object, subset: str, classes: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns a network's answer as logits and centred evidence; {} where it gives none."""
    logits, evidence = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, {})
    members = subset_members(subset)
    if not isinstance(evidence, Mapping) or set(evidence) not in ({*members}, set()):
        raise TrainingError(
            f"{subset}: the evidence must be a dict with one tensor for each of {', '.join(members)}"
        )
    for what in (logits, *evidence.values()):
        if not isinstance(what, Tensor) or what.ndim != 2 or what.shape[1] != classes:
            found = list(what.shape) if isinstance(what, Tensor) else type(what).__name__
            raise TrainingError(
                f"{subset}: the network returns {found}; expected logits (B, {classes}), or "
                f"(logits, {{modality: evidence (B, {classes})}})"
            )
    return logits, {m: centred(evidence[m]) for m in members if m in evidence}


class OneForEach(nn.Module):
    """Networks that were trained one by one, called as one."""

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)

    def forward(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> object:
        """Returns what the network of the subset in ``features`` returns."""
        return self.networks["+".join(features)](features, masks)


def network_from_module(
    model: nn.Module | Mapping[str, nn.Module],
    parts: Sequence[ModalityPart],
    classes: int,
    windows: Windows,
    *,
    adapters: Adapters | None = None,
    subsets: Sequence[str] | None = None,
) -> Network:
    """Returns any module as what a checkpoint is written from; see `edgeemo.training.save_checkpoint`.

    Args:
        model: the user's module, or subset -> module.
        parts: its modalities, in canonical order.
        classes: number of labels C.
        windows: feature windows that it is tried on.
        adapters: in one of the ways above.
        subsets: those it serves; all if None.

    Raises:
        TrainingError: the network fails or answers in another shape, does not leave out an absent
            modality, cannot be traced, or answers otherwise once its adapters are merged.
    """
    order = tuple(part.name for part in parts)
    if isinstance(model, Mapping):
        if subsets is not None:
            raise TrainingError("the networks bring their subsets; give none besides")
        by_subset = {_known(subset, order): network for subset, network in model.items()}
        subsets = tuple(subset for subset in all_subsets(order) if subset in by_subset)
        model = OneForEach({subset: by_subset[subset] for subset in subsets})
    wanted = set(subsets) if subsets is not None else set(all_subsets(order))
    wanted = {_known(subset, order) for subset in wanted}
    keys = tuple(subset for subset in all_subsets(order) if subset in wanted)
    unused = [m for m in order if not any(m in subset_members(key) for key in keys)]
    if unused or not keys:
        raise TrainingError(f"no subset uses {', '.join(unused) or 'anything'}; leave such a part out")
    _check_windows(parts, windows)
    network = copy.deepcopy(unwrap_peft(model)).float().cpu().eval()
    adapted = take_out_adapters(network, adapters, keys)
    models = {
        key: ForeignModel(adapted.networks[key], key, classes, adapted.activate.get(key)) for key in keys
    }
    found = {key: _tried(models[key], windows) for key in keys}
    graphs = {key: _graph(ForeignGraph(adapted.base, key, classes), parts) for key in keys}
    weights = used_weights(weights_from_module(adapted.base, PREFIX), graphs)
    check_left_out(graphs, weights, windows)
    if adapted.pairs:
        _check_merged(adapted, found, windows, classes)
    files = {}
    turned = transposed_modules(graphs.values())
    for name, pairs in adapted.pairs.items():
        if used := _used_pairs(pairs, graphs if name == COMMON else {name: graphs[name]}):
            files[name] = adapter_files(used, turned=turned)
    return Network(models=models, weights=weights, graphs=graphs, adapters=files)


def _used_pairs(pairs: Sequence[Pair], graphs: Mapping[str, onnx.ModelProto]) -> list[Pair]:
    """Returns one pair for each layer that some graph runs; PEFT adapts the other layers as well."""
    run = {tensor.name for graph in graphs.values() for tensor in graph.graph.initializer}
    return [pair for pair in stacked(pairs) if f"{PREFIX}.{pair.layer}.weight" in run]


def _known(subset: str, order: Sequence[str]) -> str:
    try:
        return parse_subset(subset, order)
    except SubsetError as error:
        raise TrainingError(str(error)) from None


def _check_windows(parts: Sequence[ModalityPart], windows: Windows) -> None:
    for part in parts:
        m, expected = part.name, (len(windows), part.length)
        found = windows.masks[m].shape if m in windows.masks else None
        features = windows.features[m].shape if m in windows.features else None
        if found != expected or features != (*expected, part.width):
            raise TrainingError(
                f"{m}: the reference windows have features {features} and mask {found}; expected "
                f"{(*expected, part.width)} and {expected}"
            )


def _tried(model: ForeignModel, windows: Windows) -> Array:
    """Returns the logits (N, C) of the windows, once the network has shown that it can answer."""
    try:
        logits, evidence = answers(model, windows, model.subset)
    except TrainingError:
        raise
    except Exception as error:  # a user's module may raise anything
        raise TrainingError(
            f"the network fails when it is called with the features and masks of {model.subset} alone "
            f"({type(error).__name__}: {error}). It is called as model(features, masks) with two dicts that "
            "hold the modalities of the subset and no other; it must run without the rest"
        ) from error
    if not np.isfinite(logits).all():
        raise TrainingError(f"the network's logits for {model.subset} are not finite")
    if evidence:
        total = logits - logits.mean(axis=1, keepdims=True)
        off = float(np.abs(sum(evidence.values()) - total).max())
        if off > MAX_DEVIATION * float(np.abs(logits).max()):
            raise TrainingError(
                f"the evidence of {model.subset} does not add up to its logits (off by {off:.2g}); return "
                "logits alone if they are not a sum of one part for each modality"
            )
    return logits


def _graph(graph: ForeignGraph, parts: Sequence[ModalityPart]) -> onnx.ModelProto:
    chosen = [part for part in parts if part.name in graph.members]
    inputs = [
        tensor
        for part in chosen
        for tensor in (torch.zeros(2, part.length, part.width), torch.ones(2, part.length))
    ]
    names = [f"{kind}.{m}" for m in graph.members for kind in ("features", "mask")]
    try:
        with torch.no_grad():
            outputs = len(graph(*inputs))
        evidence = [f"evidence.{m}" for m in graph.members] if outputs > 1 else []
        return graph_from_module(graph, inputs, names, ["logits", *evidence])
    except TrainingError as error:
        raise TrainingError(f"{graph.subset}: {error}") from error
    except Exception as error:  # the tracer, and a user's module, may raise anything
        raise TrainingError(
            f"the network of {graph.subset} cannot be traced, without its adapters and with a batch of any "
            f"size: {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else error!r}"
        ) from error


def _check_merged(adapted: Adapted, found: Mapping[str, Array], windows: Windows, classes: int) -> None:
    for key, logits in found.items():
        again, _ = answers(ForeignModel(adapted.merged(key), key, classes), windows, key)
        off = float(np.abs(again - logits).max()) / max(float(np.abs(logits).max()), 1e-12)
        if off > MAX_DEVIATION:
            raise TrainingError(
                f"with its adapters merged, the network of {key} answers otherwise (by {off:.1e} of the "
                f"largest logit; at most {MAX_DEVIATION:.0e}): its low-rank layers are not W x + b + s B A x "
                "with these A, B and s, or work for other subsets. Where they are something else, do not "
                "point them out"
            )
