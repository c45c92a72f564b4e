"""What a checkpoint's graphs and reference answers must look like, given what it says about itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle.manifest import ModalitySpec
from edgeemo.bundle.tensors import Array
from edgeemo.errors import CheckpointError
from edgeemo.export.adapters.peft import check_tensor
from edgeemo.export.graph import io_shapes, weight_shapes
from edgeemo.modality import subset_members

if TYPE_CHECKING:
    import onnx

MIN_WINDOWS = 256
_COMMON = "common"

Shapes = Mapping[str, tuple[int | str, ...]]


def check_operators_exist(graph: onnx.ModelProto, where: str) -> None:
    """Raises `CheckpointError` where a node (named) is of an operator that ONNX does not have."""
    from onnx import defs

    opset = next(entry.version for entry in graph.opset_import if entry.domain in ("", "ai.onnx"))
    for node in graph.graph.node:
        if not defs.has(node.op_type, opset):
            raise CheckpointError(
                f"{where}: the node {node.name!r} is {node.op_type!r}, an operator that ONNX does not have "
                f"in opset {opset}; trace the network with another one in its place"
            )


def check_engine_graph(
    graph: onnx.ModelProto, where: str, members: Sequence[ModalitySpec], label_count: int
) -> None:
    """Raises `CheckpointError` unless a trunk's inputs and outputs are those of the engine contract.

    Evidence is there for every member or, where the network says nothing of the kind, for none.

    Args:
        graph: the trunk of one subset.
        where: its file, for messages.
        members: the modalities of the subset.
        label_count: C.
    """
    inputs: dict[str, tuple[int, ...]] = {}
    outputs: dict[str, tuple[int, ...]] = {"logits": (label_count,)}
    for modality in members:
        length = modality.window.length
        inputs[f"features.{modality.name}"] = (length, modality.feature_width)
        inputs[f"mask.{modality.name}"] = (length,)
        if has_evidence(graph):
            outputs[f"evidence.{modality.name}"] = (label_count,)
    found = io_shapes(graph.graph.output)
    found.pop("frame_logits", None)
    _compare(where, "inputs", io_shapes(graph.graph.input), inputs)
    _compare(where, "outputs", found, outputs)


def has_evidence(graph: onnx.ModelProto) -> bool:
    """Tells whether an engine says what each modality adds to its logits."""
    return any(value.name.startswith("evidence.") for value in graph.graph.output)


def check_stem_graph(graph: onnx.ModelProto, where: str, modality: ModalitySpec) -> None:
    """Raises `CheckpointError` unless a stem's input and output have the shapes that its modality says."""
    stem = modality.stem
    items = stem.left_context + stem.block
    _compare(
        where, "inputs", io_shapes(graph.graph.input), {f"input.{modality.name}": (items, *stem.item_shape)}
    )
    _compare(
        where,
        "outputs",
        io_shapes(graph.graph.output),
        {f"features.{modality.name}": (stem.features_per_block, modality.feature_width)},
    )


def check_reference(
    where: str,
    reference: Mapping[str, Array],
    modalities: Sequence[ModalitySpec],
    engine_graphs: Mapping[str, onnx.ModelProto],
    label_count: int,
) -> None:
    """Raises `CheckpointError` unless the reference holds every array, of its shape, and finite.

    Args:
        where: the file, for messages.
        reference: what it holds.
        modalities: of the checkpoint.
        engine_graphs: subset -> graph; evidence is expected of those that give it.
        label_count: C.
    """
    first = reference.get(f"features.{modalities[0].name}")
    windows = (0,) if first is None else first.shape[:1]
    expected: dict[str, tuple[tuple[int, ...], str]] = {}
    for modality in modalities:
        name, window, stem = modality.name, modality.window, modality.stem
        expected[f"features.{name}"] = ((*windows, window.length, modality.feature_width), "float16")
        expected[f"mask.{name}"] = ((*windows, window.length), "float16")
        blocks = reference[f"stem.{name}.input"].shape[:1] if f"stem.{name}.input" in reference else (1,)
        items = (*blocks, stem.left_context + stem.block, *stem.item_shape)
        expected[f"stem.{name}.input"] = (items, stem.dtype)
        features = (*blocks, stem.features_per_block, modality.feature_width)
        expected[f"stem.{name}.output"] = (features, "float32")
    for subset, graph in engine_graphs.items():
        expected[f"logits.{subset}"] = ((*windows, label_count), "float32")
        for name in subset_members(subset) if has_evidence(graph) else ():
            expected[f"evidence.{subset}.{name}"] = ((*windows, label_count), "float32")
        frames, key = io_shapes(graph.graph.output).get("frame_logits"), f"frame_logits.{subset}"
        if frames is not None and key in reference:  # checkpoints of before have none
            rows = min(len(reference[key]), *windows)
            expected[key] = ((rows, *(int(size) for size in frames[1:])), "float32")
    _compare_names(where, "tensor", set(reference), set(expected))
    for name, (shape, dtype) in expected.items():
        array = reference[name]
        if array.shape != shape or array.dtype != np.dtype(dtype):
            raise CheckpointError(
                f"{where}: {name!r} is {array.dtype} {list(array.shape)}; expected {dtype} {list(shape)}"
            )
        if not np.isfinite(array).all():
            raise CheckpointError(f"{where}: {name!r} holds numbers that are not finite")
    if windows[0] < MIN_WINDOWS:
        raise CheckpointError(f"{where}: {windows[0]} windows; expected at least {MIN_WINDOWS}")


