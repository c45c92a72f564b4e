"""Writes a PyTorch module down as an ONNX graph without weights.

The graph is the contract with the exporter: every initializer keeps the name that the weight has in
``model.safetensors``, is marked as external and holds no data. The tracer's notes (stack traces,
scopes, intermediate shapes) are removed; they are half a megabyte a graph and quote source paths.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from edgeemo.errors import TrainingError
from edgeemo.training.answer import Answer

OPSET = 20
IR_VERSION = 10
WEIGHTS_FILE = "model.safetensors"
# A tensor above this many elements must be a weight or a named buffer, never an inline constant.
LARGEST_CONSTANT = 64


class SubsetGraph(nn.Module):
    """The trunk of one subset as a function of positional tensors; its weights are ``trunk.*``."""

    def __init__(self, trunk: nn.Module, members: Sequence[str]) -> None:
        super().__init__()
        self.trunk = trunk
        self.members = tuple(members)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Returns logits, frame logits of a temporal trunk, then the evidence of each member.

        Args:
            *inputs: features, mask, features, mask...
        """
        features = dict(zip(self.members, inputs[0::2], strict=True))
        masks = dict(zip(self.members, inputs[1::2], strict=True))
        if not is_temporal(self.trunk):
            logits, evidence = self.trunk(features, masks)
            return (logits, *(evidence[m] for m in self.members))
        answer: Answer = self.trunk.answer(features, masks)
        frames = () if answer.frame_logits is None else (answer.frame_logits,)
        return (answer.logits, *frames, *(answer.evidence[m] for m in self.members))


class StemGraph(nn.Module):
    """The stem of one modality; its weights are ``stem.<modality>.*``."""

    def __init__(self, stem: nn.Module, modality: str) -> None:
        super().__init__()
        self.stem = nn.ModuleDict({modality: stem})
        self.modality = modality

    def forward(self, items: Tensor) -> Tensor:
        """Returns features (B, n, D)."""
        features: Tensor = self.stem[self.modality](items)
        return features


def is_temporal(trunk: nn.Module) -> bool:
    """Returns whether a trunk labels the frames of a window besides the window itself."""
    return bool(getattr(trunk, "temporal", False))


def graph_from_trunk(trunk: nn.Module, members: Sequence[str]) -> onnx.ModelProto:
    """Returns the graph of one subset's trunk: inputs and outputs of the engine contract."""
    inputs: list[Tensor] = []
    names: list[str] = []
    for m in members:
        length, width = trunk.lengths[m], trunk.widths[m]
        inputs += [torch.zeros(2, length, width), torch.ones(2, length)]
        names += [f"features.{m}", f"mask.{m}"]
    frames = ["frame_logits"] if is_temporal(trunk) else []
    outputs = ["logits", *frames, *(f"evidence.{m}" for m in members)]
    return graph_from_module(SubsetGraph(trunk, members), inputs, names, outputs)


def graph_from_stem(stem: nn.Module, modality: str, example: Tensor) -> onnx.ModelProto:
    """Returns the graph of a stem: ``input.<m>`` (B, items, *item) -> ``features.<m>`` (B, n, D)."""
    names, outputs = [f"input.{modality}"], [f"features.{modality}"]
    return graph_from_module(StemGraph(stem, modality), [example], names, outputs)


def graph_from_module(
    module: nn.Module, inputs: Sequence[Tensor], input_names: Sequence[str], output_names: Sequence[str]
) -> onnx.ModelProto:
    """Returns a module as an ONNX graph without weights, with a symbolic batch as first dimension.

    Args:
        module: the network; it is traced in eval mode and left in it.
        inputs: example tensors, batch of at least 2 (a batch of 1 would be taken for a constant).
        input_names: one for each input.
        output_names: one for each output.

    Raises:
        TrainingError: the graph has another opset or IR than promised, or a large constant that is
            neither a parameter nor a buffer.
    """
    module.eval()
    batch = torch.export.Dim("batch", min=1)
    each = tuple({0: batch} for _ in inputs)
    shapes = (each,) if isinstance(module, SubsetGraph) else each  # the trunk gathers them with *inputs
    with _quiet_tracer(), torch.no_grad():
        program = torch.onnx.export(
            module,
            tuple(inputs),
            dynamo=True,
            optimize=False,
            opset_version=OPSET,
            input_names=list(input_names),
            output_names=list(output_names),
            dynamic_shapes=shapes,
            verbose=False,
        )
    model = program.model_proto
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if versions != {"": OPSET} or model.ir_version != IR_VERSION:
        raise TrainingError(
            f"the traced graph has opsets {versions} and IR {model.ir_version}; "
            f"expected opset {OPSET} alone and IR {IR_VERSION}. Is this another version of torch?"
        )
    strip_weights(model, {*module.state_dict()})
    strip_notes(model)
    _name_batch(model)
    return model


def strip_weights(model: onnx.ModelProto, names: set[str]) -> None:
    """Marks every initializer of ``names`` as external and drops its data (changes ``model``).

    Raises:
        TrainingError: an initializer or constant that is no weight is larger than `LARGEST_CONSTANT`.
    """
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    for tensor in kept:
        if tensor.name not in names:
            _check_constant(tensor.name, tensor)
        if tensor.name not in names or tensor.data_type != onnx.TensorProto.FLOAT:
            continue  # a buffer of integers, such as positions, is part of the graph
        for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data"):
            tensor.ClearField(field)
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=WEIGHTS_FILE)
    del model.graph.initializer[:]
    model.graph.initializer.extend(sorted(kept, key=lambda tensor: tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _check_constant(node.output[0], attribute.t)


def _check_constant(name: str, tensor: onnx.TensorProto) -> None:
    elements = 1
    for size in tensor.dims:
        elements *= size
    if elements > LARGEST_CONSTANT:
        raise TrainingError(
            f"constant {name} has {elements} elements (at most {LARGEST_CONSTANT} may stay in a graph); "
            "register it as a buffer of the module, so that it is saved under a name"
        )


def strip_notes(model: onnx.ModelProto) -> None:
    """Removes doc strings, metadata and intermediate shapes (changes ``model``)."""
    graph = model.graph
    del graph.value_info[:]
    for holder in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        holder.ClearField("doc_string")
        del holder.metadata_props[:]
    for node in graph.node:
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
            if attribute.type == onnx.AttributeProto.TENSOR:
                attribute.t.ClearField("doc_string")
                del attribute.t.metadata_props[:]


def _name_batch(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


@contextmanager
def _quiet_tracer() -> Iterator[None]:
    """Keeps the tracer's warnings about its own internals, and about torchvision, off the terminal."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
            yield
    finally:
        logger.setLevel(level)


def weights_from_module(module: nn.Module, prefix: str) -> dict[str, Any]:
    """Returns parameters and buffers as float32 arrays (integers stay), named ``<prefix>.<name>``.

    Children that the module lists as ``training_only`` are left out: no graph needs them.
    """
    left_out = getattr(module, "training_only", ())
    state: dict[str, Any] = {}
    for name, tensor in module.state_dict().items():
        if name.split(".")[0] in left_out:
            continue
        value = tensor.detach().cpu()
        state[f"{prefix}.{name}"] = (
            (value.float() if value.is_floating_point() else value).contiguous().numpy()
        )
    return state
