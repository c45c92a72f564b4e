"""The ``config.pbtxt`` of a model that runs a graph: inputs, outputs, batches, instances, where it is from.

Fields as in Triton's ``model_config.proto``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from edgeemo.errors import ExportError
from edgeemo.export.graph import io_shapes
from edgeemo.export.triton.options import ServingOptions
from edgeemo.export.triton.pbtxt import Message, Value, Word, parameters, pbtxt_from_message

LABELS_FILE = "labels.txt"
PROBABILITIES = "probabilities"
_TYPES = {
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.FLOAT16: "TYPE_FP16",
    onnx.TensorProto.DOUBLE: "TYPE_FP64",
    onnx.TensorProto.INT8: "TYPE_INT8",
    onnx.TensorProto.UINT8: "TYPE_UINT8",
    onnx.TensorProto.INT32: "TYPE_INT32",
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.BOOL: "TYPE_BOOL",
}


@dataclass(frozen=True)
class TensorConfig:
    """An input or output of a model of the server.

    Attributes:
        name: such as ``features.audio``.
        data_type: in Triton's words, such as ``TYPE_FP32``.
        dims: without the batch; -1 for one that the caller chooses.
    """

    name: str
    data_type: str
    dims: tuple[int, ...]

    def message(self) -> Message:
        """Returns the fields of ``ModelInput`` or ``ModelOutput``."""
        fields: dict[str, Value] = {
            "name": self.name,
            "data_type": Word(self.data_type),
            "dims": list(self.dims),
        }
        if self.name == PROBABILITIES:
            fields["label_filename"] = LABELS_FILE
        return fields


def inputs_of(model: onnx.ModelProto) -> tuple[TensorConfig, ...]:
    """Returns the inputs of a graph whose first dimension is the batch."""
    return _tensors(model.graph.input)


def outputs_of(model: onnx.ModelProto) -> tuple[TensorConfig, ...]:
    """Returns the outputs of a graph whose first dimension is the batch."""
    return _tensors(model.graph.output)


def graph_config(
    name: str,
    inputs: Sequence[TensorConfig],
    outputs: Sequence[TensorConfig],
    options: ServingOptions,
    provenance: Mapping[str, str],
) -> str:
    """Returns the configuration of a model that runs a graph.

    Args:
        name: of the model, which is its folder's.
        inputs: of its graph.
        outputs: of its graph.
        options: how it is served.
        provenance: what it was made from, kept as parameters that a client can ask for.
    """
    kind = "KIND_GPU" if options.instance_group == "gpu" else "KIND_CPU"
    own = dict(provenance)
    if options.backend == "onnxruntime":
        # Instances, not threads, fill the cores: the networks are small.
        own |= {"intra_op_thread_count": "1"}
    fields: dict[str, Value] = {
        "name": name,
        "backend": options.backend,
        "max_batch_size": options.max_batch,
        "input": [tensor.message() for tensor in inputs],
        "output": [tensor.message() for tensor in outputs],
        "version_policy": {"latest": {"num_versions": 1}},
        "instance_group": [{"count": options.instances, "kind": Word(kind)}],
    }
    if options.preferred_batches:
        fields["dynamic_batching"] = {
            "preferred_batch_size": list(options.preferred_batches),
            "max_queue_delay_microseconds": options.max_queue_delay_us,
        }
    fields["parameters"] = parameters(own)
    return pbtxt_from_message(fields)


def _tensors(values: Sequence[onnx.ValueInfoProto]) -> tuple[TensorConfig, ...]:
    shapes = io_shapes(values)
    found = []
    for value in values:
        number, shape = value.type.tensor_type.elem_type, shapes[value.name]
        if number not in _TYPES or not shape or not isinstance(shape[0], str):
            raise ExportError(
                f"the value {value.name!r} of type {number} and shape {list(shape)} cannot be served; "
                "expected numbers, and a batch of any size as the first dimension"
            )
        dims = tuple(size if isinstance(size, int) else -1 for size in shape[1:])
        found.append(TensorConfig(value.name, _TYPES[number], dims))
    return tuple(found)
