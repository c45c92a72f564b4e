"""A bundle of hand-made engines over a heart rate and a motion sensor, none of them edgeemo's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
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
from edgeemo.features.series import SeriesSpec
from edgeemo.modality import all_subsets, subset_members

LABELS = ("calm", "excited")
HEART = SeriesSpec(rate_hz=2.0, mean=(70.0,), std=(10.0,), low=(30.0,), high=(220.0,), stuck_s=8.0)
MOTION = SeriesSpec(channels=3, rate_hz=8.0, deadline_s=0.5, min_fill_s=1.0, stuck_s=2.0)
MODALITIES = (
    ModalitySpec(
        "heart_rate",
        HEART.to_json(),
        1,
        WindowSpec(8, 0.5, 4.0),
        StemSpec(1, 2, 1, "stream", (1,), "float32"),
    ),
    ModalitySpec(
        "motion", MOTION.to_json(), 3, WindowSpec(8, 0.25, 2.0), StemSpec(2, 0, 4, "stream", (3,), "float32")
    ),
)


def stem_bytes(spec: ModalitySpec) -> bytes:
    """A stem whose features are every `stride`-th item after the context: what came in can be seen."""
    stem, name = spec.stem, spec.name
    rows = stem.left_context + stem.block
    nodes = [helper.make_node("Slice", [f"input.{name}", "from", "to", "axis", "step"], [f"features.{name}"])]
    values = {"from": stem.left_context, "to": rows, "axis": 1, "step": stem.stride}
    constants = {key: np.array([value], np.int64) for key, value in values.items()}
    shape = ["batch", rows, *stem.item_shape]
    out = ["batch", stem.features_per_block, spec.feature_width]
    return _model(nodes, constants, {f"input.{name}": shape}, {f"features.{name}": out})


def engine_bytes(subset: str) -> bytes:
    """An engine whose logits are (0, sum of all features that are there)."""
    nodes: list[Any] = []
    inputs: dict[str, list[Any]] = {}
    sums = []
    for spec in MODALITIES:
        name = spec.name
        if name not in subset_members(subset):
            continue
        length = spec.window.length
        inputs[f"features.{name}"] = ["batch", length, spec.feature_width]
        inputs[f"mask.{name}"] = ["batch", length]
        nodes += [
            helper.make_node("Unsqueeze", [f"mask.{name}", "last"], [f"column.{name}"]),
            helper.make_node("Mul", [f"features.{name}", f"column.{name}"], [f"masked.{name}"]),
            helper.make_node("ReduceSum", [f"masked.{name}", "axes"], [f"sum.{name}"], keepdims=0),
        ]
        sums.append(f"sum.{name}")
    nodes += [
        helper.make_node("Sum", sums, ["total"]),
        helper.make_node("Unsqueeze", ["total", "last"], ["column"]),
        helper.make_node("MatMul", ["column", "weight"], ["logits"]),
    ]
    constants = {
        "last": np.array([-1], np.int64),
        "axes": np.array([1, 2], np.int64),
        "weight": np.array([[0.0, 1.0]], np.float32),
    }
    return _model(nodes, constants, inputs, {"logits": ["batch", len(LABELS)]})


def _model(
    nodes: list[Any], constants: dict[str, Any], inputs: dict[str, list[Any]], outputs: dict[str, list[Any]]
) -> bytes:
    def declare(shapes: dict[str, list[Any]]) -> list[Any]:
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()
        ]

    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "graph", declare(inputs), declare(outputs), tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def write_bundle(folder: Path, modalities: Sequence[ModalitySpec] = MODALITIES) -> Bundle:
    """Writes engines for every subset of the modalities."""
    files: dict[str, FileEntry] = {}
    engines: dict[str, dict[str, str]] = {}
    stems: dict[str, dict[str, str]] = {}
    keys = all_subsets([spec.name for spec in modalities])
    with BundleWriter(folder) as writer:
        for key in keys:
            name, files_entry = writer.add_graph(f"{key}.fp32", engine_bytes(key))
            engines[key], files[name] = {"fp32": name}, files_entry
        for spec in modalities:
            name, files_entry = writer.add_graph(f"stem.{spec.name}.fp32", stem_bytes(spec))
            stems[spec.name], files[name] = {"fp32": name}, files_entry
        return writer.commit(
            Manifest(
                model_id="body",
                family="by_hand",
                labels=LABELS,
                hop_s=0.5,
                modalities=tuple(modalities),
                subsets={key: SubsetSpec(1.0, (0.5, 0.5)) for key in keys},
                engines=engines,
                stems=stems,
                files=files,
                provenance=Provenance({}, {}, "by hand", 20, 10),
                licence=Licence("CC0", non_commercial=False, notice="none"),
            )
        )


def with_front_end(spec: ModalitySpec, **changes: Any) -> ModalitySpec:
    """Returns the modality with some of its front-end changed."""
    return replace(spec, front_end={**spec.front_end, **changes})