def check_weights(
    where: str,
    weights: Mapping[str, NDArray[np.float32]],
    engine_graphs: Mapping[str, onnx.ModelProto],
    stem_graphs: Mapping[str, onnx.ModelProto],
) -> None:
    """Raises `CheckpointError` unless every initializer has its weight and every weight an initializer.

    Args:
        where: the weights' file, for messages.
        weights: by name.
        engine_graphs: subset -> graph.
        stem_graphs: modality -> graph.
    """
    used: set[str] = set()
    graphs = [(f"the graph of {key}", graph) for key, graph in engine_graphs.items()]
    graphs += [(f"the stem of {key}", graph) for key, graph in stem_graphs.items()]
    for what, graph in graphs:
        for name, shape in weight_shapes(graph).items():
            used.add(name)
            if name not in weights:
                raise CheckpointError(
                    f"{where}: missing tensor {name!r} {list(shape)}, which {what} needs; save graphs and "
                    "weights of one network together"
                )
            check_tensor(f"{where}: {name!r}", weights[name], shape)
    extra = sorted(set(weights) - used)
    if extra:
        raise CheckpointError(
            f"{where}: extra tensor {extra[0]!r} (of {len(extra)}): no graph of the checkpoint has an "
            "initializer of that name; save graphs and weights of one network together"
        )


def check_adapted(
    adapters: Mapping[str, Collection[str]], engine_graphs: Mapping[str, onnx.ModelProto]
) -> None:
    """Raises `CheckpointError` where an adapter changes a module that its graph does not have.

    Args:
        adapters: subset, or ``"common"`` -> the modules that it adapts.
        engine_graphs: subset -> graph.
    """
    shapes = {key: set(weight_shapes(graph)) for key, graph in engine_graphs.items()}
    for name, modules in adapters.items():
        known = set().union(*shapes.values()) if name == _COMMON else shapes[name]
        extra = sorted(module for module in modules if f"{module}.weight" not in known)
        if extra:
            raise CheckpointError(
                f"the adapter {name!r} adapts {extra[0]!r}, which is not in its graph; is it the adapter of "
                "another subset?"
            )


def _compare(where: str, what: str, found: Shapes, expected: Mapping[str, tuple[int, ...]]) -> None:
    _compare_names(where, what.removesuffix("s"), set(found), set(expected))
    for name, shape in expected.items():
        dims = found[name]
        if not dims or dims[1:] != shape or not isinstance(dims[0], str):
            raise CheckpointError(
                f"{where}: {name!r} has shape {list(dims)}; expected ['batch', {', '.join(map(str, shape))}]"
            )


def _compare_names(where: str, what: str, found: set[str], expected: set[str]) -> None:
    missing, extra = sorted(expected - found), sorted(found - expected)
    if missing:
        raise CheckpointError(f"{where}: missing {what} {missing[0]!r}; found: {', '.join(sorted(found))}")
    if extra:
        raise CheckpointError(f"{where}: extra {what} {extra[0]!r}; expected: {', '.join(sorted(expected))}")
