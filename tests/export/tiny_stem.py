"""A stem of three convolutions, written down by hand."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def convolution_stem(channels: int = 6) -> onnx.ModelProto:
    """input.x (batch, 1, 8, 8) -> conv over raw input -> conv -> conv that makes the features."""
    rng = np.random.default_rng(0)
    sizes = [(channels, 1, 3, 3), (channels, channels, 3, 3), (4, channels, 4, 4)]
    weights = [(rng.normal(size=size) / np.sqrt(np.prod(size[1:]))).astype(np.float32) for size in sizes]
    nodes = [
        helper.make_node("Conv", ["input.x", "w0"], ["c0"], name="conv0"),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu0"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], name="conv1"),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="conv2"),
        helper.make_node("Squeeze", ["c2", "axes"], ["features.x"], name="squeeze"),
    ]
    graph = helper.make_graph(
        nodes,
        "stem",
        [helper.make_tensor_value_info("input.x", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("features.x", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)]
        + [numpy_helper.from_array(np.array([2, 3], np.int64), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    return model
