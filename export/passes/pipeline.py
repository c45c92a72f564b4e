"""The passes in order, for each of the two dialects, with what each of them changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import onnx
import onnx_ir as ir

from edgeemo.errors import InputError
from edgeemo.export.dialect import DIALECTS, ONNXRUNTIME
from edgeemo.export.graph import clean_graph
from edgeemo.export.passes.attention import fuse_attention
from edgeemo.export.passes.batch_norm import fold_batch_norm
from edgeemo.export.passes.biases import merge_biases
from edgeemo.export.passes.blocks import merge_blocks
from edgeemo.export.passes.fold import fold_constants
from edgeemo.export.passes.gelu import fuse_gelu
from edgeemo.export.passes.layer_norm import fuse_layer_norm
from edgeemo.export.passes.layout import merge_layout
from edgeemo.export.passes.projections import fuse_projections
from edgeemo.export.passes.rows import flatten_rows

Pass = Callable[[ir.Model], None]
BLOCKS = "blocks"

# Both dialects begin alike; what each of them adds comes last.
COMMON: tuple[tuple[str, Pass], ...] = (
    ("fold", fold_constants),
    ("batch_norm", fold_batch_norm),
    ("layer_norm", fuse_layer_norm),
    ("gelu", fuse_gelu),
    ("layout", merge_layout),
    ("projections", fuse_projections),
    ("biases", merge_biases),
)
OWN: dict[str, tuple[tuple[str, Pass], ...]] = {
    ONNXRUNTIME: (("attention", fuse_attention), ("rows", flatten_rows)),
}


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


def optimize(
    model: onnx.ModelProto, dialect: str, *, own: Collection[str] = ()
) -> tuple[onnx.ModelProto, list[PassReport]]:
    """Returns a bound graph with every pass of a dialect applied, and what each pass changed.

    Args:
        model: fp32, with its weights; not changed.
        dialect: ``"onnxruntime"`` or ``"standard"``.
        own: names of weights that no other graph of the bundle holds, such as those that an adapter of
            this subset alone changes; some passes may put them together with others.

    Raises:
        InputError: no such dialect.
    """
    return optimize_all(model, (dialect,), own=own)[dialect]


def optimize_all(
    model: onnx.ModelProto, dialects: Sequence[str], *, own: Collection[str] = ()
) -> dict[str, tuple[onnx.ModelProto, list[PassReport]]]:
    """Returns what `optimize` does for several dialects; what they have in common is done once."""
    unknown = [dialect for dialect in dialects if dialect not in DIALECTS]
    if unknown:
        raise InputError(f"unknown dialect {unknown[0]!r}; there are: {', '.join(DIALECTS)}")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    graph = ir.from_proto(copy)
    start = _Size(graph.graph.num_nodes(), _bytes_of(graph))
    shared = _run([*COMMON, (BLOCKS, partial(merge_blocks, own=own))], graph, start)
    before = _Size(shared[-1].nodes_after, shared[-1].bytes_after)
    done: dict[str, tuple[onnx.ModelProto, list[PassReport]]] = {}
    for dialect in dialects:
        branch = graph.clone()
        reports = _run(OWN.get(dialect, ()), branch, before)
        done[dialect] = (clean_graph(ir.to_proto(branch)), [*shared, *reports])
    return done


@dataclass(frozen=True)
class _Size:
    nodes: int
    bytes: int


def _run(passes: Sequence[tuple[str, Pass]], graph: ir.Model, size: _Size) -> list[PassReport]:
    reports = []
    for name, apply in passes:
        apply(graph)
        after = _Size(graph.graph.num_nodes(), _bytes_of(graph))
        reports.append(PassReport(name, size.nodes, after.nodes, size.bytes, after.bytes))
        size = after
    return reports


def _bytes_of(model: ir.Model) -> int:
    return int(clean_graph(ir.to_proto(model)).ByteSize())
