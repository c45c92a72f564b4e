"""Finds sub-networks that still run what belongs to a modality that is absent.

A network that puts zeros, a mean or a learned token in the place of an absent modality gives the right
shape and pays for nothing: the engine would run the absent branch, and the fusion would be fed what no
sensor said. Such a network is refused. It shows in its graphs, at every place where a weight meets data:

* the larger subset says which data there depends on the absent modality alone;
* the smaller subset still computes at that place, on data that no sensor changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from edgeemo.errors import TrainingError
from edgeemo.export.graph import bind_weights
from edgeemo.modality import subset_members
from edgeemo.runtimes.ort import OrtRunner
from edgeemo.training.checkpoints.description import Array, Windows

_ROWS = 8
# What a weight may go through before it meets data.
_VIEWS = ("Transpose", "Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class _Meeting:
    """The data that a weight meets at one place, and which elements of it change with each modality."""

    data: Array
    changes: Mapping[str, Array]

    def owned_by(self, modality: str) -> Array:
        """Returns which elements change with ``modality`` and with no other."""
        owned = self.changes[modality].copy()
        for other, flags in self.changes.items():
            if other != modality:
                owned &= ~flags
        return owned


def check_left_out(
    graphs: Mapping[str, onnx.ModelProto], weights: Mapping[str, Array], windows: Windows
) -> None:
    """Raises unless every subset's graph leaves its absent modalities out.

    Args:
        graphs: subset -> graph without weights.
        weights: by the names of the graphs' initializers.
        windows: at least 16 feature windows.

    Raises:
        TrainingError: names the subset, the modality that it does not leave out and the weight at fault.
    """
    meetings = {subset: _meetings(graph, subset, weights, windows) for subset, graph in graphs.items()}
    order = {m: None for subset in graphs for m in subset_members(subset)}
    for subset, found in meetings.items():
        present = subset_members(subset)
        for absent in (m for m in order if m not in present):
            larger = max(
                (other for other in graphs if absent in subset_members(other)),
                key=lambda other: (set(present) <= set(subset_members(other)), len(subset_members(other))),
            )
            for weight, places in found.items():
                if _runs_absent(places, meetings[larger].get(weight, []), absent):
                    raise TrainingError(
                        f"the sub-network {subset} does not leave {absent} out: {weight} still works there, "
                        f"on numbers that no input changes, where {larger} feeds it {absent}. Skip what "
                        "belongs to an absent modality instead of feeding zeros or a stand-in for it"
                    )


def _runs_absent(places: list[_Meeting], larger: list[_Meeting], absent: str) -> bool:
    still = [not np.logical_or.reduce(list(place.changes.values())).any() for place in places]
    if larger and all(place.owned_by(absent).any() for place in larger) and any(still):
        return True
    for place, reference in zip(places, larger, strict=False):
        owned = reference.owned_by(absent)
        if place.data.shape == owned.shape and owned.any():
            changed = np.logical_or.reduce(list(place.changes.values()))
            if not changed[owned].any():
                return True
    return False


def _meetings(
    graph: onnx.ModelProto, subset: str, weights: Mapping[str, Array], windows: Windows
) -> dict[str, list[_Meeting]]:
    """Returns weight -> the data that it meets, place by place in the order of the graph."""
    model = bind_weights(graph, weights)
    names = {tensor.name for tensor in graph.graph.initializer if tensor.data_location == tensor.EXTERNAL}
    constants = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.graph.initializer
        if tensor.name not in names
    }
    places: list[tuple[str, str]] = []
    weight_of = {name: name for name in names}
    for node in model.graph.node:
        own = [weight_of[name] for name in node.input if name in weight_of]
        others = [name for name in node.input if name and name not in weight_of]
        if own and node.op_type in _VIEWS and node.input[0] in weight_of:
            weight_of[node.output[0]] = own[0]
        else:
            places += [(weight, name) for weight in own for name in others]
    inputs, outputs = ({value.name for value in group} for group in (model.graph.input, model.graph.output))
    model.graph.output.extend(
        onnx.ValueInfoProto(name=name)
        for name in dict.fromkeys(name for _, name in places)
        if name not in inputs | outputs | set(constants)
    )
    runner = OrtRunner(model.SerializeToString(), engine=subset)
    base = _feed(subset, windows, {})
    values = base | constants | runner.run(base)
    changed = {}
    for m in subset_members(subset):
        feed = _feed(subset, windows, {m: _ROWS})
        changed[m] = feed | constants | runner.run(feed)
    found: dict[str, list[_Meeting]] = {}
    for weight, name in places:
        if np.issubdtype(values[name].dtype, np.floating):
            changes = {m: np.asarray(values[name] != other[name]) for m, other in changed.items()}
            found.setdefault(weight, []).append(_Meeting(values[name], changes))
    return found


def _feed(subset: str, windows: Windows, first: Mapping[str, int]) -> dict[str, Array]:
    feed = {}
    for m in subset_members(subset):
        rows = slice(first.get(m, 0), first.get(m, 0) + _ROWS)
        feed[f"features.{m}"] = np.ascontiguousarray(windows.features[m][rows])
        feed[f"mask.{m}"] = np.ascontiguousarray(windows.masks[m][rows])
    return feed
