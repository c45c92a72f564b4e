"""Accuracy of a bundle's engines on labelled data, through the front-ends and windows of a session."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle import Bundle, SubsetSpec, probabilities_from_logits
from edgeemo.errors import DatasetError, SubsetError
from edgeemo.evaluation.layout import Layout, layout_of
from edgeemo.evaluation.metrics import Metrics, metrics_from_probabilities
from edgeemo.evaluation.sources import Source, open_source
from edgeemo.evaluation.windows import WindowBatch, run_in_batches
from edgeemo.modality import parse_subset
from edgeemo.runtimes import AUTO, Runner, open_engine, open_stem

log = logging.getLogger(__name__)

FEW = 30

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SubsetResult:
    """How one engine did.

    Attributes:
        subset: the engine's subset.
        variant: of the engine.
        stem_variant: of the stem whose features it was given.
        backend: that computed both.
        empty: items that hold nothing to recognise (a text without words); they got the prior.
        metrics: the figures.
    """

    subset: str
    variant: str
    stem_variant: str
    backend: str
    empty: int
    metrics: Metrics


@dataclass(frozen=True)
class Evaluation:
    """How a bundle did on one split of one data set.

    Attributes:
        dataset: name of the folder.
        split: as asked for.
        model_id: the bundle's model.
        labels: what `Metrics.confusion` and `Metrics.recall` count in.
        results: one for each subset that the data can serve.
        notes: what a reader of the figures has to know.
    """

    dataset: str
    split: str
    model_id: str
    labels: tuple[str, ...]
    results: tuple[SubsetResult, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns plain data for a JSON file."""
        return asdict(self)


def evaluate(
    bundle: Bundle,
    folder: str | Path,
    split: str,
    *,
    subsets: Sequence[str] | None = None,
    variant: str = AUTO,
    backend: str = AUTO,
    threads: int = 1,
    progress: Progress | None = None,
) -> Evaluation:
    """Returns the figures of every engine that the data set can serve.

    Args:
        bundle: what to measure.
        folder: a data set in a layout of `edgeemo.evaluation.layout`.
        split: ``val`` and ``dev`` are the same; ``train`` and ``test`` where the folder has them.
        subsets: the engines to measure; None for all that the data can serve.
        variant: of engines and stems; "auto" takes what a session on this machine would.
        backend: as `edgeemo.runtimes.open_engine` takes it.
        threads: threads of each engine.
        progress: called with items done and items in all.

    Raises:
        DatasetError: the folder is no known layout, has no such split, or is broken.
        SubsetError: a subset that the bundle has no engine for, or that this data cannot serve.
        InputError: no such variant.
        BackendError: no such backend.
    """
    folder = Path(folder)
    manifest = bundle.manifest
    layout = layout_of(folder, manifest)
    wanted = _served_subsets(bundle, folder, layout, subsets)
    spec = manifest.modality(layout.serves)
    with ExitStack() as opened:
        stem = opened.enter_context(
            open_stem(bundle, spec.name, variant=variant, backend=backend, threads=threads)
        )
        engines = [
            opened.enter_context(
                open_engine(bundle, subset, variant=variant, backend=backend, threads=threads)
            )
            for subset in wanted
        ]
        source = opened.enter_context(open_source(layout, folder, split))
        truth = _labels_in_order(source, manifest.labels)
        rows = np.flatnonzero(truth >= 0)
        truth = truth[rows]
        if not len(rows):
            raise DatasetError(
                f"{folder}, split {split!r}: no item has exactly one of the labels "
                f"{', '.join(manifest.labels)}"
            )
        sums = np.zeros((len(engines), len(truth), len(manifest.labels)))
        counts = np.zeros(len(truth), np.int64)
        for batch in source.windows(rows, spec, stem, manifest.hop_s):
            np.add.at(counts, batch.item, 1)
            for engine, total in zip(engines, sums, strict=True):
                np.add.at(total, batch.item, _probabilities(engine, manifest.subsets[engine.engine], batch))
            if progress is not None:
                progress(batch.finished, len(truth))
        if progress is not None:
            progress(len(truth), len(truth))
    empty = counts == 0
    results = []
    for engine, total in zip(engines, sums, strict=True):
        p = total / np.maximum(counts, 1)[:, None]
        p[empty] = manifest.subsets[engine.engine].prior
        results.append(
            SubsetResult(
                subset=engine.engine,
                variant=engine.variant,
                stem_variant=stem.variant,
                backend=engine.backend,
                empty=int(empty.sum()),
                metrics=metrics_from_probabilities(p, truth),
            )
        )
    notes = _notes(truth, manifest.labels)
    return Evaluation(folder.name, split, manifest.model_id, manifest.labels, tuple(results), notes)


def _probabilities(engine: Runner, spec: SubsetSpec, batch: WindowBatch) -> NDArray[np.float64]:
    feed = {f"features.{engine.engine}": batch.features, f"mask.{engine.engine}": batch.mask}
    return probabilities_from_logits(run_in_batches(engine, feed)["logits"], spec)


def _served_subsets(
    bundle: Bundle, folder: Path, layout: Layout, subsets: Sequence[str] | None
) -> tuple[str, ...]:
    """Returns the engines that data of one modality can serve: that of the modality alone."""
    manifest = bundle.manifest
    if layout.serves not in manifest.engines:
        raise SubsetError(
            f"{folder.name} serves {layout.serves!r} alone, and this bundle has no engine for that; "
            f"it has: {', '.join(manifest.engines)}"
        )
    if subsets is None:
        return (layout.serves,)
    wanted = tuple(dict.fromkeys(parse_subset(subset, manifest.order) for subset in subsets))
    beyond = [subset for subset in wanted if subset != layout.serves]
    if beyond or not wanted:
        raise SubsetError(
            f"{folder.name} holds {layout.kind}, which serves the subset {layout.serves!r} and no other; "
            f"asked for: {', '.join(beyond) or 'none'}"
        )
    return wanted


def _labels_in_order(source: Source, labels: Sequence[str]) -> NDArray[np.int64]:
    """Returns the index into ``labels`` of each item, (N,); -1 for an item that has none of them."""
    place = {label: index for index, label in enumerate(labels)}
    index_of_word = np.array([place.get(word, -1) for word in source.words], np.int64)
    return np.where(source.label >= 0, index_of_word[source.label], -1)


def _notes(truth: NDArray[np.int64], labels: Sequence[str]) -> tuple[str, ...]:
    items = dict(zip(labels, np.bincount(truth, minlength=len(labels)).tolist(), strict=True))
    absent = [label for label, count in items.items() if not count]
    few = [f"{label} ({count})" for label, count in items.items() if 0 < count < FEW]
    notes = []
    if absent:
        notes.append(f"not in this data, so not in the means over classes: {', '.join(absent)}")
    if few:
        notes.append(f"few items, so a rough recall: {', '.join(few)}")
    return tuple(notes)
