"""Batch norm folded into the convolution or Gemm in front of it (onnxscript's rules)."""

from __future__ import annotations

import onnx_ir as ir
from onnxscript.rewriter.rules import common

from edgeemo.export.passes.editing import apply_rules, remove_dead

_RULES = {
    "BatchNormalization": (
        common.fuse_batchnorm_into_conv_rule,
        common.fuse_batchnorm_into_conv_transpose_rule,
        common.fuse_batchnorm_into_gemm_rule,
    )
}


def fold_batch_norm(model: ir.Model) -> None:
    """Scales weights and biases by what batch norm would have done to the result."""
    if apply_rules(model, _RULES):
        remove_dead(model)
