"""LayerNormalization from its parts: ReduceMean, Sub, Pow, Sqrt, Div, Mul, Add (onnxscript's rules).

Networks that are traced here have it already; graphs of older exporters write the formula out.
"""

from __future__ import annotations

import onnx_ir as ir
from onnxscript.rewriter.rules.fusion._layer_norm import layer_normalization_rules

from edgeemo.export.passes.editing import apply_rules, remove_dead

_FORMULA, _BIAS = layer_normalization_rules


def fuse_layer_norm(model: ir.Model) -> None:
    """Replaces the formula by the operator, then takes the bias in."""
    found = apply_rules(model, {"ReduceMean": (_FORMULA,)})
    if found + apply_rules(model, {"LayerNormalization": (_BIAS,)}):
        remove_dead(model)
