"""Which operators each kind of graph may hold: the two dialects that come out of one pipeline.

``onnxruntime`` graphs run on onnxruntime's CPU provider, which has contrib operators of its own.
``standard`` graphs are opset 20 and hold what the ONNX parser of TensorRT 10.3 (JetPack 6) reads; newer
parsers and TensorRT for RTX read more, so building there is necessary and not sufficient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeemo.errors import ExportError, InputError

if TYPE_CHECKING:
    import onnx

ONNXRUNTIME, STANDARD = "onnxruntime", "standard"
DIALECTS = (ONNXRUNTIME, STANDARD)

# The operator table of the TensorRT 10.3 parser (onnx-tensorrt, docs/operators.md), without control flow,
# random numbers, recurrent cells and sequences, which no engine has, and without what came later: window
# functions and Pad with axes (10.4), STFT (10.5), Attention, RMSNormalization, RotaryEmbedding (10.14).
# fmt: off
TENSORRT_OPERATORS = frozenset(
    {
        "Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh",
        "AveragePool", "BatchNormalization", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Concat",
        "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "Cos", "Cosh", "CumSum", "DepthToSpace",
        "DequantizeLinear", "Div", "Einsum", "Elu", "Equal", "Erf", "Exp", "Expand", "EyeLike", "Flatten",
        "Floor", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool",
        "GlobalMaxPool", "Greater", "GreaterOrEqual", "GroupNormalization", "HardSigmoid", "HardSwish",
        "Identity", "InstanceNormalization", "IsInf", "IsNaN", "LayerNormalization", "LeakyRelu", "Less",
        "LessOrEqual", "Log", "LogSoftmax", "LpNormalization", "MatMul", "Max", "MaxPool", "Mean", "Min",
        "Mish", "Mod", "Mul", "Neg", "Not", "OneHot", "Or", "PRelu", "Pad", "Pow", "QuantizeLinear",
        "Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
        "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape",
        "Resize", "Round", "ScatterElements", "ScatterND", "Selu", "Shape", "Sigmoid", "Sign", "Sin",
        "Sinh", "Size", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt",
        "Squeeze", "Sub", "Sum", "Tan", "Tanh", "ThresholdedRelu", "Tile", "TopK", "Transpose", "Trilu",
        "Unsqueeze", "Where", "Xor",
    }
)
# Contrib operators that the CPU provider has in every onnxruntime from 1.20 on.
CONTRIB_OPERATORS = frozenset(
    {
        "Attention", "BiasGelu", "DynamicQuantizeMatMul", "FastGelu", "FusedConv", "FusedGemm",
        "FusedMatMul", "Gelu", "MatMulIntegerToFloat", "MultiHeadAttention", "QAttention", "QGemm",
        "QLinearAdd", "QuickGelu", "SkipLayerNormalization",
    }
)
# fmt: on
_CONTRIB = "com.microsoft"
_INT8 = 3  # onnx.TensorProto.INT8


def check_operators(model: onnx.ModelProto, dialect: str, what: str) -> None:
    """Raises unless every node of a finished graph is one that its target has.

    Args:
        model: the graph.
        dialect: ``"onnxruntime"`` or ``"standard"``.
        what: the graph's name, for the message.

    Raises:
        ExportError: a node (named) whose operator the target lacks.
        InputError: no such dialect.
    """
    if dialect not in DIALECTS:
        raise InputError(f"unknown dialect {dialect!r}; there are: {', '.join(DIALECTS)}")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        reason = _refusal(node, dialect, constants)
        if reason:
            target = "TensorRT 10.3" if dialect == STANDARD else "onnxruntime's CPU provider"
            raise ExportError(
                f"{what}: the node {node.name!r} is {reason}, which {target} does not have; train or trace "
                "the network with another operator, or leave the variant out with --variant"
            )


def _refusal(node: onnx.NodeProto, dialect: str, constants: Mapping[str, onnx.TensorProto]) -> str | None:
    """Returns what a node is, where its target does not have that."""
    standard = node.domain in ("", "ai.onnx")
    name = node.op_type if standard else f"{node.domain}.{node.op_type}"
    if dialect == ONNXRUNTIME:
        known = standard or (node.domain == _CONTRIB and node.op_type in CONTRIB_OPERATORS)
        return None if known else name
    if not standard or node.op_type not in TENSORRT_OPERATORS:
        return name
    if node.op_type == "Pad" and len(node.input) > 3 and node.input[3]:
        return "Pad with axes"
    if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
        zero = constants.get(node.input[2])
        if zero is None or zero.data_type != _INT8 or any(zero.raw_data) or any(zero.int32_data):
            return f"{name} with a zero point that is not an int8 zero"
    return None
