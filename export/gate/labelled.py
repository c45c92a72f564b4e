"""What a bundle's variants do on labelled data, and whether one of them loses too much of it.

The exporter has no data and no front-ends; whoever calls it hands in a function that measures a bundle
(the command line: `edgeemo.evaluation`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeemo.bundle.store import Bundle
from edgeemo.errors import GateError
from edgeemo.export.gate.thresholds import Thresholds
from edgeemo.export.variants.make import FP32


@dataclass(frozen=True)
class LabelledResult:
    """How one engine, with the stem of the same variant, did on one data set.

    Attributes:
        dataset: its name and split.
        subset: the engine.
        variant: of engine and stem.
        n: labelled items.
        accuracy: share of items whose label is right.
        uar: unweighted average recall.
        ece: expected calibration error.
    """

    dataset: str
    subset: str
    variant: str
    n: int
    accuracy: float
    uar: float
    ece: float


# Measures the engines of a bundle in the given variants on whatever data there is.
Measure = Callable[[Bundle, Sequence[str]], Sequence[LabelledResult]]


def failures(results: Sequence[LabelledResult], thresholds: Thresholds) -> dict[tuple[str, str], str]:
    """Returns (subset, variant) -> why, for those that lose more accuracy than they may against fp32."""
    exact = {(result.dataset, result.subset): result for result in results if result.variant == FP32}
    found: dict[tuple[str, str], str] = {}
    for result in results:
        yardstick = exact.get((result.dataset, result.subset))
        if yardstick is None or result.variant == FP32:
            continue
        allowed = max(thresholds.max_accuracy_loss, 2.0 / result.n)
        loss = yardstick.accuracy - result.accuracy
        if loss > allowed + 1e-9:
            found[result.subset, result.variant] = (
                f"the engine {result.subset} ({result.variant}) has an accuracy of {result.accuracy:.1%} on "
                f"{result.dataset} (n = {result.n}), fp32 {yardstick.accuracy:.1%}; expected to lose at most "
                f"{allowed:.1%}"
            )
    return found


def require_accuracy(
    results: Sequence[LabelledResult], thresholds: Thresholds, allow_drop: Sequence[str]
) -> dict[tuple[str, str], str]:
    """Returns what `failures` finds among subsets that may be dropped.

    Raises:
        GateError: an engine of another subset fails.
    """
    failed = failures(results, thresholds)
    for (subset, _), reason in failed.items():
        if subset not in allow_drop:
            raise GateError(f"{reason}. Leave this variant out with --variant, or use --tune")
    return failed
