"""In which precision each operator of a graph computes, and how its weights are stored.

Element types are followed from the inputs and constants through the graph by the rules of the ONNX
operator specification, for the operators whose output has another type than their first input.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeemo.bundle.outline import DTYPES, ModelOutline, NodeOutline, TensorOutline

INT8 = "int8"
UNKNOWN = "unknown"
_INTEGER_OPERATORS = frozenset(
    {
        "MatMulInteger",
        "ConvInteger",
        "QLinearMatMul",
        "QLinearConv",
        "com.microsoft.DynamicQuantizeMatMul",
        "com.microsoft.MatMulIntegerToFloat",
        "com.microsoft.QAttention",
        "com.microsoft.QGemm",
    }
)
"""Operators that multiply in 8 bits whatever the type of their output."""
_OUTPUT = {
    "Shape": "int64",
    "Size": "int64",
    "NonZero": "int64",
    "ArgMax": "int64",
    "ArgMin": "int64",
    "MatMulInteger": "int32",
    "ConvInteger": "int32",
    **dict.fromkeys(
        ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "IsNaN"), "bool"
    ),
}
_TYPE_OF_INPUT = {
    "Where": 1,
    "DequantizeLinear": 1,
    "DynamicQuantizeLinear": 0,
    "com.microsoft.DynamicQuantizeMatMul": 0,
    "com.microsoft.MatMulIntegerToFloat": 2,
    "com.microsoft.QAttention": 3,
    "com.microsoft.QGemm": 1,
}
"""Operators whose output has the type of another input than the first."""
_MOVES = frozenset(
    {
        *("Cast", "DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"),
        *("Constant", "ConstantOfShape", "Identity", "Shape", "Where"),
        *("Concat", "Expand", "Flatten", "Gather", "Pad", "Reshape", "Slice", "Split"),
        *("Squeeze", "Tile", "Transpose", "Unsqueeze"),
    }
)
"""Operators that compute nothing: no part of the precision map."""


@dataclass(frozen=True)
class WeightPrecision:
    """A constant with two dimensions or more and the operator that uses it.

    Attributes:
        tensor: the constant as it is stored.
        operators: those that use it, past dequantizing, casting and the like; sorted, each once.
    """

    tensor: TensorOutline
    operators: tuple[str, ...]


@dataclass(frozen=True)
class PrecisionMap:
    """What of a graph runs in which precision.

    Attributes:
        operators: operator -> precision -> nodes of that kind, of operators that compute.
        moving: operator -> nodes, of those that only move, quantize or convert values.
        weights: constants of two dimensions or more, in the order of the file.
    """

    operators: dict[str, dict[str, int]]
    moving: dict[str, int]
    weights: tuple[WeightPrecision, ...]


def precision_map(outline: ModelOutline) -> PrecisionMap:
    """Returns the precision of each operator and weight of a graph.

    An operator between DequantizeLinear and QuantizeLinear counts as ``int8``: a backend fuses the three.
    """
    types = {value.name: value.dtype for value in outline.inputs}
    types |= {tensor.name: tensor.dtype for tensor in outline.initializers}
    made_by: dict[str, NodeOutline] = {}
    operators: dict[str, dict[str, int]] = {}
    moving: dict[str, int] = {}
    for node in outline.nodes:
        for position, name in enumerate(node.outputs):
            types[name] = _output_type(node, position, types)
            made_by[name] = node
        if node.operator in _MOVES:
            moving[node.operator] = moving.get(node.operator, 0) + 1
        else:
            counts = operators.setdefault(node.operator, {})
            kind = _precision(node, types, made_by)
            counts[kind] = counts.get(kind, 0) + 1
    return PrecisionMap(operators, moving, _weights(outline))


def _output_type(node: NodeOutline, position: int, types: dict[str, str]) -> str:
    if node.operator == "Cast":
        return DTYPES.get(node.integers.get("to", 0), UNKNOWN)
    if node.operator in ("Constant", "ConstantOfShape"):
        return node.tensors[0].dtype if node.tensors else "float32"
    if node.operator == "QuantizeLinear":
        return types.get(node.inputs[2], UNKNOWN) if len(node.inputs) > 2 else "uint8"
    if node.operator == "DynamicQuantizeLinear" and position != 1:
        return "uint8"
    if node.operator in _OUTPUT:
        return _OUTPUT[node.operator]
    source = _TYPE_OF_INPUT.get(node.operator, 0)
    return types.get(node.inputs[source], UNKNOWN) if source < len(node.inputs) else UNKNOWN


def _precision(node: NodeOutline, types: dict[str, str], made_by: dict[str, NodeOutline]) -> str:
    if node.operator in _INTEGER_OPERATORS:
        return INT8
    makers = [made_by[name].operator for name in node.inputs[:2] if name in made_by]
    if makers and all(maker == "DequantizeLinear" for maker in makers) and node.operator in _QUANTIZED:
        return INT8
    first = next((name for name in node.inputs if name), None)
    return types.get(first, UNKNOWN) if first else UNKNOWN


_QUANTIZED = frozenset({"MatMul", "Gemm", "Conv"})
"""Operators that backends run in 8 bits where their inputs come from DequantizeLinear."""


def _weights(outline: ModelOutline) -> tuple[WeightPrecision, ...]:
    users: dict[str, list[NodeOutline]] = {}
    for node in outline.nodes:
        for name in node.inputs:
            users.setdefault(name, []).append(node)

    def uses(name: str, depth: int = 0) -> set[str]:
        found: set[str] = set()
        for node in users.get(name, ()):
            passed = node.operator in _MOVES and node.operator != "Gather" and depth < 8
            found |= {o for out in node.outputs for o in uses(out, depth + 1)} if passed else {node.operator}
        return found

    return tuple(
        WeightPrecision(tensor, tuple(sorted(uses(tensor.name))))
        for tensor in outline.initializers
        if len(tensor.shape) > 1
    )
