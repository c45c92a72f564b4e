"""Constants folded, dead branches and identities gone, equal values and weights kept once.

onnxscript folds and infers shapes, onnx-ir removes and merges, and of onnxscript's rules those run that
take out what does nothing; its whole default set costs four times as much and finds nothing more here.
What is left to do is naming: the transpose of a weight becomes the initializer ``<weight>.transposed``,
also where several nodes use the weight, since onnxruntime's quantizer transposes a shared weight in place
and a Transpose left beside it would turn it back.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript import optimizer
from onnxscript.rewriter.rules import common as rules

from edgeemo.export.passes.editing import apply_rules, constant, infer_shapes, rank, replace, scalar

TRANSPOSED = ".transposed"
_NOTHING = {
    "Dropout": (rules.dropout_inference_rule, rules.dropout_zero_rule),
    "Cast": (rules.no_op_cast_rule, rules.cast_cast_rule),
    "Expand": (rules.no_op_expand_rule,),
    "Slice": (rules.collapse_slice_rule, rules.collapse_slice2_rule),
    "Squeeze": (rules.squeeze_reshape_1d_rule,),
    "Relu": (rules.successive_relu_rule,),
    "Unsqueeze": (rules.unsqueeze_unsqueeze_rule,),
}
_TIDY = (
    common.RemoveUnusedNodesPass,
    lambda: common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    common.DeduplicateInitializersPass,
    common.CommonSubexpressionEliminationPass,
    common.IdentityEliminationPass,
    common.RemoveUnusedNodesPass,
    common.OutputFixPass,
    common.NameFixPass,
)


def fold_constants(model: ir.Model) -> None:
    """Folds what can be computed now, removes what nothing uses and merges what is equal."""
    common.InlinePass()(model)
    _name_transposes(model.graph)
    optimizer.fold_constants(model, onnx_shape_inference=True, should_fold=_fold_every_transpose)
    for node in tuple(model.graph):
        _drop_neutral(node)
    apply_rules(model, _NOTHING)
    for tidy in _TIDY:
        tidy()(model)
    infer_shapes(model)


def _drop_neutral(node: ir.Node) -> None:
    """Takes out x + 0, x - 0, x * 1 and x / 1."""
    neutral = {"Add": 0.0, "Sub": 0.0, "Mul": 1.0, "Div": 1.0}.get(node.op_type)
    if neutral is None or node.domain:
        return
    sides = ((0, 1), (1, 0)) if node.op_type in ("Add", "Mul") else ((0, 1),)
    for kept, other in sides:
        x = node.inputs[kept]
        if x is None or scalar(node.inputs[other]) != neutral or rank(x) is None or x.is_graph_input():
            continue
        if (rank(node.inputs[other]) or 0) <= (rank(x) or 0) and constant(x) is None:
            replace(node.outputs[0], x)
            return


def _fold_every_transpose(node: ir.Node) -> bool | None:
    return True if node.op_type == "Transpose" else None


def _name_transposes(graph: ir.Graph) -> None:
    """Names what is made of a weight by a transpose after the weight."""
    taken: set[str] = set()
    for node in graph:
        if node.op_type == "Transpose" and constant(node.inputs[0]) is not None:
            name = f"{node.inputs[0].name}{TRANSPOSED}"
            if name not in taken and not node.outputs[0].is_graph_output():
                taken.add(name)
                node.outputs[0].name = name
