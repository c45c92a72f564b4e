"""GELU as one operator, Gelu of opset 20, from the forms in which tracers write it out.

0.5 x (1 + erf(x / sqrt(2))) in any order of the factors;  the same with tanh, which is an approximation
"""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import RewriteRule

from edgeemo.export.passes.editing import apply_rules, remove_dead

_ROOT = math.sqrt(2.0)
_TANH = math.sqrt(2.0 / math.pi)


def fuse_gelu(model: ir.Model) -> None:
    """Replaces the formulas by the operator."""
    found = apply_rules(model, {"Erf": _EXACT})
    if found + apply_rules(model, {"Tanh": _APPROXIMATE}):
        remove_dead(model)


def _half_last(op: Any, x: Any) -> Any:
    return op.Mul(op.Mul(x, op.Add(op.Erf(op.Div(x, _ROOT)), 1.0)), 0.5)


def _half_first(op: Any, x: Any) -> Any:
    return op.Mul(op.Mul(0.5, x), op.Add(op.Erf(op.Div(x, _ROOT)), 1.0))


def _half_inside(op: Any, x: Any) -> Any:
    return op.Mul(x, op.Mul(0.5, op.Add(op.Erf(op.Div(x, _ROOT)), 1.0)))


def _half_last_multiplied(op: Any, x: Any) -> Any:
    return op.Mul(op.Mul(x, 0.5), op.Add(op.Erf(op.Mul(x, 1.0 / _ROOT)), 1.0))


def _tanh(op: Any, x: Any) -> Any:
    cubic = op.Add(x, op.Mul(op.Pow(x, 3.0), 0.044715))
    return op.Mul(op.Mul(x, 0.5), op.Add(op.Tanh(op.Mul(cubic, _TANH)), 1.0))


def _exact_gelu(op: Any, x: Any) -> Any:
    return op.Gelu(x)


def _tanh_gelu(op: Any, x: Any) -> Any:
    return op.Gelu(x, approximate="tanh")


def _rules(patterns: tuple[Any, ...], replacement: Any) -> tuple[RewriteRule, ...]:
    rules = [RewriteRule(pattern, replacement) for pattern in patterns]
    return tuple(form for rule in rules for form in rule.commute())


_EXACT = _rules((_half_last, _half_first, _half_inside, _half_last_multiplied), _exact_gelu)
_APPROXIMATE = _rules((_tanh,), _tanh_gelu)
