"""The numbers of a self-contained ONNX model, read with numpy alone."""

from __future__ import annotations

import math

import numpy as np

from edgeemo.bundle.outline import DTYPES, tensor_outline
from edgeemo.bundle.tensors import Array
from edgeemo.bundle.wire import read_fields, read_varints
from edgeemo.errors import BundleError

_GRAPH, _INITIALIZER = 7, 5
_RAW, _FLOATS, _DOUBLES, _INT32S, _INT64S = 9, 4, 10, 5, 7


def initializers_of(model: bytes) -> dict[str, Array]:
    """Returns the initializers of the main graph by name; those of types that engines do not use as bytes.

    Raises:
        BundleError: not a model, numbers outside it, or a tensor whose bytes do not fit its shape.
    """
    found: dict[str, Array] = {}
    for number, _, payload, _ in read_fields(memoryview(model)):
        if number == _GRAPH:
            for part, _, inner, _ in read_fields(payload):
                if part == _INITIALIZER:
                    name, array = _array(inner)
                    found[name] = array
    return found


def _array(data: memoryview) -> tuple[str, Array]:
    outline = tensor_outline(data)
    if outline.external is not None:
        raise BundleError(f"the numbers of {outline.name!r} lie outside the model")
    dtype = np.dtype(outline.dtype) if outline.dtype in DTYPES.values() else np.dtype(np.uint8)
    numbers: Array = np.zeros(0, dtype)
    for number, _, payload, _ in read_fields(data):
        if number == _RAW:
            numbers = np.frombuffer(payload, np.uint8)
            if numbers.size % dtype.itemsize == 0:
                numbers = numbers.view(dtype)
        elif number in (_FLOATS, _DOUBLES):
            numbers = np.frombuffer(payload, "<f4" if number == _FLOATS else "<f8")
        elif number in (_INT32S, _INT64S):
            wide = np.fromiter(read_varints(payload), np.uint64)
            # Half-precision numbers are stored as the integer of their bits.
            numbers = (
                wide.astype(np.uint16).view(dtype)
                if dtype == np.float16
                else wide.astype(np.int64).astype(dtype)
            )
    if outline.dtype not in DTYPES.values():
        return outline.name, numbers
    if numbers.size != math.prod(outline.shape) or numbers.dtype != dtype:
        raise BundleError(f"the numbers of {outline.name!r} do not fit its shape {list(outline.shape)}")
    return outline.name, numbers.reshape(outline.shape)
