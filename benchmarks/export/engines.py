"""Our engines of a checkpoint, whole and after each pass."""

from __future__ import annotations

from functools import partial

import onnx
import onnx_ir as ir

from edgeemo.export.checkpoint import Checkpoint
from edgeemo.export.dialect import ONNXRUNTIME, STANDARD
from edgeemo.export.graph import bind_weights, clean_graph
from edgeemo.export.passes.blocks import merge_blocks
from edgeemo.export.passes.names import shorten_names
from edgeemo.export.passes.pipeline import BLOCKS, COMMON, OWN, Pass, optimize
from edgeemo.export.variants.dynamic import quantize_products


def bound_graph(checkpoint: Checkpoint, subset: str) -> onnx.ModelProto:
    """Returns the traced graph of a subset with its merged weights, before any pass."""
    return bind_weights(checkpoint.engine_graphs[subset], checkpoint.merged_weights(subset))


def own_weights(checkpoint: Checkpoint, subset: str) -> set[str]:
    """Returns the weights that this subset shares with no other: those its own adapter changes."""
    adapter = checkpoint.adapters.get(subset)
    return set() if adapter is None else {f"{module}.weight" for module in adapter.pairs}


def our_engine(checkpoint: Checkpoint, subset: str) -> dict[str, onnx.ModelProto]:
    """Returns ``"fp32"`` and ``"int8"`` of one engine, as they ship."""
    own = own_weights(checkpoint, subset)
    graph, _ = optimize(bound_graph(checkpoint, subset), ONNXRUNTIME, own=own)
    small = quantize_products(graph)
    return {"fp32": shorten_names(graph), "int8": shorten_names(small)}


def standard_engine(checkpoint: Checkpoint, subset: str) -> onnx.ModelProto:
    """Returns one engine in standard operators: the products that ours has, each of them a node."""
    own = own_weights(checkpoint, subset)
    return optimize(bound_graph(checkpoint, subset), STANDARD, own=own)[0]


def engines_after_each_pass(checkpoint: Checkpoint, subset: str) -> dict[str, onnx.ModelProto]:
    """Returns pass -> the fp32 graph that it leaves, ``"traced"`` first."""
    bound = bound_graph(checkpoint, subset)
    graph = ir.from_proto(bound)
    stages = {"traced": bound}
    blocks: Pass = partial(merge_blocks, own=own_weights(checkpoint, subset))
    passes: list[tuple[str, Pass]] = [*COMMON, (BLOCKS, blocks), *OWN[ONNXRUNTIME]]
    for name, apply in passes:
        apply(graph)
        stages[name] = clean_graph(ir.to_proto(graph.clone()))
    return stages
