"""Graphs of one checkpoint, made in every variant and judged, before any of them is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import onnx

from edgeemo.bundle.tensors import Array
from edgeemo.errors import GateError
from edgeemo.export.adapters.unmerged import unmerged_answers
from edgeemo.export.calibrate import exact_ranges
from edgeemo.export.checkpoint import COMMON, Checkpoint
from edgeemo.export.dialect import DIALECTS
from edgeemo.export.gate.judge import FRAMES, Verdict, engine_feed, judge_engine, judge_stem
from edgeemo.export.gate.thresholds import Thresholds
from edgeemo.export.graph import bind_weights, copy_model, fold_graph
from edgeemo.export.passes.names import shorten_names
from edgeemo.export.passes.pipeline import PassReport, optimize_all
from edgeemo.export.recipe import STEMS, GraphRecipe, Recipe
from edgeemo.export.variants.make import DIALECT_OF, FP32, INT8, VariantContext, make_variant
from edgeemo.export.variants.static import Ranges


@dataclass(frozen=True)
class Draft:
    """One graph in one variant that passed the gate.

    Attributes:
        kind: ``"engines"`` or ``"stems"``.
        name: the subset or the modality.
        variant: such as ``"int8"``.
        model: the graph, whole.
        verdict: what the gate measured.
        recipe: the choices it was made by.
        passes: what each graph pass changed before.
    """

    kind: str
    name: str
    variant: str
    model: onnx.ModelProto
    verdict: Verdict
    recipe: GraphRecipe
    passes: Sequence[PassReport] = ()


@dataclass(frozen=True)
class Dropped:
    """A variant that was not made, and why."""

    kind: str
    name: str
    variant: str
    reason: str


class Source:
    """One stem or engine of a checkpoint, ready to become variants.

    Attributes:
        kind: ``"engines"`` or ``"stems"``.
        name: the subset or the modality.
    """

    def __init__(self, checkpoint: Checkpoint, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        self._checkpoint = checkpoint
        if kind == STEMS:
            self._bound = bind_weights(checkpoint.stem_graphs[name], checkpoint.weights)
        else:
            self._bound = bind_weights(checkpoint.engine_graphs[name], checkpoint.merged_weights(name))

    @property
    def what(self) -> str:
        """The graph's name in messages."""
        return f"the stem of {self.name}" if self.kind == STEMS else f"the engine {self.name}"

    def graph(self, dialect: str) -> onnx.ModelProto:
        """Returns the optimized fp32 graph in a dialect."""
        return self._optimized[dialect][0]

    @cached_property
    def _optimized(self) -> Mapping[str, tuple[onnx.ModelProto, Sequence[PassReport]]]:
        adapter = None if self.kind == STEMS else self._checkpoint.adapters.get(self.name)
        # What no other engine shares may be put together with other weights.
        own = {f"{module}.weight" for module in adapter.pairs} if adapter else set()
        return optimize_all(self._bound, DIALECTS, own=own)

    @cached_property
    def reference(self) -> Mapping[str, Array]:
        """What the training framework answered, with frame logits in any case.

        A checkpoint saved before frame logits were part of the reference has them computed here, by the
        graph with base and adapters apart.
        """
        known = self._checkpoint.reference
        key = f"{FRAMES}.{self.name}"
        outputs = {value.name for value in self._bound.graph.output}
        if self.kind == STEMS or FRAMES not in outputs or key in known:
            return known
        source = self._checkpoint
        adapters = [source.adapters[name] for name in (COMMON, self.name) if name in source.adapters]
        graph = source.engine_graphs[self.name]
        answers = unmerged_answers(graph, source.weights, adapters, self.name, known)
        return {**known, key: answers[key]}

    @cached_property
    def folded(self) -> onnx.ModelProto:
        """The fp32 graph, folded and no more: what activation ranges are named after."""
        return fold_graph(self._bound)

    def ranges(self) -> Ranges:
        """Returns the activation ranges: of a stem those that training measured, of an engine exact ones."""
        if self.kind == STEMS:
            return self._checkpoint.ranges[self.name]
        return self._exact_ranges

    def make(self, variant: str, recipe: GraphRecipe) -> onnx.ModelProto:
        """Returns one variant, not judged; see `make_variant`."""
        graph = self.graph(DIALECT_OF[variant])
        return make_variant(variant, graph, VariantContext(self.what, self.ranges, recipe))

    def judge(self, model: onnx.ModelProto, variant: str, thresholds: Thresholds) -> Verdict:
        """Returns what the gate says; see `judge_engine` and `judge_stem`."""
        if self.kind == STEMS:
            return judge_stem(model, self.name, variant, self.reference, thresholds)
        spec = self._checkpoint.subsets[self.name]
        return judge_engine(model, self.name, variant, spec, self.reference, thresholds=thresholds)

    def draft(self, variant: str, recipe: GraphRecipe, thresholds: Thresholds) -> Draft:
        """Returns one variant, judged."""
        # Names are shortened last: ranges and recipes know the long ones. What is judged is what ships.
        model = shorten_names(copy_model(self.make(variant, recipe)))
        verdict = self.judge(model, variant, thresholds)
        passes = self._optimized[DIALECT_OF[variant]][1]
        return Draft(self.kind, self.name, variant, model, verdict, recipe, passes)

    @cached_property
    def _exact_ranges(self) -> Ranges:
        return exact_ranges(self.folded, engine_feed(self.name, self._checkpoint.reference), self.what)


def make_drafts(
    source: Source,
    variants: Sequence[str],
    recipe: Recipe,
    thresholds: Thresholds,
    *,
    allow_drop: bool = False,
) -> tuple[list[Draft], list[Dropped]]:
    """Returns the variants of one graph that pass, and those that are left out.

    Where int8 is left out or all others fail, fp32 is made in their place, so that every graph that ships
    has a variant for CPUs.

    Args:
        source: the graph.
        variants: those asked for.
        recipe: the choices, and what is dropped.
        thresholds: the limits of the gate.
        allow_drop: leave out what fails the gate, instead of failing the export.

    Raises:
        GateError: a variant fails and may not be dropped.
    """
    made: list[Draft] = []
    dropped: list[Dropped] = []
    for variant in variants:
        key = (source.kind, source.name, variant)
        if key in recipe.dropped:
            dropped.append(Dropped(*key, recipe.dropped[key]))
            continue
        try:
            made.append(source.draft(variant, recipe.graph(*key), thresholds))
        except GateError as reason:
            if not allow_drop:
                raise
            dropped.append(Dropped(*key, str(reason)))
    names = {draft.variant for draft in made}
    without_int8 = INT8 in variants and INT8 not in names
    if FP32 not in variants and (without_int8 or not made):
        try:
            made.insert(0, source.draft(FP32, GraphRecipe(), thresholds))
        except GateError as reason:
            if not allow_drop:
                raise
            dropped.append(Dropped(source.kind, source.name, FP32, str(reason)))
    return made, dropped
