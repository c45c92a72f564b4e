"""The ceiling: the time that the machine needs for an engine's multiply-adds and nothing else.

Every product of the engine (projections, scores, mixtures, sums over time) is one node of a graph of its
own, with the same shapes, run by the same onnxruntime; inputs and outputs lie ready in memory.
For int8 the products with a constant are MatMulInteger of inputs that are quantized already.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_shapes

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Product:
    """One product: shapes of both sides, and whether the right one is a constant."""

    left: Shape
    right: Shape
    constant: bool

    @property
    def multiply_adds(self) -> int:
        """How many numbers are multiplied and added."""
        return int(np.prod(self.left)) * self.right[-1]


def products_from_graph(model: onnx.ModelProto) -> list[Product]:
    """Returns the products of a graph of standard operators at batch 1."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    inferred = infer_shapes(fixed, strict_mode=True, data_prop=True).graph
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    weights = set(shapes)
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    found = []
    for node in inferred.node:
        if node.op_type in ("MatMul", "Gemm"):
            left, right = shapes[node.input[0]], shapes[node.input[1]]
            turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            right = right[::-1] if turned else right
            if 0 in (*left, *right):
                raise ValueError(f"the shapes of {node.name!r} are not known: {left}, {right}")
            found.append(Product(left, right, node.input[1] in weights))
    return found


def ceiling_graph(products: list[Product], *, integers: bool) -> onnx.ModelProto:
    """Returns a graph of nothing but these products, each from inputs of its own to an output of its own."""
    rng = np.random.default_rng(0)
    nodes, inputs, outputs, weights = [], [], [], []
    for place, product in enumerate(products):
        left, right, out = f"left{place}", f"right{place}", f"out{place}"
        small = integers and product.constant
        inputs.append(
            helper.make_tensor_value_info(
                left, TensorProto.UINT8 if small else TensorProto.FLOAT, product.left
            )
        )
        if product.constant:
            array = rng.normal(size=product.right)
            stored = (
                np.rint(array * 40).clip(-127, 127).astype(np.int8) if small else array.astype(np.float32)
            )
            weights.append(numpy_helper.from_array(stored, right))
        else:
            inputs.append(helper.make_tensor_value_info(right, TensorProto.FLOAT, product.right))
        nodes.append(helper.make_node("MatMulInteger" if small else "MatMul", [left, right], [out], name=out))
        shape = (
            *np.broadcast_shapes(product.left[:-2], product.right[:-2]),
            product.left[-2],
            product.right[-1],
        )
        kind = TensorProto.INT32 if small else TensorProto.FLOAT
        outputs.append(helper.make_tensor_value_info(out, kind, shape))
    graph = helper.make_graph(nodes, "ceiling", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
