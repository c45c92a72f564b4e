"""The passes in order, for each of the two dialects, with what each of them changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from edgeemo.errors import InputError
from edgeemo.export.dialect import DIALECTS, ONNXRUNTIME
from edgeemo.export.graph import clean_graph
from edgeemo.export.passes.attention import fuse_attention
from edgeemo.export.passes.biases import merge_biases
from edgeemo.export.passes.fold import fold_constants
from edgeemo.export.passes.layout import merge_layout
from edgeemo.export.passes.rows import flatten_rows

Pass = Callable[[ir.Model], None]

# name, what it does, dialects that it belongs to.
PASSES: tuple[tuple[str, Pass, tuple[str, ...]], ...] = (
    ("fold", fold_constants, DIALECTS),
    ("layout", merge_layout, DIALECTS),
    ("biases", merge_biases, DIALECTS),
    ("attention", fuse_attention, (ONNXRUNTIME,)),
    ("rows", flatten_rows, (ONNXRUNTIME,)),
)


@dataclass(frozen=True)
class PassReport:
    """What one pass changed.

    Attributes:
        name: of the pass.
        nodes_before: nodes of the graph that it was given.
        nodes_after: nodes of the graph that it left.
        bytes_before: size of that graph as a file, weights included.
        bytes_after: size of the graph that it left.
    """

    name: str
    nodes_before: int
    nodes_after: int
    bytes_before: int
    bytes_after: int


def optimize(model: onnx.ModelProto, dialect: str) -> tuple[onnx.ModelProto, list[PassReport]]:
    """Returns a bound graph with every pass of a dialect applied, and what each pass changed.

    Args:
        model: fp32, with its weights; not changed.
        dialect: ``"onnxruntime"`` or ``"standard"``.

    Raises:
        InputError: no such dialect.
    """
    if dialect not in DIALECTS:
        raise InputError(f"unknown dialect {dialect!r}; there are: {', '.join(DIALECTS)}")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    graph = ir.from_proto(copy)
    reports: list[PassReport] = []
    nodes, size = graph.graph.num_nodes(), _bytes_of(graph)
    for name, apply, dialects in PASSES:
        if dialect not in dialects:
            continue
        apply(graph)
        report = PassReport(name, nodes, graph.graph.num_nodes(), size, _bytes_of(graph))
        nodes, size = report.nodes_after, report.bytes_after
        reports.append(report)
    return clean_graph(ir.to_proto(graph)), reports


def _bytes_of(model: ir.Model) -> int:
    return int(clean_graph(ir.to_proto(model)).ByteSize())
