"""Merges a PEFT adapter into a plain ONNX model of the same network, by name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeemo.bundle.disk import explained, write_file
from edgeemo.errors import CheckpointError, InputError
from edgeemo.export.adapters.merge import merge_pairs, stored_pair
from edgeemo.export.adapters.peft import CONFIG_FILE, WEIGHTS_FILE, PeftFolder, read_config, read_peft
from edgeemo.export.adapters.products import Site, Sites, find_sites
from edgeemo.export.foreign.load import array_from_tensor, load_plain_model
from edgeemo.export.foreign.names import resolve_names
from edgeemo.export.foreign.rewire import (
    insert_nodes,
    replace_bias,
    replace_parameter,
    replace_weight,
    take_away_unused,
)

STAMP = "edgeemo.adapter"  # metadata of a merged model: SHA-256 of each adapter merged into it
_BRANCH = re.compile(r"\.lora_(A|B|embedding_A|embedding_B)\b")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class MergedWeight:
    """One weight of the merged model.

    Attributes:
        module: its name in the graph.
        tensor: the initializer of the model that was given.
        found_by: ``"name"`` of the initializer or ``"scope"`` of its product.
        stored: ``"out, in"`` or ``"in, out"``, as the graph uses it, for the weight of a linear layer.
        rank: r; 0 where the adapter brings the whole weight.
        scale: alpha / r, or alpha / sqrt(r); 0 where the adapter brings the whole weight.
        change: largest change of an element.
    """

    module: str
    tensor: str
    found_by: str
    stored: str
    rank: int
    scale: float
    change: float


@dataclass(frozen=True)
class MergeReport:
    """What `merge_peft` did; ``bytes`` is the size of the file ``out``."""

    out: Path
    weights: tuple[MergedWeight, ...]
    bytes: int

    def to_json(self) -> dict[str, object]:
        """Returns the report as it goes into JSON."""
        return {
            "out": str(self.out),
            "bytes": self.bytes,
            "weights": [asdict(entry) for entry in self.weights],
        }


def merge_peft(
    model: str | Path,
    adapter: str | Path,
    out: str | Path,
    *,
    skip: Collection[str] = (),
    progress: Progress | None = None,
) -> MergeReport:
    """Merges a PEFT adapter into a plain ONNX model and writes a plain ONNX model.

    Modules are found by the names that exporters keep: of initializers, of nodes, in metadata. Which way
    round a weight is stored (``nn.Linear``, transformers' Conv1D with ``fan_in_fan_out``, a MatMul's folded
    transpose) follows from how the graph uses it. The products are summed in float64; the same files give
    the same bytes. All of the adapter is merged or nothing is written.

    Args:
        model: an ``.onnx`` file in float32, as ``torch.onnx.export`` writes it; never changed.
        adapter: a folder as PEFT's ``save_pretrained`` writes it: plain LoRA over linear layers, also
            rank-stabilized, with patterns of ranks and alphas, and with ``modules_to_save``.
        out: the file to write, another one than ``model``.
        skip: the adapter's modules that the exported graph is known not to have, such as a pooler whose
            output was not exported.
        progress: called with (weights done, weights).

    Raises:
        CheckpointError: model or adapter is broken, does not belong to the other, or is of a kind that
            cannot be merged exactly; modules that are not found are listed.
        InputError: ``out`` is ``model``, or a module to skip is in the graph or not in the adapter.
        ExportError: ``out`` cannot be written; what was there before still is.
    """
    model_path, folder, target = Path(model), Path(adapter), Path(out)
    if target.exists() and model_path.exists() and target.samefile(model_path):
        raise InputError(f"{target} is the model itself; write the merged one to another file")
    if target.is_dir():
        raise InputError(f"{target} is a folder; expected the name of an .onnx file to write")
    config = read_config(folder)
    peft = read_peft(folder, config, saved=True)
    graph = load_plain_model(model_path)
    _refuse_adapted(graph, model_path)
    _stamp(graph, model_path, folder)
    sites = find_sites(graph)
    names = resolve_names(peft, sites, [t.name for t in graph.graph.initializer], model_path, skip)
    weights = _merge(graph, peft, sites, names, progress)
    take_away_unused(graph, {entry.tensor for entry in weights})
    data = bytes(graph.SerializeToString(deterministic=True))
    with explained(target, "Nothing was changed there"):
        write_file(target, data)
    return MergeReport(target, weights, len(data))


def _merge(
    graph: onnx.ModelProto,
    peft: PeftFolder,
    sites: Sites,
    names: Mapping[str, str],
    progress: Progress | None,
) -> tuple[MergedWeight, ...]:
    """Changes the weights of ``graph`` and says which."""
    arrays = {tensor.name: tensor for tensor in graph.graph.initializer}
    total = len(names)
    done: list[MergedWeight] = []
    for module, halves in peft.halves.items():
        if module not in names:
            continue
        site = sites.found[names[module]]
        base = _array(arrays[site.tensor])
        pair = stored_pair(peft.where, module, halves, base.shape, transposed=site.transposed)
        merged = merge_pairs(site.tensor, base, [pair])
        replace_weight(graph, site, merged)
        done.append(_merged_weight(site, base, merged, halves.rank, halves.scale))
        if progress is not None:
            progress(len(done), total)
    more = []
    for name, tensor in peft.saved.items():
        if name not in names:
            continue
        whole = np.asarray(tensor, dtype=np.float32)
        module, _, parameter = names[name].rpartition(".")
        layer = sites.found.get(module)
        if layer is not None and parameter == "weight":
            base = _array(arrays[layer.tensor])
            whole = np.ascontiguousarray(whole.T) if layer.transposed else whole
            _check_shape(peft.where, name, whole, base)
            replace_weight(graph, layer, whole)
            done.append(_merged_weight(layer, base, whole, 0, 0.0))
        elif layer is not None and parameter == "bias":
            change, nodes = replace_bias(graph, layer, whole)
            more += nodes
            done.append(MergedWeight(names[name], names[name], layer.found_by, "out", 0, 0.0, change))
        else:
            base = _array(arrays[names[name]])
            _check_shape(peft.where, name, whole, base)
            replace_parameter(graph, names[name], module, whole)
            change = float(np.abs(whole - base).max(initial=0.0))
            done.append(MergedWeight(names[name], names[name], "name", "as is", 0, 0.0, change))
        if progress is not None:
            progress(len(done), total)
    insert_nodes(graph, more)
    return tuple(done)


def _merged_weight(
    site: Site, base: NDArray[np.float32], merged: NDArray[np.float32], rank: int, scale: float
) -> MergedWeight:
    change = float(np.abs(merged.astype(np.float64) - base).max(initial=0.0))
    stored = "in, out" if site.transposed else "out, in"
    return MergedWeight(site.module, site.tensor, site.found_by, stored, rank, scale, change)


def _refuse_adapted(graph: onnx.ModelProto, path: Path) -> None:
    for tensor in graph.graph.initializer:
        if _BRANCH.search(tensor.name):
            raise CheckpointError(
                f"{path}: the graph holds an adapter's own branch ({tensor.name!r}), so merging would apply "
                "it twice; export the base model (PEFT: model.unload())"
            )


def _stamp(graph: onnx.ModelProto, path: Path, folder: Path) -> None:
    """Writes the adapter's hash into the model's metadata; refuses the one that is there already."""
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    mark = digest.hexdigest()
    entry = next((entry for entry in graph.metadata_props if entry.key == STAMP), None)
    if entry is None:
        graph.metadata_props.add(key=STAMP, value=mark)
    elif mark in entry.value.split():
        raise CheckpointError(f"{path}: the adapter {folder} is merged into this model already")
    else:
        entry.value += f" {mark}"


def _array(tensor: onnx.TensorProto) -> NDArray[np.float32]:
    if tensor.data_type != onnx.TensorProto.FLOAT:
        kinds = onnx.TensorProto.DataType
        kind = kinds.Name(tensor.data_type) if tensor.data_type in kinds.values() else "of no known type"
        raise CheckpointError(
            f"the weight {tensor.name!r} is {kind}; expected FLOAT. Merge into the float32 "
            "model, and convert or quantize what comes out"
        )
    array = array_from_tensor(tensor)
    broken = int(array.size - np.count_nonzero(np.isfinite(array)))
    if broken:
        raise CheckpointError(f"the weight {tensor.name!r} holds {broken} numbers that are not finite")
    return array


def _check_shape(where: str, name: str, whole: NDArray[np.float32], base: NDArray[np.float32]) -> None:
    if whole.shape != base.shape:
        raise CheckpointError(
            f"{where}: {name!r} brings a whole tensor of shape {list(whole.shape)} where the graph has "
            f"{list(base.shape)}; is this the base that the adapter was trained over?"
        )
