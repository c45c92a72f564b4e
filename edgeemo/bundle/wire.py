"""Protocol buffers at the lowest level: the fields of one message, read without a schema.

The encoding (https://protobuf.dev/programming-guides/encoding): each field is a tag ``number << 3 | kind``
and a value; kind 0 is a varint, 1 eight bytes, 2 a length and that many bytes, 5 four bytes. Groups (3
and 4) are long gone and refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgeemo.errors import BundleError

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
_MAX_TAG = 2**32 - 1  # readers in C++ cut a longer one off, and would see another field than we do


def read_fields(data: memoryview) -> Iterator[tuple[int, int, memoryview, memoryview]]:
    """Yields the fields of a message as (number, value, payload, whole).

    ``value`` is the number of a varint field (unsigned, 64 bits) or -1; ``payload`` holds the bytes of any
    other field and is empty for a varint; ``whole`` is the field as it lies there, tag and all.

    Raises:
        BundleError: the message is truncated or is none.
    """
    position, end = 0, len(data)
    while position < end:
        begin = position
        tag, position = _varint(data, position)
        number, kind = tag >> 3, tag & 7
        value, start = -1, position
        if kind == VARINT:
            value, position = _varint(data, position)
            start = position
        elif kind == BYTES:
            length, start = _varint(data, position)
            position = start + length
        elif kind == EIGHT_BYTES:
            position += 8
        elif kind == FOUR_BYTES:
            position += 4
        else:
            raise BundleError(f"not a protobuf message: a field of kind {kind}")
        if tag > _MAX_TAG or number == 0 or position > end:
            raise BundleError("not a protobuf message: a field ends behind the message (truncated?)")
        yield number, value, data[start:position], data[begin:position]


def bytes_field(number: int, payload: bytes | memoryview) -> bytes:
    """Returns one length-delimited field."""
    return _varint_bytes(number << 3 | BYTES) + _varint_bytes(len(payload)) + bytes(payload)


def read_varints(data: memoryview) -> Iterator[int]:
    """Yields the numbers of a packed field.

    Raises:
        BundleError: the last number is cut off.
    """
    position = 0
    while position < len(data):
        value, position = _varint(data, position)
        yield value


def text_from(payload: memoryview) -> str:
    """Returns the text of a string field.

    Raises:
        BundleError: it is not UTF-8.
    """
    try:
        return str(payload, "utf-8")
    except UnicodeDecodeError as reason:
        raise BundleError(f"not UTF-8 text: {reason.reason} at byte {reason.start}") from None


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    if position < len(data) and data[position] < 0x80:  # most numbers are small
        return data[position], position + 1
    value = shift = 0
    for place in range(position, min(position + _MAX_VARINT_BYTES, len(data))):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place + 1
        shift += 7
    raise BundleError("not a protobuf message: a number is cut off or too long")


def _varint_bytes(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
