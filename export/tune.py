"""Choices by measurement: the better way into int8, the operators that stay float, what is not worth it.

For each graph and variant that quantizes:

1. ``int8``: products are tried dynamic and static; the faster one is kept, where they are as fast within
   5 % the more exact one.
2. Where the error exceeds what eight bits cost (5 % for stems, 2 % for engines), each quantized operator
   is made float by itself. What the error falls by is that operator's cost. The costliest stay float, one
   after the other, until the error is small enough, at most `MOST_FLOAT` of them, each worth a tenth of
   the error or more, and only while the variant stays faster than fp32.
3. A variant that is neither smaller nor faster than fp32 on its target is dropped. Only ``int8`` can be
   timed on the CPU that exports; the others are dropped where they are not smaller.

Errors are those of the checkpoint's reference windows and blocks, relative root mean square. On real
faces the shipped stem's is 2.5 % where its synthetic blocks show 7 %: most comes from its second
convolution (2.0 % and 5 % without it, for 45 % more time).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx

from edgeemo.bundle.tensors import Array
from edgeemo.errors import BackendError, ExportError
from edgeemo.export.dialect import STANDARD
from edgeemo.export.drafts import Source
from edgeemo.export.gate.half import run_in_half
from edgeemo.export.gate.judge import engine_answers, engine_feed, relative_rms, run_rows
from edgeemo.export.graph import bytes_from_model
from edgeemo.export.recipe import DYNAMIC, METHODS, STEMS, GraphRecipe, Recipe
from edgeemo.export.variants.dynamic import constant_products
from edgeemo.export.variants.make import DIALECT_OF, FP16, FP32, INT8, INT8_TRT, quantized_nodes
from edgeemo.runtimes.ort import OrtRunner

SMALL_ERROR = {"stems": 0.05, "engines": 0.02}
MOST_FLOAT = 3
_WORTH = 0.1
SWEPT = 12  # operators, the largest weights first: each costs one engine made and run
_ROWS = 64
_ROUNDS = 15
_TIE = 1.05


def tune_graph(source: Source, variants: Sequence[str], recipe: Recipe) -> Recipe:
    """Returns ``recipe`` with the choices for one graph added.

    Args:
        source: the graph.
        variants: those that will be made.
        recipe: the choices so far.
    """
    bench = _Bench(source)
    graphs, dropped = dict(recipe.graphs), dict(recipe.dropped)
    plain = source.make(FP32, GraphRecipe())
    for variant in (variant for variant in variants if variant != FP32):
        key = (source.kind, source.name, variant)
        chosen = GraphRecipe()
        if variant == INT8:
            chosen = replace(chosen, method=bench.better_method())
        if variant in (INT8, INT8_TRT):
            chosen = replace(chosen, keep_float=bench.costly_nodes(variant, chosen, plain))
        made = source.make(variant, chosen)
        reason = bench.why_useless(variant, made, plain)
        if reason:
            dropped[key] = reason
        elif variant == INT8 or chosen != GraphRecipe():
            graphs[key] = chosen
    return Recipe(graphs, dropped)


class _Bench:
    """Errors and times of one graph's variants on its reference."""

    def __init__(self, source: Source) -> None:
        self.source = source
        if source.kind == STEMS:
            self.output = f"features.{source.name}"
            feed: Mapping[str, Array] = {
                f"input.{source.name}": source.reference[f"stem.{source.name}.input"]
            }
            expected = source.reference[f"stem.{source.name}.output"]
        else:
            self.output = "logits"
            feed = engine_feed(source.name, source.reference)
            expected = engine_answers(source.name, source.reference)["logits"]
        rows = np.linspace(0, len(expected) - 1, min(_ROWS, len(expected))).round().astype(int)
        self.feed = {name: array[rows] for name, array in feed.items()}
        self.expected = np.asarray(expected[rows], dtype=np.float32)

    def error(self, model: onnx.ModelProto, variant: str) -> float:
        if DIALECT_OF[variant] == STANDARD:
            found = run_in_half(model, self.feed).outputs[self.output]
        else:
            with OrtRunner(bytes_from_model(model), engine=self.source.name, variant=variant) as runner:
                found = run_rows(runner, self.feed, each=True)[self.output]
        return relative_rms(found, self.expected)

    def times_ms(self, models: Mapping[str, onnx.ModelProto]) -> dict[str, float]:
        """Returns the least time of one row: what else runs on the machine can only add to it."""
        runners = {name: OrtRunner(bytes_from_model(model)) for name, model in models.items()}
        first = {name: array[:1] for name, array in self.feed.items()}
        least = dict.fromkeys(runners, np.inf)
        for turn in range(-2, _ROUNDS):
            for name, runner in runners.items():
                begun = time.perf_counter()
                runner.run(first)
                if turn >= 0:
                    least[name] = min(least[name], (time.perf_counter() - begun) * 1e3)
        for runner in runners.values():
            runner.close()
        return least

    def better_method(self) -> str:
        if not constant_products(self.source.graph(DIALECT_OF[INT8])):
            return DYNAMIC
        models: dict[str, onnx.ModelProto] = {}
        for method in METHODS:
            try:
                models[method] = self.source.make(INT8, GraphRecipe(method=method))
            except ExportError:
                if method == DYNAMIC:
                    raise  # static needs ranges that not every graph has
        least = self.times_ms(models)
        fast = [method for method in models if least[method] <= min(least.values()) * _TIE]
        return min(fast, key=lambda method: self.error(models[method], INT8)) if len(fast) > 1 else fast[0]

    def costly_nodes(self, variant: str, chosen: GraphRecipe, plain: onnx.ModelProto) -> dict[str, float]:
        """Returns the operators to keep float and what each of them costs."""
        enough = SMALL_ERROR[self.source.kind]
        error = self.error(self.source.make(variant, chosen), variant)
        if error <= enough:
            return {}
        graph = self.source.graph(DIALECT_OF[variant])
        costs = {}
        for node in _largest(graph, quantized_nodes(variant, graph)):
            without = replace(chosen, keep_float={node: 0.0})
            costs[node] = error - self.error(self.source.make(variant, without), variant)
        kept: dict[str, float] = {}
        for node in sorted(costs, key=lambda name: -costs[name])[:MOST_FLOAT]:
            if error <= enough or costs[node] < _WORTH * error:
                break
            trial = {**kept, node: float(f"{costs[node]:.3g}")}
            model = self.source.make(variant, replace(chosen, keep_float=trial))
            if variant == INT8:
                least = self.times_ms({INT8: model, FP32: plain})
                if least[INT8] >= least[FP32]:
                    break
            kept, error = trial, self.error(model, variant)
        return kept

    def why_useless(self, variant: str, model: onnx.ModelProto, plain: onnx.ModelProto) -> str | None:
        """Returns why a variant is not worth shipping, or None."""
        size, limit = model.ByteSize(), plain.ByteSize()
        if size < limit:
            return None
        if variant in (FP16, INT8_TRT):
            return f"not smaller than fp32 ({size} bytes, fp32 {limit}), and its GPU is not here to time it"
        try:
            least = self.times_ms({variant: model, FP32: plain})
        except BackendError as reason:
            return f"cannot be run here: {reason}"
        if least[variant] < least[FP32]:
            return None
        return (
            f"neither smaller ({size} bytes, fp32 {limit}) nor faster ({least[variant]:.3f} ms, "
            f"fp32 {least[FP32]:.3f}) than fp32"
        )


def _largest(model: onnx.ModelProto, nodes: list[str]) -> list[str]:
    """Returns the nodes with the largest weights, at most `SWEPT`, in the order of the graph."""
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    weight = {node.name: sizes.get(node.input[1], 0) for node in model.graph.node if len(node.input) > 1}
    chosen = set(sorted(nodes, key=lambda name: -weight.get(name, 0))[:SWEPT])
    return [name for name in nodes if name in chosen]
