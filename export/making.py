"""Everything that an export makes and judges, before the first byte of it is written into the bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgeemo.bundle.commit import BundleWriter
from edgeemo.errors import GateError
from edgeemo.export.assemble import assemble
from edgeemo.export.checkpoint import Checkpoint
from edgeemo.export.drafts import Draft, Dropped, Source, make_drafts
from edgeemo.export.gate.labelled import LabelledResult, Measure, require_accuracy
from edgeemo.export.gate.thresholds import Thresholds
from edgeemo.export.recipe import ENGINES, STEMS, GraphRecipe, Recipe
from edgeemo.export.tune import tune_graph
from edgeemo.export.variants.make import FP32, VARIANTS
from edgeemo.modality import subset_members


@dataclass(frozen=True)
class Order:
    """What is to be made.

    Attributes:
        checkpoint: of what.
        subsets: the engines; their stems come along.
        variants: of each.
        thresholds: what everything is held to.
        recipe: the choices.
        tune: measure the choices instead.
        may_drop: subsets that may lose variants.
        measure: measures engines on labelled data, or None.
    """

    checkpoint: Checkpoint
    subsets: Sequence[str]
    variants: Sequence[str]
    thresholds: Thresholds
    recipe: Recipe
    tune: bool = False
    may_drop: Sequence[str] = ()
    measure: Measure | None = None

    @property
    def places(self) -> list[tuple[str, str]]:
        """Kind and name of each graph, stems first."""
        members = {name for key in self.subsets for name in subset_members(key)}
        stems = [(STEMS, name) for name in self.checkpoint.order if name in members]
        return stems + [(ENGINES, key) for key in self.subsets]


@dataclass(frozen=True)
class Made:
    """What came of an order.

    Attributes:
        drafts: what passed, stems first.
        dropped: what was left out, and why.
        labelled: accuracy on labelled data.
        recipe: the choices that everything was made by.
    """

    drafts: tuple[Draft, ...]
    dropped: tuple[Dropped, ...] = ()
    labelled: tuple[LabelledResult, ...] = ()
    recipe: Recipe = field(default_factory=Recipe)


def make_all(order: Order, tell: Callable[[str], None]) -> Made:
    """Returns everything that was ordered, judged.

    Args:
        order: what to make.
        tell: called with what is being made, before each step.

    Raises:
        GateError: a variant fails and may not be dropped, or nothing is left.
    """
    recipe = order.recipe
    made: list[Draft] = []
    exact: list[Draft] = []  # fp32 where it was not asked for, as a yardstick for labelled data
    dropped: list[Dropped] = []
    for kind, name in order.places:
        tell(f"stem of {name}" if kind == STEMS else f"engine {name}")
        graph = Source(order.checkpoint, kind, name)
        if order.tune:
            recipe = tune_graph(graph, order.variants, recipe)
        allow_drop = kind == ENGINES and name in order.may_drop
        drafts, left_out = make_drafts(graph, order.variants, recipe, order.thresholds, allow_drop=allow_drop)
        made += drafts
        dropped += left_out
        if order.measure is not None and drafts and FP32 not in {draft.variant for draft in drafts}:
            exact.append(graph.draft(FP32, GraphRecipe(), order.thresholds))
    labelled: Sequence[LabelledResult] = ()
    if order.measure is not None:
        tell("accuracy on labelled data")
        labelled = _measure(order.checkpoint, [*made, *exact], order.measure)
        failed = require_accuracy(labelled, order.thresholds, order.may_drop)
        dropped += [Dropped(ENGINES, *key, reason) for key, reason in failed.items()]
        made = [draft for draft in made if draft.kind == STEMS or (draft.name, draft.variant) not in failed]
        left = {draft.name for draft in made if draft.kind == ENGINES}
        made += [draft for draft in exact if draft.kind == ENGINES and draft.name not in left]
    if not any(draft.kind == ENGINES for draft in made):
        raise GateError(f"no engine is left to ship: {'; '.join(each.reason for each in dropped)}")
    return Made(tuple(made), tuple(dropped), tuple(labelled), recipe)


def _measure(source: Checkpoint, drafts: Sequence[Draft], measure: Measure) -> Sequence[LabelledResult]:
    """Returns what a bundle of these drafts does on labelled data; it is written aside and thrown away."""
    with tempfile.TemporaryDirectory(prefix="edgeemo-") as folder, BundleWriter(folder) as writer:
        manifest = assemble(writer, source, drafts).manifest
        variants = [variant for variant in VARIANTS if any(draft.variant == variant for draft in drafts)]
        return measure(writer.commit(manifest), variants)
