"""Constants folded, dead branches and identities gone, equal values and weights kept once.

onnxscript's optimizer does the work. What it leaves to do is naming: the transpose of a weight becomes
the initializer ``<weight>.transposed``, also where several nodes use the weight, since onnxruntime's
quantizer transposes a shared weight in place and a Transpose left beside it would turn it back.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript import optimizer

from edgeemo.export.passes.editing import constant, infer_shapes

TRANSPOSED = ".transposed"


def fold_constants(model: ir.Model) -> None:
    """Folds what can be computed now, removes what nothing uses and merges what is equal."""
    _name_transposes(model.graph)
    optimizer.optimize_ir(model, should_fold=lambda node: True if node.op_type == "Transpose" else None)
    common.CommonSubexpressionEliminationPass()(model)
    common.IdentityEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)
    infer_shapes(model)


def _name_transposes(graph: ir.Graph) -> None:
    """Names what is made of a weight by a transpose after the weight."""
    taken: set[str] = set()
    for node in graph:
        if node.op_type == "Transpose" and constant(node.inputs[0]) is not None:
            name = f"{node.inputs[0].name}{TRANSPOSED}"
            if name not in taken and not node.outputs[0].is_graph_output():
                taken.add(name)
                node.outputs[0].name = name
