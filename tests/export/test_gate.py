"""The gate: who fails, by name, and what it measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeemo.bundle import Bundle, SubsetSpec
from edgeemo.errors import GateError
from edgeemo.export import Checkpoint
from edgeemo.export.gate.judge import changed_labels, judge_engine, judge_stem
from edgeemo.export.gate.thresholds import Thresholds
from edgeemo.export.graph import bytes_from_model
from edgeemo.export.variants.fp16 import halve_floats
from edgeemo.runtimes import OrtRunner

TINY = Path(__file__).parents[1] / "data" / "tiny_checkpoint"
SPEC = SubsetSpec(1.0, (1 / 3,) * 3)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint.open(TINY)


@pytest.fixture(scope="module")
def exported(tiny_export: Path) -> Bundle:
    return Bundle.open(tiny_export)


def engine(bundle: Bundle, subset: str, variant: str) -> onnx.ModelProto:
    return onnx.load_model_from_string(bundle.read_engine(subset, variant).self_contained())


def stem(bundle: Bundle, modality: str, variant: str) -> onnx.ModelProto:
    return onnx.load_model_from_string(bundle.read_stem(modality, variant).self_contained())


@pytest.mark.parametrize(
    ("variant", "sentence"),
    [
        ("fp32", "deviates from the trained network"),
        ("int8", "root mean square error of 2"),
        ("fp16", "deviates from the trained network"),
        ("int8-trt", "root mean square error of 2"),
    ],
)
def test_a_failing_stem_is_named(
    exported: Bundle, checkpoint: Checkpoint, variant: str, sentence: str
) -> None:
    reference = dict(checkpoint.reference)
    reference["stem.audio.output"] = reference["stem.audio.output"] * np.float32(1.3)
    with pytest.raises(GateError, match=rf"the stem of audio \({variant}\).*{sentence}"):
        judge_stem(stem(exported, "audio", variant), "audio", variant, reference)


@pytest.mark.parametrize("variant", ["int8", "fp16", "int8-trt"])
def test_a_variant_is_judged_by_the_labels_it_changes(
    exported: Bundle, checkpoint: Checkpoint, variant: str
) -> None:
    spec = checkpoint.subsets["audio"]
    model = engine(exported, "audio", variant)
    assert judge_engine(model, "audio", variant, spec, checkpoint.reference).changed == 0
    reference = dict(checkpoint.reference)
    logits = np.array(reference["logits.audio"])
    logits[:40] = np.roll(logits[:40], 1, axis=1)
    reference["logits.audio"] = logits
    limits = Thresholds(max_fp16_deviation=10.0)
    with pytest.raises(
        GateError, match=rf"the engine audio \({variant}\) changes [\d.]+% of the labels of \d+ windows"
    ):
        judge_engine(model, "audio", variant, spec, reference, thresholds=limits)


def test_windows_without_a_margin_do_not_count(checkpoint: Checkpoint) -> None:
    spec = checkpoint.subsets["audio"]
    prior = np.log(np.asarray(spec.prior))
    close, clear = np.array([0.02, 0.0, -9.0]), np.array([2.0, 0.0, -9.0])
    expected = np.array([close, clear, clear, clear]) - prior
    found = np.array([close[[1, 0, 2]], clear, clear, clear[[1, 0, 2]]]) - prior
    changed, decided = changed_labels(found.astype(np.float32), expected.astype(np.float32), spec, 0.05)
    assert decided == 3
    assert changed == pytest.approx(1 / 3)


def toy(scale: float = 1.0, frame_scale: float = 1.0) -> onnx.ModelProto:
    """logits = scale * sum of features over time, frame_logits = frame_scale * features."""
    nodes = [
        helper.make_node("Mul", ["features.x", "mask.column"], ["seen"], name="seen"),
        helper.make_node("Unsqueeze", ["mask.x", "last"], ["mask.column"], name="column"),
        helper.make_node("Mul", ["seen", "up"], ["loud"], name="loud"),
        helper.make_node("ReduceSum", ["loud", "time"], ["sum"], name="sum", keepdims=0),
        helper.make_node("Mul", ["sum", "down"], ["logits"], name="logits"),
        helper.make_node("Mul", ["seen", "frame"], ["frame_logits"], name="frames"),
    ]
    graph = helper.make_graph(
        [nodes[1], nodes[0], *nodes[2:]],
        "toy",
        [
            helper.make_tensor_value_info("features.x", TensorProto.FLOAT, ["batch", 4, 3]),
            helper.make_tensor_value_info("mask.x", TensorProto.FLOAT, ["batch", 4]),
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("frame_logits", TensorProto.FLOAT, ["batch", 4, 3]),
        ],
        [
            numpy_helper.from_array(np.array([2], np.int64), "last"),
            numpy_helper.from_array(np.array([1], np.int64), "time"),
            numpy_helper.from_array(np.array([scale, scale], np.float32)[:1], "up"),
            numpy_helper.from_array(np.array([1 / scale], np.float32), "down"),
            numpy_helper.from_array(np.array([frame_scale], np.float32), "frame"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def toy_reference() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(64, 4, 3)).astype(np.float32)
    return {
        "features.x": features,
        "mask.x": np.ones((64, 4), np.float32),
        "logits.x": features.sum(axis=1),
        "frame_logits.x": features[:16],
    }


def test_overflow_is_found_that_onnxruntime_hides() -> None:
    """A product that fp16 cannot hold and that comes back below: fp32 between casts says all is well."""
    model = halve_floats(toy(scale=3e4))
    for tensor in model.graph.initializer:
        if tensor.name == "up":  # the bound for masks would hide what this test is about
            tensor.CopyFrom(numpy_helper.from_array(np.array([3e4], np.float16), "up"))
        if tensor.name == "down":
            tensor.CopyFrom(numpy_helper.from_array(np.array([1 / 3e4], np.float16), "down"))
    reference = toy_reference()
    feed = {name: reference[name] for name in ("features.x", "mask.x")}
    with OrtRunner(bytes_from_model(model)) as runner:
        assert np.isfinite(runner.run(feed)["logits"]).all()
    with pytest.raises(GateError, match=r"the engine x \(fp16\) .* reaches inf inside; expected less"):
        judge_engine(model, "x", "fp16", SPEC, reference)


def test_headroom_is_asked_for_before_anything_overflows() -> None:
    model = halve_floats(toy(scale=2e3))
    with pytest.raises(GateError, match=r"reaches 1?\d{4} inside"):
        judge_engine(model, "x", "fp16", SPEC, toy_reference())
    verdict = judge_engine(halve_floats(toy(scale=100.0)), "x", "fp16", SPEC, toy_reference())
    assert verdict.largest is not None
    assert 100 < verdict.largest < 2000
    assert verdict.deviation < 2e-3


def test_frame_logits_are_judged_too() -> None:
    verdict = judge_engine(toy(), "x", "fp32", SPEC, toy_reference())
    assert verdict.changed_frames == 0
    with pytest.raises(GateError, match=r"the engine x \(fp32\) .* deviates .* by 1\.0"):
        judge_engine(toy(frame_scale=-0.01), "x", "fp32", SPEC, toy_reference())
    with pytest.raises(GateError, match=r"the engine x \(int8\) changes .*% of the labels of decided frames"):
        judge_engine(toy(frame_scale=-1.0), "x", "int8", SPEC, toy_reference())


def test_an_answer_without_a_reference_is_refused() -> None:
    reference = toy_reference()
    del reference["frame_logits.x"]
    with pytest.raises(GateError, match="answers 'frame_logits', and the reference has nothing"):
        judge_engine(toy(), "x", "fp32", SPEC, reference)


def test_numbers_that_are_not_finite_fail() -> None:
    model = toy()
    for tensor in model.graph.initializer:
        if tensor.name == "down":
            tensor.CopyFrom(numpy_helper.from_array(np.array([np.nan], np.float32), "down"))
    for variant in ("fp32", "int8"):
        with pytest.raises(GateError, match=rf"the engine x \({variant}\) .* numbers that are not finite"):
            judge_engine(model, "x", variant, SPEC, toy_reference())
