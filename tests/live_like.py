"""A seven-engine bundle with the real front-ends and linear networks, for tests that need no training.

Each stem is one matrix: the audio stem sums groups of eight frames and half of the group before, the
video stem takes a whole crop, the text stem sums the table rows of a word. Each engine adds one matrix
of masked means for each modality, so every answer can be computed by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeemo.bundle import (
    Bundle,
    BundleWriter,
    FileEntry,
    Licence,
    Manifest,
    ModalitySpec,
    Provenance,
    StemSpec,
    SubsetSpec,
    WindowSpec,
)
from edgeemo.features.audio import LogMelSpec
from edgeemo.features.face import FaceSpec
from edgeemo.features.text import TextSpec
from edgeemo.modality import all_subsets, subset_members

LABELS = ("neutral", "happy", "sad", "angry", "fear", "disgust", "surprise")
ORDER = ("audio", "video", "text")
D = 4
TEXT_SPEC = TextSpec(word_buckets=61, pair_buckets=17, ngram_buckets=31)
MODALITIES = (
    ModalitySpec(
        "audio",
        LogMelSpec().to_json(),
        D,
        WindowSpec(40, 0.1, 4.0),
        StemSpec(8, 8, 40, "stream", (64,), "float32"),
    ),
    ModalitySpec(
        "video",
        FaceSpec().to_json(),
        D,
        WindowSpec(16, 0.25, 4.0),
        StemSpec(1, 0, 1, "stream", (48, 48), "float32"),
    ),
    ModalitySpec(
        "text",
        TEXT_SPEC.to_json(),
        D,
        WindowSpec(32, 0.0, 10.0),
        StemSpec(1, 0, 32, "window", (TEXT_SPEC.ids_per_word,), "int64"),
    ),
)
PRIOR = (0.2, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1)
TEMPERATURE = 1.5

Weights = dict[str, NDArray[np.float32]]


def make_weights(seed: int = 0) -> Weights:
    """The matrices of all stems (``stem.<m>``) and of the heads (``head.<m>``)."""
    rng = np.random.default_rng(seed)
    shapes = {
        "stem.audio": (64, D),
        "stem.video": (48 * 48, D),
        "stem.text": (TEXT_SPEC.rows, D),
        **{f"head.{name}": (D, len(LABELS)) for name in ORDER},
    }
    weights = {
        name: (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        for name, shape in shapes.items()
    }
    weights["stem.text"] *= np.float32(np.sqrt(TEXT_SPEC.rows))
    return weights


def _as_it_is(name: str, model: bytes) -> bytes:
    return model


def write_live_like(
    folder: Path,
    *,
    variants: tuple[str, ...] = ("fp32",),
    weights: Weights | None = None,
    change: Callable[[str, bytes], bytes] = _as_it_is,
) -> Bundle:
    """Writes the bundle; every variant computes the same, under its own name.

    Args:
        folder: where it lies.
        variants: of engines and stems.
        weights: as `make_weights` gives them.
        change: takes a graph's name, such as ``stem.audio.fp32``, and its model; returns the model to write.
    """
    weights = weights or make_weights()
    files: dict[str, FileEntry] = {}
    engines: dict[str, dict[str, str]] = {}
    stems: dict[str, dict[str, str]] = {}
    with BundleWriter(folder) as writer:
        for subset in all_subsets(ORDER):
            for variant in variants:
                name, files[name] = _added(
                    writer, f"{subset}.{variant}", change, _engine(subset, weights, variant)
                )
                engines.setdefault(subset, {})[variant] = name
        for modality in MODALITIES:
            for variant in variants:
                graph = f"stem.{modality.name}.{variant}"
                name, files[name] = _added(writer, graph, change, _stem(modality.name, weights, variant))
                stems.setdefault(modality.name, {})[variant] = name
        return writer.commit(
            Manifest(
                model_id="live-like",
                family="by_hand",
                labels=LABELS,
                hop_s=0.5,
                modalities=MODALITIES,
                subsets={subset: SubsetSpec(TEMPERATURE, PRIOR) for subset in engines},
                engines=engines,
                stems=stems,
                files=files,
                provenance=Provenance({}, {}, "by hand", 20, 10),
                licence=Licence("CC0", non_commercial=False, notice="random weights for tests"),
            )
        )


def _added(
    writer: BundleWriter, graph: str, change: Callable[[str, bytes], bytes], data: bytes
) -> tuple[str, FileEntry]:
    return writer.add_graph(graph, change(graph, data))


def _stem(modality: str, weights: Weights, variant: str) -> bytes:
    source, result = f"input.{modality}", f"features.{modality}"
    tensors: dict[str, NDArray[np.generic]] = {
        "weight": weights[f"stem.{modality}"],
        "axis": np.array([2], np.int64),
    }
    if modality == "audio":
        shape: list[int | str] = ["batch", 48, 64]
        items, kind = 5, TensorProto.FLOAT
        tensors |= {
            "groups": np.array([0, 6, 8, 64], np.int64),
            "half": np.array([0.5], np.float32),
            "one": np.array([1], np.int64),
            "from0": np.array([0], np.int64),
            "to5": np.array([5], np.int64),
            "to6": np.array([6], np.int64),
        }
        nodes = [
            helper.make_node("Reshape", [source, "groups"], ["grouped"]),
            helper.make_node("ReduceMean", ["grouped", "axis"], ["means"], keepdims=0),
            helper.make_node("Slice", ["means", "from0", "to5", "one"], ["before"]),
            helper.make_node("Slice", ["means", "one", "to6", "one"], ["now"]),
            helper.make_node("Mul", ["before", "half"], ["halved"]),
            helper.make_node("Add", ["now", "halved"], ["summed"]),
            helper.make_node("MatMul", ["summed", "weight"], [result]),
        ]
    elif modality == "video":
        shape, items, kind = ["batch", 1, 48, 48], 1, TensorProto.FLOAT
        tensors["flat"] = np.array([0, 1, 48 * 48], np.int64)
        nodes = [
            helper.make_node("Reshape", [source, "flat"], ["crop"]),
            helper.make_node("MatMul", ["crop", "weight"], [result]),
        ]
    else:
        shape, items, kind = ["batch", 32, TEXT_SPEC.ids_per_word], 32, TensorProto.INT64
        nodes = [
            helper.make_node("Gather", ["weight", source], ["rows"]),
            helper.make_node("ReduceSum", ["rows", "axis"], [result], keepdims=0),
        ]
    inputs = [helper.make_tensor_value_info(source, kind, shape)]
    outputs = [helper.make_tensor_value_info(result, TensorProto.FLOAT, ["batch", items, D])]
    return _model(nodes, inputs, outputs, tensors, f"stem.{modality}.{variant}")


def _engine(subset: str, weights: Weights, variant: str) -> bytes:
    tensors: dict[str, NDArray[np.generic]] = {
        "last": np.array([-1], np.int64),
        "middle": np.array([1], np.int64),
    }
    nodes, inputs, outputs, parts = [], [], [], []
    for spec in (spec for spec in MODALITIES if spec.name in subset_members(subset)):
        m = spec.name
        tensors[f"head.{m}"] = weights[f"head.{m}"]
        inputs += [
            helper.make_tensor_value_info(
                f"features.{m}", TensorProto.FLOAT, ["batch", spec.window.length, D]
            ),
            helper.make_tensor_value_info(f"mask.{m}", TensorProto.FLOAT, ["batch", spec.window.length]),
        ]
        outputs.append(
            helper.make_tensor_value_info(f"evidence.{m}", TensorProto.FLOAT, ["batch", len(LABELS)])
        )
        parts.append(f"evidence.{m}")
        nodes += [
            helper.make_node("Unsqueeze", [f"mask.{m}", "last"], [f"column.{m}"]),
            helper.make_node("Mul", [f"features.{m}", f"column.{m}"], [f"masked.{m}"]),
            helper.make_node("ReduceSum", [f"masked.{m}", "middle"], [f"sum.{m}"], keepdims=0),
            helper.make_node("ReduceSum", [f"mask.{m}", "middle"], [f"count.{m}"], keepdims=1),
            helper.make_node("Div", [f"sum.{m}", f"count.{m}"], [f"mean.{m}"]),
            helper.make_node("MatMul", [f"mean.{m}", f"head.{m}"], [f"evidence.{m}"]),
        ]
    nodes.append(helper.make_node("Sum", parts, ["logits"]))
    outputs.insert(0, helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(LABELS)]))
    return _model(nodes, inputs, outputs, tensors, f"{subset}.{variant}")


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    tensors: dict[str, NDArray[np.generic]],
    name: str,
) -> bytes:
    initializers = [numpy_helper.from_array(array, key) for key, array in tensors.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data
