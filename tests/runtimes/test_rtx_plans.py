"""TensorRT for RTX builds every engine and stem that is meant for GPUs, for four generations of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")

from onnx import TensorProto, helper, numpy_helper
from rtx_builder import build_plan

from edgeemo.bundle import Bundle
from edgeemo.export import export_bundle
from edgeemo.export.graph import bytes_from_model
from edgeemo.modality import all_subsets

LIVE = Path(__file__).resolve().parents[2] / "samples" / "checkpoints" / "live"
ORDER = ("audio", "video", "text")
VARIANTS = ("fp16", "int8-trt")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The checkpoint that ships, in what a GPU runs."""
    return Bundle.open(export_bundle(LIVE, tmp_path_factory.mktemp("live") / "b", variants=VARIANTS).bundle)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("subset", all_subsets(ORDER))
def test_every_engine_builds(live: Bundle, subset: str, variant: str) -> None:
    assert build_plan(live.read_engine(subset, variant).self_contained()) > 100_000


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("modality", ORDER)
def test_every_stem_builds(live: Bundle, modality: str, variant: str) -> None:
    assert build_plan(live.read_stem(modality, variant).self_contained()) > 100_000


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_networks_build_too(tiny_export: Path, variant: str) -> None:
    bundle = Bundle.open(tiny_export)
    for subset in ("audio", "audio+video+text"):
        assert build_plan(bundle.read_engine(subset, variant).self_contained()) > 1000


def test_what_it_does_not_read_is_refused() -> None:
    """The test would notice: dynamic quantization is what TensorRT lacks."""
    weight = np.ones((4, 4), np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"], name="quantize"),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="back"),
            helper.make_node("MatMul", ["d", "w"], ["y"], name="product"),
        ],
        "dynamic",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    with pytest.raises(ValueError, match="DynamicQuantizeLinear"):
        build_plan(bytes_from_model(model))
