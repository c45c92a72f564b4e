"""What differs between two bundles: what they say of themselves, and each graph down to its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from edgeemo.bundle.initializers import initializers_of
from edgeemo.bundle.outline import outline_from_model
from edgeemo.bundle.store import Bundle
from edgeemo.bundle.tensors import Array


@dataclass(frozen=True)
class FieldChange:
    """One thing that the two manifests say differently; None where one of them says nothing."""

    field: str
    before: object
    after: object


@dataclass(frozen=True)
class GraphChange:
    """One engine or stem that is not the same in both bundles.

    Attributes:
        graph: such as ``engine audio+video`` or ``stem of text``.
        variant: such as ``int8``.
        bytes_before: with all its numbers inside; None where the graph is new.
        bytes_after: None where the graph is gone.
        operators: operator -> (nodes before, nodes after), where these differ.
        tensors_changed: initializers of one name, type and shape whose numbers differ.
        tensors_same: initializers that are equal.
        tensors_gone: names that only the first has, or that changed type or shape.
        tensors_new: names that only the second has, or that changed type or shape.
        largest_change: largest absolute difference of a floating-point number, over the largest of its
            tensor; 0 where none changed.
    """

    graph: str
    variant: str
    bytes_before: int | None
    bytes_after: int | None
    operators: Mapping[str, tuple[int, int]]
    tensors_changed: int = 0
    tensors_same: int = 0
    tensors_gone: tuple[str, ...] = ()
    tensors_new: tuple[str, ...] = ()
    largest_change: float = 0.0


@dataclass(frozen=True)
class BundleChanges:
    """Everything that differs.

    Attributes:
        fields: of the manifests, files and hashes left out.
        graphs: that differ, are new or are gone.
        same: graphs that are equal in both.
    """

    fields: tuple[FieldChange, ...]
    graphs: tuple[GraphChange, ...]
    same: int

    @property
    def none(self) -> bool:
        """Whether the bundles say and compute the same."""
        return not self.fields and not self.graphs


def compare_bundles(before: Bundle, after: Bundle) -> BundleChanges:
    """Returns what differs between two bundles; reads and verifies every graph.

    Two graphs are equal where they are once all their tensors are inside: how a bundle shares tensors
    among its graphs is no difference.

    Raises:
        BundleError: a file is not what its manifest promises.
    """
    graphs: list[GraphChange] = []
    same = 0
    listed = [_graphs(bundle) for bundle in (before, after)]
    for key in dict.fromkeys((*listed[0], *listed[1])):
        data = [
            bundle.read_graph(files[key]).self_contained() if key in files else None
            for bundle, files in zip((before, after), listed, strict=True)
        ]
        if data[0] == data[1]:
            same += 1
        else:
            graphs.append(_graph_change(*key, data[0], data[1]))
    return BundleChanges(tuple(_field_changes(before, after)), tuple(graphs), same)


def _graphs(bundle: Bundle) -> dict[tuple[str, str], str]:
    manifest = bundle.manifest
    found = {
        (f"stem of {name}", variant): file
        for name, variants in manifest.stems.items()
        for variant, file in variants.items()
    }
    return found | {
        (f"engine {name}", variant): file
        for name, variants in manifest.engines.items()
        for variant, file in variants.items()
    }


def _graph_change(graph: str, variant: str, before: bytes | None, after: bytes | None) -> GraphChange:
    if before is None or after is None:
        sizes = (None if before is None else len(before), None if after is None else len(after))
        return GraphChange(graph, variant, *sizes, operators={})
    counts = [_operators(data) for data in (before, after)]
    operators = {
        name: (counts[0].get(name, 0), counts[1].get(name, 0))
        for name in sorted({*counts[0], *counts[1]})
        if counts[0].get(name, 0) != counts[1].get(name, 0)
    }
    old, new = (initializers_of(data) for data in (before, after))
    alike = [name for name in old if name in new and _kind(old[name]) == _kind(new[name])]
    changed = [name for name in alike if old[name].tobytes() != new[name].tobytes()]
    return GraphChange(
        graph,
        variant,
        len(before),
        len(after),
        operators=operators,
        tensors_changed=len(changed),
        tensors_same=len(alike) - len(changed),
        tensors_gone=tuple(sorted(set(old) - set(alike))),
        tensors_new=tuple(sorted(set(new) - set(alike))),
        largest_change=max((_relative_change(old[name], new[name]) for name in changed), default=0.0),
    )


def _kind(array: Array) -> tuple[str, tuple[int, ...]]:
    return str(array.dtype), array.shape


def _operators(model: bytes) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in outline_from_model(model).nodes:
        counts[node.operator] = counts.get(node.operator, 0) + 1
    return counts


def _relative_change(old: Array, new: Array) -> float:
    if old.dtype.kind != "f" or not old.size:
        return 0.0
    a, b = old.astype(np.float64), new.astype(np.float64)
    return float(np.abs(a - b).max() / max(np.abs(a).max(), np.finfo(np.float64).tiny))


def _field_changes(before: Bundle, after: Bundle) -> list[FieldChange]:
    said = [_flat(asdict(bundle.manifest)) for bundle in (before, after)]
    return [
        FieldChange(name, said[0].get(name), said[1].get(name))
        for name in sorted({*said[0], *said[1]})
        if said[0].get(name) != said[1].get(name)
    ]


def _flat(value: object, prefix: str = "") -> dict[str, object]:
    """Returns the leaves of a manifest by their path; lists of plain values are leaves."""
    left_out = ("files", "engines", "stems", "weights", "reference", "recipe")
    found: dict[str, object] = {}
    if isinstance(value, dict):
        for key, inner in value.items():
            if prefix or key not in left_out:
                found |= _flat(inner, f"{prefix}{key}: ")
        return found
    if isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
        for number, item in enumerate(value):
            name = item.get("name", number) if isinstance(item, dict) else number
            found |= _flat(item, f"{prefix}{name}: ")
        return found
    return {prefix.removesuffix(": "): list(value) if isinstance(value, tuple) else value}
