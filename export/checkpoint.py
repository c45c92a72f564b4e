"""A trained checkpoint, read and checked whole without torch.

Opening reads every file once, records its SHA-256 and refuses what does not fit together, by name:
weights against graphs, adapters against their base, reference answers against both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle.fields import Fields, parse_json
from edgeemo.bundle.manifest import Licence, ModalitySpec, SubsetSpec
from edgeemo.bundle.manifest_json import (
    canonical_keys,
    check_file_name,
    check_format_version,
    hop_from_fields,
    licence_from_fields,
    modality_from_fields,
    subset_from_fields,
)
from edgeemo.bundle.tensors import Array, read_tensors
from edgeemo.errors import CheckpointError, SubsetError
from edgeemo.export.adapters.merge import Adapter, merge_adapters, read_adapter
from edgeemo.export.adapters.peft import check_tensor
from edgeemo.export.adapters.products import transposed_modules
from edgeemo.export.checks import (
    check_adapted,
    check_engine_graph,
    check_operators_exist,
    check_reference,
    check_stem_graph,
    check_weights,
)
from edgeemo.export.graph import load_graph
from edgeemo.modality import parse_subset, subset_members

if TYPE_CHECKING:
    import onnx

FORMAT_VERSION = 1
COMMON = "common"
CHECKPOINT = "checkpoint.json"
WEIGHTS = "model.safetensors"
REFERENCE = "reference.safetensors"
RANGES = "ranges.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory; made by `Checkpoint.open`.

    Attributes:
        path: its folder.
        model_id: the model's name.
        family: the network family.
        labels: C labels in the order of the logits.
        hop_s: seconds between readings.
        modalities: in canonical order.
        subsets: temperature and prior of each subset, single modalities first.
        weights: base weights, fp32, by module name.
        adapters: by subset, and ``"common"``; empty where the network was trained without.
        engine_graphs: subset -> graph without weights.
        stem_graphs: modality -> graph without weights.
        reference: feature windows and the answers of the training framework.
        ranges: modality -> value name -> (lo, hi), of the stem's folded graph.
        data: the data sets it was trained on: name, licence, use.
        metrics: validation figures as training wrote them.
        licence: terms of the weights.
        files: SHA-256 of each file that was read, by relative name.
        adapter_folders: where each adapter lies, relative to the checkpoint.
        thresholds: named numbers for sessions, learned with the model; they go into the manifest.
    """

    path: Path
    model_id: str
    family: str
    labels: tuple[str, ...]
    hop_s: float
    modalities: tuple[ModalitySpec, ...]
    subsets: Mapping[str, SubsetSpec]
    weights: Mapping[str, NDArray[np.float32]]
    adapters: Mapping[str, Adapter]
    engine_graphs: Mapping[str, onnx.ModelProto]
    stem_graphs: Mapping[str, onnx.ModelProto]
    reference: Mapping[str, Array]
    ranges: Mapping[str, Mapping[str, tuple[float, float]]]
    data: Sequence[Mapping[str, str]]
    metrics: Mapping[str, object]
    licence: Licence
    files: Mapping[str, str]
    adapter_folders: Mapping[str, str] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | Path) -> Checkpoint:
        """Returns the checkpoint in the folder ``path``, checked whole.

        Raises:
            CheckpointError: a file, tensor, graph or field is missing, extra, misshapen, not finite or
                contradicts another; the message names it.
            FormatVersionError: ``checkpoint.json`` is of a format that this version does not know.
        """
        folder = Path(path)
        if not folder.is_dir() or not (folder / CHECKPOINT).is_file():
            raise CheckpointError(f"{folder} holds no {CHECKPOINT}; expected a checkpoint folder")
        return _Reader(folder).read()

    def __repr__(self) -> str:
        count = sum(weight.size for weight in self.weights.values())
        return (
            f"<Checkpoint {self.model_id!r} ({self.family}) at {str(self.path)!r}: {count / 1e6:.2f} M "
            f"parameters, {len(self.subsets)} subsets over {', '.join(self.order)}, "
            f"{len(self.labels)} labels; weights {self.licence.weights}>"
        )

    @property
    def order(self) -> tuple[str, ...]:
        """Names of the modalities in canonical order."""
        return tuple(modality.name for modality in self.modalities)

    def choose_subsets(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        """Returns the canonical names of ``wanted`` (all subsets if None), in canonical order.

        Raises:
            SubsetError: a subset that the checkpoint does not have; the message lists those it has.
        """
        if wanted is None:
            return tuple(self.subsets)
        keys: set[str] = set()
        for text in wanted:
            try:
                key = parse_subset(text, self.order)
            except SubsetError:
                key = text
            if key not in self.subsets:
                raise SubsetError(f"no subset {text!r} in {self.path}; there are: {', '.join(self.subsets)}")
            keys.add(key)
        if not keys:
            raise SubsetError(f"no subset asked for; {self.path} has: {', '.join(self.subsets)}")
        return tuple(key for key in self.subsets if key in keys)

    def merged_weights(self, subset: str) -> dict[str, NDArray[np.float32]]:
        """Returns the weights of one subset: base + common adapter + the subset's own, as there are."""
        names = [name for name in (COMMON, subset) if name in self.adapters]
        return merge_adapters(self.weights, [self.adapters[name] for name in names])

    def read_adapter(self, folder: Path, name: str) -> Adapter:
        """Returns another adapter over this checkpoint's base, checked as its own ones are.

        Args:
            folder: in PEFT's layout, naming this base.
            name: the subset that it is for, or ``"common"``.

        Raises:
            CheckpointError: it does not fit; the message names what is wrong.
        """
        graphs = self.engine_graphs.values() if name == COMMON else [self.engine_graphs[name]]
        turned = transposed_modules(graphs)
        adapter = read_adapter(folder, name, self.files[WEIGHTS], self.weights, transposed=turned)
        check_adapted({name: adapter.pairs}, self.engine_graphs)
        return adapter


class _Reader:
    """Reads one checkpoint folder, remembering what was read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, str] = {}
        data = self.touch(CHECKPOINT).read_bytes()
        where = str(folder / CHECKPOINT)
        self.top = Fields(parse_json(data, where, CheckpointError), where, CheckpointError)

    def read(self) -> Checkpoint:
        top = self.top
        check_format_version(top, FORMAT_VERSION, "checkpoint")
        labels = top.texts("labels")
        modalities, stem_files = self._modalities()
        order = tuple(modality.name for modality in modalities)
        if len(labels) < 2 or not modalities or len(set(order)) < len(order):
            top.fail("needs at least two labels and at least one modality, each modality once")
        weights = self._weights()
        engine_graphs: dict[str, onnx.ModelProto] = {}
        places: dict[str, str] = {}
        subsets: dict[str, SubsetSpec] = {}
        common = top.fields("adapters")
        if COMMON in common.names():
            places[COMMON] = common.text(COMMON)
        common.finish()
        entry = top.fields("subsets")
        for key in canonical_keys(entry, order):
            fields = entry.fields(key)
            subsets[key] = subset_from_fields(fields, len(labels))
            graph_file = fields.text("graph")
            engine_graphs[key] = load_graph(self.touch(graph_file))
            members = [modality for modality in modalities if modality.name in subset_members(key)]
            check_operators_exist(engine_graphs[key], graph_file)
            check_engine_graph(engine_graphs[key], graph_file, members, len(labels))
            if "adapter" in fields.names():
                places[key] = fields.text("adapter")
            fields.finish()
        if not subsets:
            entry.fail("is empty; expected at least one subset")
        stem_graphs: dict[str, onnx.ModelProto] = {}
        for modality, graph_file in zip(modalities, stem_files, strict=True):
            stem_graphs[modality.name] = load_graph(self.touch(graph_file))
            check_operators_exist(stem_graphs[modality.name], graph_file)
            check_stem_graph(stem_graphs[modality.name], graph_file, modality)
        check_weights(str(self.folder / WEIGHTS), weights, engine_graphs, stem_graphs)
        # Only now: a base that lacks a tensor is not the adapters' base either, but that says too little.
        turned = transposed_modules(engine_graphs.values())
        adapters = {key: self._adapter(place, key, weights, turned) for key, place in places.items()}
        check_adapted({name: adapter.pairs for name, adapter in adapters.items()}, engine_graphs)
        reference = read_tensors(self.touch(REFERENCE), CheckpointError)
        check_reference(str(self.folder / REFERENCE), reference, modalities, engine_graphs, len(labels))
        checkpoint = Checkpoint(
            path=self.folder,
            model_id=top.text("model_id"),
            family=top.text("family"),
            labels=labels,
            hop_s=hop_from_fields(top),
            modalities=modalities,
            subsets=subsets,
            weights=weights,
            adapters=adapters,
            engine_graphs=engine_graphs,
            stem_graphs=stem_graphs,
            reference=reference,
            ranges=self._ranges(order),
            data=self._data_sets(),
            metrics=_as_map(top, "metrics"),
            licence=licence_from_fields(top.fields("licence")),
            files=dict(sorted(self.files.items())),
            adapter_folders=places,
            thresholds=self._thresholds(),
        )
        for key in ("low_rank", "trunk"):  # how to build the network again; training's own business
            if key in top.names():
                top.value(key)
        top.finish()
        return checkpoint

    def touch(self, name: str) -> Path:
        """Returns the path of a file of the checkpoint after recording its hash."""
        place = self.folder / check_file_name(name, str(self.folder / CHECKPOINT), CheckpointError)
        try:
            self.files[name] = hashlib.sha256(place.read_bytes()).hexdigest()
        except OSError as reason:
            raise CheckpointError(f"{place}: cannot be read ({reason.strerror or reason})") from None
        return place

    def _thresholds(self) -> dict[str, float]:
        if "thresholds" not in self.top.names():
            return {}
        entry = self.top.fields("thresholds")
        return {name: entry.number(name) for name in sorted(entry.names())}

    def _modalities(self) -> tuple[tuple[ModalitySpec, ...], list[str]]:
        found, files = [], []
        for entry in self.top.listed("modalities"):
            files.append(entry.fields("stem").text("graph"))
            found.append(modality_from_fields(entry, extra_stem_keys=("graph",)))
        return tuple(found), files

    def _weights(self) -> dict[str, NDArray[np.float32]]:
        where = str(self.folder / WEIGHTS)
        weights: dict[str, NDArray[np.float32]] = {}
        for name, tensor in read_tensors(self.touch(WEIGHTS), CheckpointError).items():
            check_tensor(f"{where}: {name!r}", tensor, None)
            weights[name] = np.asarray(tensor, dtype=np.float32)
        return weights

    def _adapter(
        self,
        name: str,
        subset: str,
        weights: Mapping[str, NDArray[np.float32]],
        turned: Collection[str],
    ) -> Adapter:
        check_file_name(name, self.top.where, CheckpointError)
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            self.touch(f"{name}/{file}")
        return read_adapter(self.folder / name, subset, self.files[WEIGHTS], weights, transposed=turned)

    def _ranges(self, order: Sequence[str]) -> dict[str, dict[str, tuple[float, float]]]:
        where = str(self.folder / RANGES)
        data = self.touch(RANGES).read_bytes()
        top = Fields(parse_json(data, where, CheckpointError), where, CheckpointError)
        found: dict[str, dict[str, tuple[float, float]]] = {}
        for modality in order:
            entry = top.fields(f"stem.{modality}")
            found[modality] = {}
            for name in entry.names():
                pair = entry.numbers(name)
                if len(pair) != 2 or pair[0] > pair[1]:
                    entry.fail(f"{name!r} must be [lo, hi] with lo <= hi, found {list(pair)}")
                found[modality][name] = (pair[0], pair[1])
        top.value("features")
        top.finish()
        return found

    def _data_sets(self) -> list[dict[str, str]]:
        return [{key: entry.text(key) for key in entry.names()} for entry in self.top.listed("data")]


def _as_map(top: Fields, key: str) -> Mapping[str, object]:
    entry = top.fields(key)
    return {name: entry.value(name) for name in entry.names()}
