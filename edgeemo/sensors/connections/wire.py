"""What a child process and its parent say to each other: length-prefixed messages over pipes.

Each message is a header of fixed size, a few bytes of JSON that say what follows, and the samples or
pixels as they lie in memory. Both ends are the same machine and the same version, so the bytes are native.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import EdgeEmoError
from edgeemo.sensors.base import Chunk

_HEADER = struct.Struct("=4sBIIdIQ")  # magic, kind, drops, overflows, time_s, bytes of JSON, bytes of data
_MAGIC = b"eemo"
_MOST_META = 1 << 20
_MOST_DATA = 1 << 29
_TYPES = frozenset("biuf")


class Kind(IntEnum):
    """What a message is."""

    OPENED = 1
    CHUNK = 2
    LOSSES = 3
    GONE = 4


@dataclass(frozen=True, eq=False)
class Message:
    """One message of a child.

    Attributes:
        kind: see `Kind`.
        time_s: capture time of a chunk on the child's `time.monotonic`.
        drops: chunks that the device lost since the last message.
        overflows: times that the driver reported losses since the last message.
        meta: of a chunk ``modality``, ``rate_hz`` and ``text`` or ``dtype`` and ``shape``; of the others
            what they tell.
        data: the samples or the frame of a chunk; None for words and for other messages.
    """

    kind: Kind
    time_s: float = 0.0
    drops: int = 0
    overflows: int = 0
    meta: dict[str, Any] = field(default_factory=dict)
    data: NDArray[Any] | None = None


class WireError(EdgeEmoError):
    """Catch it where a child speaks: what came is no message."""


def message_from_chunk(chunk: Chunk, *, drops: int = 0, overflows: int = 0) -> Message:
    """Returns the message that carries a chunk; its array is not copied."""
    meta: dict[str, Any] = {"modality": chunk.modality}
    if chunk.rate_hz:
        meta["rate_hz"] = chunk.rate_hz
    if isinstance(chunk.data, str):
        return Message(Kind.CHUNK, chunk.time_s, drops, overflows, {**meta, "text": chunk.data})
    data = np.ascontiguousarray(chunk.data)
    meta.update(dtype=data.dtype.str, shape=list(data.shape))
    return Message(Kind.CHUNK, chunk.time_s, drops, overflows, meta, data)


def chunk_from_message(message: Message, time_s: float) -> Chunk:
    """Returns the chunk that a message carries, stamped with a time on the parent's clock."""
    meta = message.meta
    data = str(meta["text"]) if message.data is None else message.data
    return Chunk(str(meta["modality"]), time_s, data, meta.get("rate_hz"))


def write_message(file: FileIO, message: Message) -> None:
    """Writes a message; waits while the other side does not read.

    Raises:
        OSError: the other side is gone.
    """
    meta = json.dumps(message.meta).encode() if message.meta else b""
    size = 0 if message.data is None else message.data.nbytes
    header = _HEADER.pack(
        _MAGIC, message.kind, message.drops, message.overflows, message.time_s, len(meta), size
    )
    _write(file, header + meta)
    if message.data is not None and size:
        _write(file, message.data.data.cast("B"))


def read_message(file: FileIO) -> Message | None:
    """Returns the next message, None at the end, also where it breaks off inside one.

    Raises:
        WireError: what came is no message.
    """
    header = bytearray(_HEADER.size)
    if not _fill(file, header):
        return None
    magic, kind, drops, overflows, time_s, meta_size, size = _HEADER.unpack(header)
    if magic != _MAGIC or meta_size > _MOST_META or size > _MOST_DATA:
        raise WireError(f"not a message: {bytes(header[:16])!r}")
    coded = bytearray(meta_size)
    if not _fill(file, coded):
        return None
    try:
        meta = json.loads(coded) if meta_size else {}
        data = _empty(meta, size) if size or "shape" in meta else None
        known = Kind(kind)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise WireError(f"not a message: {error}") from None
    if data is not None and size and not _fill(file, data.data.cast("B")):
        return None
    return Message(known, time_s, drops, overflows, meta, data)


def _empty(meta: dict[str, Any], size: int) -> NDArray[Any]:
    dtype = np.dtype(str(meta["dtype"]))
    shape = tuple(int(length) for length in meta["shape"])
    if dtype.kind not in _TYPES or min(shape, default=0) < 0 or int(np.prod(shape)) * dtype.itemsize != size:
        raise ValueError(f"{size} bytes for {dtype} of shape {shape}")
    return np.empty(shape, dtype)


def _write(file: FileIO, data: bytes | memoryview) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) or 0 :]


def _fill(file: FileIO, target: bytearray | memoryview) -> bool:
    """Fills the target; False where the end comes first."""
    left = memoryview(target)
    while left:
        count = file.readinto(left)
        if not count:
            return False
        left = left[count:]
    return True
