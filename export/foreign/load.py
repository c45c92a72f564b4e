"""A plain ONNX model read from a file that somebody else wrote, with all its weights in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import external_data_helper

from edgeemo.errors import CheckpointError

MAX_BYTES = 2**31 - 1  # of one protobuf message


def load_plain_model(path: Path) -> onnx.ModelProto:
    """Returns the model in ``path``; data that lies beside it is read into it.

    Raises:
        CheckpointError: not an ONNX model, of an opset or IR version that the installed onnx does not know,
            or with external data that is missing, too short or outside the model's folder.
    """
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except OSError as reason:
        raise CheckpointError(f"{path}: cannot be read ({reason.strerror or reason})") from None
    except Exception as reason:  # the protobuf backends have no common class for a parse error
        raise CheckpointError(f"{path}: not an ONNX model ({reason})") from None
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
    if opset is None or not model.graph.node or not model.graph.output:
        raise CheckpointError(f"{path}: not an ONNX model (it has no opset, no nodes or no outputs)")
    if opset > onnx.defs.onnx_opset_version() or model.ir_version > onnx.IR_VERSION:
        raise CheckpointError(
            f"{path}: opset {opset}, IR {model.ir_version}; onnx {onnx.__version__} knows opsets up to "
            f"{onnx.defs.onnx_opset_version()} and IR {onnx.IR_VERSION}. Export the model with a lower "
            "opset_version, or install a newer onnx"
        )
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _load_data(path, tensor)
    if model.ByteSize() > MAX_BYTES:
        raise CheckpointError(
            f"{path}: {model.ByteSize()} bytes with its weights; one ONNX file holds at most {MAX_BYTES}, "
            "and models of that size are not meant for the devices that this project serves"
        )
    try:
        onnx.checker.check_model(model)
    except Exception as reason:  # the checker raises several kinds
        said = " ".join(str(reason).split())
        raise CheckpointError(f"{path}: not a valid ONNX model ({said}); export it again") from None
    return model


def array_from_tensor(tensor: onnx.TensorProto) -> NDArray[np.float32]:
    """Returns the numbers of a FLOAT tensor.

    Raises:
        CheckpointError: it holds more or fewer than its shape needs.
    """
    try:
        array: NDArray[np.float32] = onnx.numpy_helper.to_array(tensor)
    except Exception as reason:  # numpy and onnx raise several kinds
        raise CheckpointError(
            f"the weight {tensor.name!r} {list(tensor.dims)} is damaged ({reason}); export the model again"
        ) from None
    return array


def _load_data(path: Path, tensor: onnx.TensorProto) -> None:
    """Reads the external data of ``tensor`` (changed in place), from inside the model's folder alone."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    parts = PurePosixPath(location.replace("\\", "/")).parts
    if not parts or ".." in parts or PurePosixPath(location).is_absolute() or ":" in parts[0]:
        raise CheckpointError(
            f"{path}: the data of {tensor.name!r} points to {location!r}, outside the model's folder; "
            "nothing there is read. Save the model with its weights inside, or with its data file beside it"
        )
    try:
        external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
        expected = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except Exception as reason:  # onnx raises what its C++ code, protobuf and the system raise
        raise CheckpointError(
            f"{path}: the data of {tensor.name!r} in {location!r} cannot be read ({reason}). Save the "
            "model with its weights inside, or copy the data file beside it (no link)"
        ) from None
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]
    for size in tensor.dims:
        expected *= size
    if len(tensor.raw_data) != expected:
        raise CheckpointError(
            f"{path}: the data of {tensor.name!r} in {location!r} has {len(tensor.raw_data)} bytes; "
            f"{list(tensor.dims)} needs {expected}. The file was cut off, or belongs to another model"
        )


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from ((attribute.t,) if attribute.HasField("t") else ())
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)
