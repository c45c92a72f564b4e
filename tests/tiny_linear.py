"""Small networks of linear layers as plain ONNX files, and adapters for them, without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeemo.bundle import bytes_from_tensors

Array = NDArray[np.float32]

KINDS = ("transpose", "gemm", "conv1d", "folded")
"""How exporters write a layer: MatMul behind a Transpose, Gemm, Gemm of a weight stored (in, out), and a
MatMul whose weight was transposed and renamed, so that only the node's name tells the module."""


@dataclass(frozen=True)
class Layer:
    """One linear layer: its module name, its weight (out, in), its bias (out,) and how it is written."""

    name: str
    weight: Array
    bias: Array
    kind: str = "transpose"

    def stored(self) -> tuple[str, Array]:
        """Returns name and numbers of its initializer."""
        if self.kind == "folded":
            return f"onnx::MatMul_{self.name}", np.ascontiguousarray(self.weight.T)
        turned = self.kind == "conv1d"
        return f"{self.name}.weight", np.ascontiguousarray(self.weight.T) if turned else self.weight

    def nodes(self, x: str, y: str) -> list[onnx.NodeProto]:
        """Returns ``y = W x + b``."""
        weight, inner = self.stored()[0], f"{y}.product"
        if self.kind in ("gemm", "conv1d"):
            gemm = helper.make_node(
                "Gemm", [x, weight, f"{self.name}.bias"], [y], transB=int(self.kind == "gemm")
            )
            return [gemm]
        add = helper.make_node("Add", [inner, f"{self.name}.bias"], [y])
        if self.kind == "folded":
            return [helper.make_node("MatMul", [x, weight], [inner], name=f"/{self.name}/MatMul"), add]
        turned = helper.make_node("Transpose", [weight], [f"{y}.turned"], perm=[1, 0])
        return [turned, helper.make_node("MatMul", [x, f"{y}.turned"], [inner]), add]


def chain(layers: Sequence[Layer]) -> onnx.ModelProto:
    """Returns ``answer``: the layers one after the other over ``x`` (B, in), with a ReLU between them."""
    nodes: list[onnx.NodeProto] = []
    value = "x"
    for position, layer in enumerate(layers):
        last = position == len(layers) - 1
        nodes += layer.nodes(value, "answer" if last else f"h{position}")
        if not last:
            nodes.append(helper.make_node("Relu", [f"h{position}"], [f"r{position}"]))
            value = f"r{position}"
    tensors = [numpy_helper.from_array(array, name) for name, array in (layer.stored() for layer in layers)]
    tensors += [numpy_helper.from_array(layer.bias, f"{layer.name}.bias") for layer in layers]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", layers[0].weight.shape[1]])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["batch", len(layers[-1].bias)])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def random_layer(rng: np.random.Generator, name: str, inner: int, out: int, kind: str) -> Layer:
    """Returns a layer of random numbers."""
    weight = rng.normal(size=(out, inner)).astype(np.float32)
    return Layer(name, weight, rng.normal(size=out).astype(np.float32), kind)


def write_adapter(folder: Path, pairs: Mapping[str, tuple[Array, Array]], **config: Any) -> Path:
    """Writes what PEFT's ``save_pretrained`` writes.

    Args:
        folder: to write into.
        pairs: module -> A (r, in) and B (out, r).
        **config: in the place of rank 2, alpha 4 and the pairs' names as targets.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"}
    words |= {"target_modules": list(pairs)} | config
    (folder / "adapter_config.json").write_text(json.dumps(words))
    tensors = {
        f"base_model.model.{name}.lora_{side}.weight": half
        for name, halves in pairs.items()
        for side, half in zip("AB", halves, strict=True)
    }
    (folder / "adapter_model.safetensors").write_bytes(bytes_from_tensors(tensors))
    return folder
