"""A file that proves itself: a line of JSON about what it holds, then bytes whose SHA-256 that line gives."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeemo.bundle.disk import write_file
from edgeemo.errors import BackendError

MAGIC = b"edgeemo sealed 1\n"
_MAX_HEADER_BYTES = 65536


def write_sealed(place: Path, header: Mapping[str, Any], payload: bytes) -> None:
    """Writes a file that is there whole or not at all.

    Args:
        place: its path; the folder exists.
        header: what to say about the payload; ``sha256`` and ``bytes`` are added.
        payload: what to keep.

    Raises:
        OSError: the disk refuses; what was at ``place`` still is.
    """
    said = {**header, "sha256": hashlib.sha256(payload).hexdigest(), "bytes": len(payload)}
    line = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    write_file(place, b"".join((MAGIC, line, b"\n", payload)))


def read_header(place: Path) -> dict[str, Any]:
    """Returns what a file says about its payload, which is not read.

    Raises:
        BackendError: no such file, or it is of another kind or cut short.
    """
    try:
        with place.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return _parse(place, file.read(len(MAGIC)), file.readline(_MAX_HEADER_BYTES), file.tell(), size)
    except OSError as error:
        raise BackendError(f"{place} cannot be read: {error.strerror or error}") from None


def read_sealed(place: Path) -> tuple[dict[str, Any], memoryview]:
    """Returns header and payload, verified.

    Raises:
        BackendError: as `read_header`; or the payload is not what the header promises.
    """
    try:
        data = place.read_bytes()
    except OSError as error:
        raise BackendError(f"{place} cannot be read: {error.strerror or error}") from None
    end = data.find(b"\n", len(MAGIC), len(MAGIC) + _MAX_HEADER_BYTES) + 1
    header = _parse(place, data[: len(MAGIC)], data[len(MAGIC) : end], end, len(data))
    payload = memoryview(data)[end:]
    if hashlib.sha256(payload).hexdigest() != header["sha256"]:
        raise BackendError(f"{place} is damaged: its SHA-256 is not what it promises")
    return header, payload


def _parse(place: Path, magic: bytes, line: bytes, start: int, size: int) -> dict[str, Any]:
    if magic != MAGIC or not line.endswith(b"\n"):
        raise BackendError(f"{place} is no file of this kind, or of another version")
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not isinstance(header, dict) or not isinstance(header.get("sha256"), str):
        raise BackendError(f"{place} is damaged: it says nothing readable about itself")
    if header.get("bytes") != size - start:
        raise BackendError(
            f"{place} is damaged: it promises {header.get('bytes')} bytes and holds {size - start}"
        )
    return header
