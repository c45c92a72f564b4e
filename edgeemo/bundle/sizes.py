"""Where every byte of a bundle's folder goes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeemo.bundle.manifest_json import manifest_from_json
from edgeemo.bundle.outline import ModelOutline, TensorOutline, outline_from_model
from edgeemo.bundle.store import MANIFEST, PREVIOUS, REPORT, Bundle
from edgeemo.errors import BundleError, FormatVersionError
from edgeemo.modality import subset_key

ENGINE, STEM = "engine", "stem"


@dataclass(frozen=True)
class GraphSizes:
    """One graph of a bundle, in bytes.

    Attributes:
        kind: ``engine`` or ``stem``.
        name: subset or modality.
        variant: such as ``int8``.
        file: in the bundle.
        nodes: operators.
        file_bytes: the graph's own file.
        tensors: numbers inside it, by element type.
        structure: what else is in the file: operators, names, shapes.
        shared: numbers that lie in weights files, each tensor counted once.
        alone: size of the graph with all its numbers inside: what it would take without sharing.
    """

    kind: str
    name: str
    variant: str
    file: str
    nodes: int
    file_bytes: int
    tensors: Mapping[str, int]
    structure: int
    shared: int
    alone: int


@dataclass(frozen=True)
class BundleSizes:
    """Every byte of a bundle's folder.

    Attributes:
        graphs: stems first, then engines.
        weights: weights file -> bytes.
        users: weights file -> graphs that refer to it.
        other: reference, recipe -> bytes.
        unhashed: ``manifest.json``, ``report.json`` -> bytes.
        rollback: bytes of files that only the previous manifest refers to, and of that manifest.
        foreign: bytes of files that are none of the bundle's.
    """

    graphs: tuple[GraphSizes, ...]
    weights: Mapping[str, int]
    users: Mapping[str, int]
    other: Mapping[str, int]
    unhashed: Mapping[str, int]
    rollback: int
    foreign: int

    @property
    def listed(self) -> int:
        """Bytes of the files that the manifest lists."""
        return (
            sum(graph.file_bytes for graph in self.graphs)
            + sum(self.weights.values())
            + sum(self.other.values())
        )

    @property
    def total(self) -> int:
        """Bytes of all files in the folder."""
        return self.listed + sum(self.unhashed.values()) + self.rollback + self.foreign


def measure_sizes(bundle: Bundle) -> BundleSizes:
    """Returns where the bytes of a bundle go; reads and verifies every graph.

    Raises:
        BundleError: a file is not what the manifest promises.
    """
    manifest = bundle.manifest
    graphs = [
        _graph_sizes(bundle, kind, name, variant, file)
        for kind, groups in ((STEM, manifest.stems), (ENGINE, manifest.engines))
        for name, variants in groups.items()
        for variant, file in variants.items()
    ]
    users: dict[str, int] = {}
    for files in manifest.weights.values():
        for file in files:
            users[file] = users.get(file, 0) + 1
    known = {graph.file for graph in graphs} | set(users)
    on_disk = {
        place.relative_to(bundle.path).as_posix(): place.lstat().st_size
        for place in bundle.path.rglob("*")
        if not place.is_dir() or place.is_symlink()
    }
    rest = {name: size for name, size in on_disk.items() if name not in manifest.files}
    unhashed = {name: rest.pop(name) for name in (MANIFEST, REPORT) if name in rest}
    previous = _previous_files(bundle) if PREVIOUS in rest else set()
    rollback = sum(rest.pop(name) for name in sorted(rest) if name in previous)
    return BundleSizes(
        graphs=tuple(graphs),
        weights={name: manifest.files[name].bytes for name in sorted(users)},
        users=users,
        other={name: entry.bytes for name, entry in manifest.files.items() if name not in known},
        unhashed=unhashed,
        rollback=rollback,
        foreign=sum(rest.values()),
    )


def together(sizes: BundleSizes, bundle: Bundle, variant: str) -> tuple[int, int] | None:
    """Returns what all engines of a variant take together and what the largest would take alone.

    None where the bundle has no engine for all modalities at once in this variant.
    """
    engines = {
        graph.name: graph for graph in sizes.graphs if (graph.kind, graph.variant) == (ENGINE, variant)
    }
    whole = engines.get(subset_key(bundle.manifest.order, bundle.manifest.order))
    if whole is None:
        return None
    files = {graph.file for graph in engines.values()}
    shared = {name for file in files for name in bundle.manifest.weights.get(file, ())}
    own = sum(graph.file_bytes for graph in engines.values())
    return own + sum(sizes.weights[name] for name in shared), whole.alone


def tensor_bytes(tensor: TensorOutline) -> int:
    """Returns the bytes of a tensor's numbers, wherever they lie."""
    if tensor.external is None:
        return tensor.stored_bytes
    return math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize


def all_tensors(outline: ModelOutline) -> tuple[TensorOutline, ...]:
    """Returns the constants of a model: initializers and those inside nodes."""
    return outline.initializers + tuple(tensor for node in outline.nodes for tensor in node.tensors)


def _graph_sizes(bundle: Bundle, kind: str, name: str, variant: str, file: str) -> GraphSizes:
    graph = bundle.read_graph(file)
    outline = outline_from_model(graph.model)
    tensors: dict[str, int] = {}
    for tensor in all_tensors(outline):
        tensors[tensor.dtype] = tensors.get(tensor.dtype, 0) + tensor.stored_bytes
    return GraphSizes(
        kind=kind,
        name=name,
        variant=variant,
        file=file,
        nodes=len(outline.nodes),
        file_bytes=len(graph.model),
        tensors={dtype: size for dtype, size in sorted(tensors.items()) if size},
        structure=len(graph.model) - sum(tensors.values()),
        shared=sum(array.nbytes for array in graph.tensors.values()),
        alone=len(graph.self_contained()),
    )


def _previous_files(bundle: Bundle) -> set[str]:
    try:
        data = (bundle.path / PREVIOUS).read_bytes()
        return {PREVIOUS, *manifest_from_json(data, PREVIOUS).files}
    except (OSError, BundleError, FormatVersionError):
        return {PREVIOUS}
