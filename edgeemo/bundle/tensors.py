"""Safetensors files with numpy alone: named arrays in one file, checked before a byte is used.

The format (https://huggingface.co/docs/safetensors): 8 bytes little-endian header length, a JSON
header ``{name: {dtype, shape, data_offsets}}``, then the data without holes or overlaps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle.fields import Fields, parse_json
from edgeemo.errors import BundleError, EdgeEmoError

Array = NDArray[Any]

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
_ALIGNMENT = 8
_MAX_RANK = 32


def read_tensors(path: Path, error: type[EdgeEmoError] = BundleError) -> dict[str, Array]:
    """Returns the arrays of a safetensors file, in the file's order.

    Raises:
        error: the file cannot be read, or as `tensors_from_bytes`.
    """
    try:
        data = path.read_bytes()
    except OSError as reason:
        raise error(f"{path}: cannot be read ({reason.strerror or reason})") from None
    return tensors_from_bytes(data, str(path), error)


def tensors_from_bytes(data: bytes, where: str, error: type[EdgeEmoError] = BundleError) -> dict[str, Array]:
    """Returns the arrays of a safetensors file; they are read-only views of ``data``.

    Args:
        data: the whole file.
        where: its name, for messages.
        error: the class to raise.

    Raises:
        error: the file is truncated, a tensor lies outside it, overlaps another or leaves a hole,
            its shape does not fit its bytes, or its type is not one that numpy has.
    """
    if len(data) < 8:
        raise error(f"{where}: {len(data)} bytes; a safetensors file has at least 8")
    header_bytes = int.from_bytes(data[:8], "little")
    start = 8 + header_bytes
    if start > len(data):
        raise error(f"{where}: the header claims {header_bytes} bytes and the file has {len(data)}")
    header = Fields(parse_json(data[8:start], where, error), where, error)
    found: dict[str, Array] = {}
    spans: list[tuple[int, int, str]] = []
    for name in header.names():
        entry = header.fields(name)
        if name == "__metadata__":
            continue
        dtype = np.dtype(_DTYPES[entry.text("dtype", choices=tuple(_DTYPES))])
        shape = entry.integers("shape", low=0)
        offsets = entry.integers("data_offsets", low=0)
        entry.finish()
        if len(offsets) != 2 or len(shape) > _MAX_RANK:
            entry.fail(f"expected two data_offsets and at most {_MAX_RANK} dimensions")
        first, last = offsets
        expected = math.prod(shape) * dtype.itemsize
        if last - first != expected:
            entry.fail(f"the shape {list(shape)} needs {expected} bytes, the offsets span {last - first}")
        if start + last > len(data):
            entry.fail(f"ends at byte {start + last} of a file of {len(data)} bytes (truncated?)")
        spans.append((first, last, name))
        flat = np.frombuffer(data, dtype, count=math.prod(shape), offset=start + first)
        try:
            found[name] = flat.reshape(shape)
        except ValueError as reason:
            entry.fail(f"the shape {list(shape)} is none that numpy can hold ({reason})")
    end = 0
    for first, last, name in sorted(spans):
        if first != end:
            raise error(f"{where}: {name!r} starts at data byte {first}; expected {end} (hole or overlap)")
        end = last
    if start + end != len(data):
        raise error(f"{where}: {len(data) - start - end} bytes behind the last tensor")
    return found


def bytes_from_tensors(arrays: Mapping[str, Array]) -> bytes:
    """Returns a safetensors file of ``arrays``; equal arrays give equal bytes.

    Tensors lie in order of falling item size, then of name, so that each is aligned.

    Raises:
        ValueError: an array's type has no safetensors name.
    """
    little = {name: _little_endian(name, array) for name, array in arrays.items()}
    order = sorted(little, key=lambda name: (-little[name].dtype.itemsize, name))
    header: dict[str, object] = {}
    position = 0
    for name in order:
        array = little[name]
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [position, position + array.nbytes],
        }
        position += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % _ALIGNMENT)
    return b"".join([len(text).to_bytes(8, "little"), text, *(little[name].tobytes() for name in order)])


def _little_endian(name: str, array: Array) -> Array:
    dtype = array.dtype.newbyteorder("<")
    if dtype not in _NAMES:
        raise ValueError(f"{name!r} is of type {array.dtype}; safetensors files hold {', '.join(_DTYPES)}")
    return np.ascontiguousarray(array, dtype=dtype).reshape(array.shape)
