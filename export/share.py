"""Tensors that several graphs share, stored once: what no adapter touches is the same in every subset.

Each graph points to its place in one file under ``graphs/weights/`` by ONNX's external data. A tensor is
moved there where that makes the bundle smaller, which the lengths decide and nothing else: the same graphs
give the same bytes. Numbers never change.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

import onnx
from onnx import numpy_helper

from edgeemo.bundle.commit import weights_location
from edgeemo.bundle.graph_file import SHARED_DTYPES
from edgeemo.bundle.outline import DTYPES
from edgeemo.errors import ExportError
from edgeemo.export.graph import bytes_from_model

ALIGNMENT = 64
"""Each tensor starts at a multiple of this, a cache line, so that kernels can use it where it lies."""
FILE_BYTES = 512
"""What a file costs beside its contents: names, size and hash in the manifest."""
_PLACEHOLDER = "weights/{variant}.000000000000.bin"

# What makes two tensors one: element type, shape and bytes.
_Key = tuple[int, tuple[int, ...], bytes]


@dataclass(frozen=True)
class SharedModels:
    """Models that share tensors.

    Attributes:
        models: name -> serialized model.
        data: the new weights file; empty where nothing is shared that is not in an existing one.
        location: how the models spell it; empty as ``data`` is.
        locations: name -> every location that the model points to, sorted; empty where it points nowhere.
    """

    models: Mapping[str, bytes]
    data: bytes
    location: str
    locations: Mapping[str, tuple[str, ...]]


def share_tensors(
    models: Mapping[str, onnx.ModelProto], variant: str, existing: Mapping[str, bytes] | None = None
) -> SharedModels:
    """Returns the models with the tensors that several of them have moved into one file.

    Args:
        models: name -> model with all its tensors inside; not changed.
        variant: the file bears its name.
        existing: location (``weights/<variant>.<hash>.bin``) -> contents of weights files that stay in the
            bundle: a tensor that lies there already is pointed to, also where only one model has it.

    Raises:
        ExportError: a model has external data already.
    """
    kept = dict(existing or {})
    cost = _reference_bytes(variant)
    tensors = {name: _shareable(name, model) for name, model in models.items()}
    found = {key: _find(key[2], kept) for key in _counts(tensors) if len(key[2]) > cost}
    places = {key: place for key, place in found.items() if place is not None}
    data = bytearray()
    location = _PLACEHOLDER.format(variant=variant)
    for key in _worth_sharing(tensors, set(places), cost):
        data += bytes(-len(data) % ALIGNMENT)
        places[key] = (location, len(data))
        data += key[2]
    if data:
        location = weights_location(variant, bytes(data))
    placed = {
        key: (location if place[0] not in kept else place[0], place[1]) for key, place in places.items()
    }
    moved = {name: _move(model, tensors[name], placed) for name, model in models.items()}
    return SharedModels(
        models={name: bytes_from_model(model) for name, (model, _) in moved.items()},
        data=bytes(data),
        location=location if data else "",
        locations={name: tuple(sorted(locations)) for name, (_, locations) in moved.items()},
    )


def _shareable(name: str, model: onnx.ModelProto) -> dict[int, _Key]:
    """Returns the tensors that may lie outside: position among the initializers -> what it is."""
    found: dict[int, _Key] = {}
    for position, tensor in enumerate(model.graph.initializer):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ExportError(f"the initializer {tensor.name!r} of {name!r} already lies outside its model")
        if DTYPES.get(tensor.data_type) in SHARED_DTYPES:
            raw = tensor.raw_data or numpy_helper.to_array(tensor).tobytes()
            found[position] = (tensor.data_type, tuple(tensor.dims), raw)
    return found


def _counts(tensors: Mapping[str, Mapping[int, _Key]]) -> dict[_Key, int]:
    """Returns how often each tensor occurs, in the order of the first occurrence."""
    counts: dict[_Key, int] = {}
    for found in tensors.values():
        for key in found.values():
            counts[key] = counts.get(key, 0) + 1
    return counts


def _worth_sharing(
    tensors: Mapping[str, Mapping[int, _Key]], placed: Container[_Key], cost: int
) -> list[_Key]:
    """Returns the tensors of several models that make the bundle smaller in a file of their own.

    None of them where all together do not save what the file and its entries in the manifest take.
    """
    owned = [set(found.values()) for found in tensors.values()]
    savings = {}
    for key, count in _counts(tensors).items():
        if key not in placed and sum(key in keys for keys in owned) > 1:
            size = len(key[2])
            savings[key] = count * (size - cost) - -(-size // ALIGNMENT) * ALIGNMENT
    chosen = [key for key, saving in savings.items() if saving > 0]
    return chosen if sum(savings[key] for key in chosen) > FILE_BYTES else []


def _move(
    model: onnx.ModelProto, tensors: Mapping[int, _Key], placed: Mapping[_Key, tuple[str, int]]
) -> tuple[onnx.ModelProto, set[str]]:
    """Returns a copy that points to what was placed, and the locations that it names."""
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    locations = set()
    for position, key in tensors.items():
        if key in placed:
            location, offset = placed[key]
            old = moved.graph.initializer[position]
            fresh = _outside(old.name, key, location, offset)
            old.CopyFrom(fresh)
            locations.add(location)
    return moved, locations


def _outside(name: str, key: _Key, location: str, offset: int) -> onnx.TensorProto:
    """Returns an initializer whose numbers lie in a file."""
    tensor = onnx.TensorProto(name=name, data_type=key[0], dims=key[1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for word, value in (("location", location), ("offset", offset), ("length", len(key[2]))):
        tensor.external_data.add(key=word, value=str(value))
    return tensor


def _reference_bytes(variant: str) -> int:
    """Returns what it costs a graph to point to a tensor instead of holding it."""
    location = _PLACEHOLDER.format(variant=variant)
    key: _Key = (onnx.TensorProto.FLOAT, (1,), bytes(1 << 16))
    held = onnx.TensorProto(name="x", data_type=key[0], dims=key[1], raw_data=key[2])
    pointing = _outside("x", key, location, 1 << 19)
    return int(pointing.ByteSize()) - (int(held.ByteSize()) - len(key[2]))


def _find(data: bytes, files: Mapping[str, bytes]) -> tuple[str, int] | None:
    """Returns the first aligned place of ``data`` in the files."""
    for location in sorted(files):
        offset = files[location].find(data)
        while offset >= 0 and offset % ALIGNMENT:
            offset = files[location].find(data, offset + 1)
        if offset >= 0:
            return location, offset
    return None
