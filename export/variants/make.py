"""From one graph to its four variants; each follows the device that it is for.

| variant    | for                | operators          | what it is                                        |
|------------|--------------------|--------------------|---------------------------------------------------|
| `fp32`     | CPUs, a yardstick  | onnxruntime's      | the network as trained                            |
| `int8`     | CPUs               | onnxruntime's      | products dynamic or static, convolutions static   |
| `fp16`     | GPUs               | standard, opset 20 | everything fp16, tables int8                      |
| `int8-trt` | GPUs with TensorRT | standard, opset 20 | symmetric Q/DQ pairs, everything else fp16        |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import onnx

from edgeemo.errors import InputError
from edgeemo.export.dialect import ONNXRUNTIME, STANDARD, check_operators
from edgeemo.export.recipe import STATIC, GraphRecipe
from edgeemo.export.variants.dynamic import constant_products, quantize_products
from edgeemo.export.variants.fp16 import halve_floats
from edgeemo.export.variants.static import (
    Ranges,
    quantizable_convolutions,
    quantizable_nodes,
    quantize_for_cpu,
    quantize_for_tensorrt,
)
from edgeemo.export.variants.tables import pack_tables

FP32, INT8, FP16, INT8_TRT = "fp32", "int8", "fp16", "int8-trt"
VARIANTS = (FP32, INT8, FP16, INT8_TRT)
DEFAULT_VARIANTS = (INT8, FP16)
DIALECT_OF = {FP32: ONNXRUNTIME, INT8: ONNXRUNTIME, FP16: STANDARD, INT8_TRT: STANDARD}


@dataclass(frozen=True)
class VariantContext:
    """What a variant depends on besides its graph.

    Attributes:
        what: the graph's name, for messages.
        ranges: returns value name -> (lo, hi); called only where a variant needs ranges.
        recipe: the choices for this graph and variant.
    """

    what: str
    ranges: Callable[[], Ranges]
    recipe: GraphRecipe = field(default_factory=GraphRecipe)


def make_variant(name: str, graph: onnx.ModelProto, context: VariantContext) -> onnx.ModelProto:
    """Returns one variant of a graph.

    Args:
        name: one of `VARIANTS`.
        graph: the optimized fp32 graph in the variant's dialect (`DIALECT_OF`); not changed.
        context: what else it depends on.

    Raises:
        InputError: no such variant.
        ExportError: an activation range is missing, a node is kept float that there is none of, or an
            operator is one that the target lacks.
    """
    if name not in VARIANTS:
        raise InputError(f"unknown variant {name!r}; this exporter makes: {', '.join(VARIANTS)}")
    keep = context.recipe.keep_float
    unknown = sorted(set(keep) - {node.name for node in graph.graph.node})
    if unknown:
        raise InputError(f"{context.what} has no node {unknown[0]!r} to keep float; is it another's recipe?")
    if name == INT8:
        made = _int8(graph, context)
    elif name == FP16:
        made = halve_floats(pack_tables(graph, whole=True), keep_float=keep)
    elif name == INT8_TRT:
        packed = pack_tables(graph, whole=True)
        nodes = [node for node in quantizable_nodes(packed) if node not in keep]
        ranges = context.ranges() if nodes else {}
        made = halve_floats(quantize_for_tensorrt(packed, ranges, nodes, context.what))
    else:
        made = graph
    check_operators(made, DIALECT_OF[name], f"{context.what} ({name})")
    return made


def quantized_nodes(name: str, graph: onnx.ModelProto) -> list[str]:
    """Returns the names of the nodes that a variant quantizes where nothing is kept float."""
    if name == INT8:
        return [*quantizable_convolutions(graph), *constant_products(graph)]
    return quantizable_nodes(graph) if name == INT8_TRT else []


def _int8(graph: onnx.ModelProto, context: VariantContext) -> onnx.ModelProto:
    keep = context.recipe.keep_float
    static = [node for node in quantizable_convolutions(graph) if node not in keep]
    if context.recipe.method == STATIC:
        static += [node for node in constant_products(graph) if node not in keep]
        products = graph
    else:
        products = quantize_products(graph, keep_float=keep)
    ranges = context.ranges() if static else {}
    return pack_tables(quantize_for_cpu(products, ranges, static, context.what))
