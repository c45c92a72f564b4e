"""Sixteen-bit floats in standard operators, inputs and outputs fp32: for GPUs, strongly typed."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from edgeemo.export.graph import clean_graph, copy_model, sort_nodes

LARGEST = 65504.0
# Activations stay below an eighth of what fp16 holds, so that louder input than ours does not overflow.
HEADROOM = 8.0
# What an additive mask becomes: far below any score, far above -65504 / 8.
_MASK = 4096.0


def halve_floats(model: onnx.ModelProto, *, keep_float: Collection[str] = ()) -> onnx.ModelProto:
    """Returns a copy of ``model`` in fp16 behind casts of its inputs and before casts of its outputs.

    Single constants beyond 65504 / 8 become 4096 of the same sign: they are the "minus infinity" of
    attention masks, whose softmax is zero either way. Quantized weights and their DequantizeLinear stay,
    with fp16 scales.

    Args:
        model: a graph of standard operators, without subgraphs.
        keep_float: names of nodes that stay fp32, between casts.
    """
    bounded = copy_model(model)
    for tensor in bounded.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and int(np.prod(tensor.dims)) == 1:
            number = numpy_helper.to_array(tensor)
            if np.abs(number).max() >= LARGEST / HEADROOM:
                bound = np.asarray(np.copysign(np.float32(_MASK), number), dtype=np.float32)
                tensor.CopyFrom(numpy_helper.from_array(bound, tensor.name))
    converted = convert_float_to_float16(bounded, keep_io_types=True, node_block_list=list(keep_float))
    return clean_graph(sort_nodes(converted))
