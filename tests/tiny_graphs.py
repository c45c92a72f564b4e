"""Real ONNX models with known answers, small enough to build inside a test."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

T, D, C = 40, 4, 7
WEIGHT: NDArray[np.float32] = np.linspace(-1, 1, D * C, dtype=np.float32).reshape(D, C)


def engine_bytes(*, rounds: int = 0, domain: str = "", sign: float = 1.0) -> bytes:
    """A one-modality engine: logits = (sum over time of features * mask) @ WEIGHT * sign.

    Args:
        rounds: 256x256 products whose result is multiplied by 0 and added, to make it slow.
        domain: of the last node; one that no backend knows makes a model that cannot be opened.
        sign: the answer's sign, to tell variants apart.
    """
    nodes = [
        helper.make_node("Unsqueeze", ["mask.audio", "last"], ["column"]),
        helper.make_node("Mul", ["features.audio", "column"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "middle"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "weight"], ["logits_only"]),
    ]
    tensors = {
        "last": np.array([-1], np.int64),
        "middle": np.array([1], np.int64),
        "weight": WEIGHT * np.float32(sign),
    }
    result = "logits_only"
    if rounds:
        tensors["big"] = np.full((256, 256), 1 / 256, np.float32)
        tensors["ones"] = np.ones((C, 256), np.float32)
        tensors["zero"] = np.zeros((256, C), np.float32)
        nodes.append(helper.make_node("MatMul", ["logits_only", "ones"], ["slow0"]))
        nodes.append(helper.make_node("MatMul", ["slow0", "big"], ["wide0"]))
        for step in range(rounds):
            nodes.append(helper.make_node("MatMul", ["big", "big"], [f"square{step}"]))
            nodes.append(helper.make_node("Add", [f"square{step}", f"wide{step}"], [f"grown{step}"]))
            nodes.append(helper.make_node("Softmax", [f"grown{step}"], [f"soft{step}"]))
            nodes.append(helper.make_node("ReduceSum", [f"soft{step}", "first"], [f"wide{step + 1}"]))
        tensors["first"] = np.array([0], np.int64)
        nodes.append(helper.make_node("MatMul", [f"wide{rounds}", "zero"], ["nothing"]))
        nodes.append(helper.make_node("Add", ["logits_only", "nothing"], ["logits_slow"]))
        result = "logits_slow"
    nodes.append(helper.make_node("Identity", [result], ["logits"], domain=domain))
    graph = helper.make_graph(
        nodes,
        "engine",
        [
            helper.make_tensor_value_info("features.audio", TensorProto.FLOAT, ["batch", T, D]),
            helper.make_tensor_value_info("mask.audio", TensorProto.FLOAT, ["batch", T]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", C])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    opsets = [helper.make_opsetid("", 20)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    if not domain:
        onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def expected_logits(features: NDArray[np.float32], mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """What `engine_bytes` computes."""
    pooled: NDArray[np.float32] = (features * mask[..., None]).sum(axis=1)
    return pooled @ WEIGHT


def feed(batch: int = 2) -> dict[str, NDArray[np.float32]]:
    """An input for `engine_bytes`, with a part of the window masked."""
    rng = np.random.default_rng(3)
    mask = np.ones((batch, T), np.float32)
    mask[:, : T // 2] = 0
    return {"features.audio": rng.standard_normal((batch, T, D)).astype(np.float32), "mask.audio": mask}
