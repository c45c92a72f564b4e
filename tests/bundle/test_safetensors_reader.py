"""Safetensors with numpy alone: agrees with the safetensors package, golden bytes, hostile files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeemo.bundle import bytes_from_tensors, read_tensors, tensors_from_bytes
from edgeemo.errors import BundleError, CheckpointError

DTYPES = ("<f8", "<f4", "<f2", "<i8", "<i4", "<i2", "|i1", "|u1", "|b1")
GOLDEN = (
    b'\x70\x00\x00\x00\x00\x00\x00\x00{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
    b'"b":{"dtype":"I8","shape":[3,1],"data_offsets":[8,11]}}   '
    b"\x00\x00\x80?\x00\x00\x00\xc0\x01\xff\x03"
)


def arrays_of_every_type() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {f"x{code[1:]}": rng.normal(size=(3, 2)).astype(code) for code in DTYPES}
    arrays["scalar"] = np.array(7, "<f4")
    arrays["empty"] = np.zeros((0, 4), "<f4")
    arrays["umläut.ž"] = np.arange(5, dtype="|i1")
    return arrays


def file_of(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_golden_bytes() -> None:
    arrays = {"b": np.array([[1], [-1], [3]], "|i1"), "a": np.array([1.0, -2.0], "<f4")}
    assert bytes_from_tensors(arrays) == GOLDEN
    read = tensors_from_bytes(GOLDEN, "golden")
    assert read["a"].tolist() == [1.0, -2.0]
    assert read["b"].shape == (3, 1)
    assert read["b"].dtype == np.int8


def test_order_of_the_arrays_does_not_matter() -> None:
    arrays = arrays_of_every_type()
    assert bytes_from_tensors(arrays) == bytes_from_tensors(dict(reversed(arrays.items())))


def test_agrees_with_the_safetensors_package(tmp_path: Path) -> None:
    theirs = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
    arrays = arrays_of_every_type()
    theirs.save_file(arrays, tmp_path / "theirs.safetensors", metadata={"format": "np"})
    ours = read_tensors(tmp_path / "theirs.safetensors")
    back = theirs.load(bytes_from_tensors(arrays))
    for name, array in arrays.items():
        for read in (ours[name], back[name]):
            assert read.dtype == array.dtype
            np.testing.assert_array_equal(read, array)


def test_big_endian_arrays_are_stored_little() -> None:
    big = np.array([1.5, -2.5], ">f4")
    np.testing.assert_array_equal(tensors_from_bytes(bytes_from_tensors({"x": big}), "x")["x"], big)


def test_views_are_read_only() -> None:
    read = tensors_from_bytes(GOLDEN, "golden")["a"]
    with pytest.raises(ValueError, match="read-only"):
        read[0] = 5


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HOSTILE = {
    "empty file": (b"", "0 bytes"),
    "header beyond the file": ((2**63).to_bytes(8, "little") + b"{}", "the header claims"),
    "truncated": (GOLDEN[:-1], "truncated"),
    "bytes behind": (GOLDEN + b"\0", "1 bytes behind the last tensor"),
    "not json": (b"\x02\x00\x00\x00\x00\x00\x00\x00xx", "not JSON"),
    "name twice": (b"\x0f\x00\x00\x00\x00\x00\x00\x00" + b'{"a":{},"a":{}}', "occurs twice"),
    "no dtype": (file_of({"a": {"shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8), "'dtype' is missing"),
    "brain float": (file_of({"a": F32 | {"dtype": "BF16"}}, b"\0" * 8), "'dtype' is 'BF16'; known: F64"),
    "negative shape": (file_of({"a": F32 | {"shape": [-2]}}, b"\0" * 8), "expected 0"),
    "shape too small": (file_of({"a": F32 | {"shape": [1]}}, b"\0" * 8), "needs 4 bytes, the offsets span 8"),
    "shape overflows": (file_of({"a": F32 | {"shape": [2**40, 2**40]}}, b"\0" * 8), "the offsets span 8"),
    "impossible shape": (
        file_of({"a": {"dtype": "F32", "shape": [2**52, 2**52, 0], "data_offsets": [0, 0]}}),
        "none that numpy can hold",
    ),
    "backwards": (file_of({"a": F32 | {"data_offsets": [8, 0]}}, b"\0" * 8), "needs 8 bytes"),
    "one offset": (file_of({"a": F32 | {"data_offsets": [0]}}, b"\0" * 8), "expected two data_offsets"),
    "beyond the data": (file_of({"a": F32 | {"data_offsets": [8, 16]}}, b"\0" * 8), "truncated"),
    "hole": (file_of({"a": F32 | {"data_offsets": [4, 12]}}, b"\0" * 12), "hole or overlap"),
    "overlap": (
        file_of({"a": F32, "b": F32 | {"data_offsets": [4, 12]}}, b"\0" * 12),
        "'b' starts at data byte 4; expected 8",
    ),
    "boolean shape": (file_of({"a": F32 | {"shape": [True, 2]}}, b"\0" * 8), "must be an integer"),
    "unknown field": (file_of({"a": F32 | {"stride": 1}}, b"\0" * 8), "unknown 'stride'"),
    "many dimensions": (file_of({"a": F32 | {"shape": [1] * 40 + [2]}}, b"\0" * 8), "at most 32 dimensions"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_with_a_sentence(name: str) -> None:
    data, sentence = HOSTILE[name]
    with pytest.raises(BundleError, match=sentence):
        tensors_from_bytes(data, "hostile.safetensors")


def test_the_error_class_is_the_callers(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.safetensors: cannot be read"):
        read_tensors(tmp_path / "absent.safetensors", CheckpointError)


def test_types_without_a_name_are_refused() -> None:
    with pytest.raises(ValueError, match="'x' is of type complex128"):
        bytes_from_tensors({"x": np.zeros(2, complex)})


@given(place=st.integers(0, len(GOLDEN) - 1), value=st.integers(0, 255), cut=st.integers(0, len(GOLDEN)))
def test_damaged_files_never_crash(place: int, value: int, cut: int) -> None:
    damaged = bytearray(GOLDEN[: cut or None])
    if place < len(damaged):
        damaged[place] = value
    try:
        tensors = tensors_from_bytes(bytes(damaged), "damaged")
    except BundleError:
        return
    assert sum(array.nbytes for array in tensors.values()) <= len(damaged)
