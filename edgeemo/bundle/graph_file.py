"""One graph of a bundle as it is handed to a backend: the model and the tensors that it shares with others.

A tensor that several graphs need lies once in a file under ``graphs/weights/``, and each graph points to
it the way ONNX does it (external data: ``location``, ``offset``, ``length``). A graph may point nowhere
else: what it says is compared with the files that the manifest gives it before a backend sees a byte.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from edgeemo.bundle.manifest_files import WEIGHTS_FOLDER
from edgeemo.bundle.outline import TensorOutline, outline_from_model, tensor_outline
from edgeemo.bundle.tensors import Array
from edgeemo.bundle.wire import bytes_field, read_fields
from edgeemo.errors import BundleError

WEIGHTS = WEIGHTS_FOLDER.name
"""Folder of the shared tensors, beside the graphs: the only place that a graph may point to."""
SHARED_DTYPES = ("float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")
_KEY = b"location"
_GRAPH, _INITIALIZER, _NAME, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 7, 5, 8, 9, 13, 14


@dataclass(frozen=True, eq=False)
class GraphFile:
    """A model and what it points to, both verified.

    Attributes:
        name: of the graph's file, for messages.
        model: the serialized ONNX model.
        weights: location as the model spells it (``weights/int8.<hash>.bin``) -> bytes of that file.
        tensors: initializer -> its numbers, a read-only view of ``weights``; of those that lie outside
            the model.

    Raises:
        BundleError: the model points anywhere else, outside the file, or with another shape or type than
            the bytes have.
    """

    name: str
    model: bytes
    weights: Mapping[str, Array] = field(default_factory=dict)
    tensors: Mapping[str, Array] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", self._find_tensors())

    def __repr__(self) -> str:
        shared = sum(array.nbytes for array in self.tensors.values())
        return (
            f"<GraphFile {self.name!r}: {len(self.model)} bytes"
            + (
                f", {len(self.tensors)} tensors of {shared} bytes in {', '.join(self.weights)}"
                if shared
                else ""
            )
            + ">"
        )

    def self_contained(self) -> bytes:
        """Returns the model with all its numbers inside: for tools that take one file, or none on a disk."""
        if not self.tensors:
            return self.model
        parts: list[bytes | memoryview] = []
        for number, _, payload, whole in read_fields(memoryview(self.model)):
            parts.append(bytes_field(_GRAPH, self._filled(payload)) if number == _GRAPH else whole)
        return b"".join(parts)

    def _find_tensors(self) -> dict[str, Array]:
        # Every external tensor spells this word, so a model without it needs no reading.
        if _KEY not in self.model:
            return {}
        try:
            outline = outline_from_model(self.model, only_nodes_with=_KEY)
        except BundleError as reason:
            raise BundleError(f"{self.name}: {reason}") from None
        for node in outline.nodes:
            if any(tensor.external is not None for tensor in node.tensors):
                self._refuse(f"the node {node.name!r} ({node.operator}) points to data outside the model")
        outside = [tensor for tensor in outline.initializers if tensor.external is not None]
        if outline.unusual:
            self._refuse(f"it holds {outline.unusual[0]}, where tensors outside the model could hide")
        if len({tensor.name for tensor in outline.initializers}) < len(outline.initializers) and outside:
            self._refuse("two of its initializers have one name")
        return {tensor.name: self._view(tensor, tensor.external or {}) for tensor in outside}

    def _view(self, tensor: TensorOutline, external: Mapping[str, str]) -> Array:
        location = external.get("location", "")
        if unknown := sorted(set(external) - {"location", "offset", "length"}):
            self._refuse(f"the initializer {tensor.name!r} is described by {unknown[0]!r}, which is unknown")
        if location not in self.weights:
            known = ", ".join(self.weights) or "no file at all"
            self._refuse(
                f"the initializer {tensor.name!r} points to {location!r}; the manifest allows {known}"
            )
        data = self.weights[location]
        if tensor.dtype not in SHARED_DTYPES:
            self._refuse(f"the initializer {tensor.name!r} of {tensor.dtype} cannot lie in a weights file")
        if tensor.stored_bytes:
            self._refuse(f"the initializer {tensor.name!r} lies in the model and in {location!r} at once")
        dtype = np.dtype(tensor.dtype)
        offset = _whole_number(external.get("offset", "0"))
        length = _whole_number(external.get("length", ""))
        expected = math.prod(tensor.shape) * dtype.itemsize
        if length != expected or offset < 0 or offset + length > data.nbytes or offset % dtype.itemsize:
            self._refuse(
                f"the initializer {tensor.name!r} {list(tensor.shape)} of {tensor.dtype} needs {expected} "
                f"bytes; it names offset {external.get('offset', '0')!r} and length "
                f"{external.get('length', '')!r} of the {data.nbytes} bytes of {location!r}"
            )
        return np.frombuffer(data, dtype, math.prod(tensor.shape), offset).reshape(tensor.shape)

    def _filled(self, graph: memoryview) -> bytes:
        parts: list[bytes | memoryview] = []
        for number, _, payload, whole in read_fields(graph):
            name = tensor_outline(payload).name if number == _INITIALIZER else ""
            if name not in self.tensors or number != _INITIALIZER:
                parts.append(whole)
                continue
            kept = [
                bytes(inner)
                for part, _, _, inner in read_fields(payload)
                if part not in (_EXTERNAL_DATA, _DATA_LOCATION)
            ]
            raw = self.tensors[name].tobytes()
            parts.append(bytes_field(_INITIALIZER, b"".join((*kept, bytes_field(_RAW_DATA, raw)))))
        return b"".join(parts)

    def _refuse(self, sentence: str) -> NoReturn:
        raise BundleError(
            f"{self.name}: {sentence}. A graph of a bundle may point only to the files under "
            f"{WEIGHTS_FOLDER}/ that the manifest lists for it"
        )


def _whole_number(text: str) -> int:
    """Returns the number that ``text`` spells in plain digits, or -1."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else -1
