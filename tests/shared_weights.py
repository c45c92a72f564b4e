"""Two engines that share a tensor, small enough to change byte by byte."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SHARED: NDArray[np.float32] = np.linspace(-1, 1, 24 * 32, dtype=np.float32).reshape(24, 32)
OWN: dict[str, NDArray[np.float32]] = {
    "first": np.linspace(0, 1, 32 * 3, dtype=np.float32).reshape(32, 3),
    "second": np.linspace(1, 2, 32 * 3, dtype=np.float32).reshape(32, 3),
}


def model(name: str, shared: NDArray[np.float32] = SHARED) -> onnx.ModelProto:
    """logits = features @ shared @ own."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["features.audio", "shared"], ["hidden"]),
            helper.make_node("MatMul", ["hidden", "own"], ["logits"]),
        ],
        "engine",
        [helper.make_tensor_value_info("features.audio", TensorProto.FLOAT, ["batch", 24])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(shared, "shared"), numpy_helper.from_array(OWN[name], "own")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made)
    return made


def feed() -> dict[str, NDArray[np.float32]]:
    return {"features.audio": np.random.default_rng(1).standard_normal((2, 24)).astype(np.float32)}


def expected(name: str) -> NDArray[np.float32]:
    return np.asarray(feed()["features.audio"] @ SHARED @ OWN[name], np.float32)
