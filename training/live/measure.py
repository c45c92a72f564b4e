"""Validation figures of the trunk, every subset and every corpus by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle import SubsetSpec, probabilities_from_logits
from edgeemo.evaluation.metrics import metrics_from_probabilities
from edgeemo.training.checkpoints.save import Windows, answers
from edgeemo.training.live.features import CORPORA, FeatureBank
from edgeemo.training.live.triples import Batch, Pool, draw_batch
from edgeemo.training.lowrank import AdaptedTrunk

Array = NDArray[np.float32]
Priors = Mapping[str, NDArray[np.float64]]

GLIMPSE = "_glimpse"  # a face in one slot of the window, the others empty
HOP_POSITIONS = 5  # a window every half second of a clip, from when the clip fills one


@dataclass(frozen=True)
class Check:
    """Windows to measure one subset on.

    Attributes:
        name: such as ``"speech_ravdess"`` or ``"label_matched"``.
        subset: canonical key.
        windows: features and masks of all windows.
        item: (N,) which item a window belongs to; an item's windows are averaged.
        targets: (items, 7) label shares.
        labels: (items,) label, or -1 where the item does not count for accuracy.
    """

    name: str
    subset: str
    windows: Windows
    item: NDArray[np.int64]
    targets: Array
    labels: NDArray[np.int64]


def validation_checks(
    val: Mapping[str, FeatureBank],
    pools: Mapping[str, Pool],
    priors: Priors,
    *,
    triples: int,
    seed: int,
) -> list[Check]:
    """Returns every check: each corpus of each modality, and label-matched windows of each larger subset.

    Args:
        val: modality -> bank of the validation split.
        pools: modality -> pool over ``val``.
        priors: subset -> prior, of training.
        triples: label-matched windows of each subset of two or more modalities.
        seed: of the drawing.
    """
    checks: list[Check] = []
    for m, bank in val.items():
        for number, name in enumerate(CORPORA[m]):
            rows = np.flatnonzero(bank.corpus == number)
            if len(rows):
                checks.append(_corpus_check(name, m, bank, rows, pools[m]))
            if len(rows) and m == "video":
                checks.append(_still(checks[-1]))
                checks[-2] = replace(checks[-2], name=f"{name}{GLIMPSE}")
    rng = np.random.default_rng([seed, 11])
    for subset, prior in priors.items():
        if "+" in subset:
            batch = draw_batch(pools, subset, triples, rng, prior=prior, plain=True)
            checks.append(_check_from_batch("label_matched", batch))
    return checks


def _corpus_check(name: str, m: str, bank: FeatureBank, rows: NDArray[np.int64], pool: Pool) -> Check:
    pieces = []  # (item, start, end) in bank.features
    for item, row in enumerate(rows):
        start, end = (int(value) for value in bank.spans[0, row])
        stops = [end]
        if m == "audio":
            stops = [*range(end, start + pool.length - 1, -HOP_POSITIONS)] or [end]
        pieces += [(item, max(start, stop - pool.length), stop) for stop in stops]
    features = np.zeros((len(pieces), pool.length, pool.width), np.float32)
    masks = np.zeros((len(pieces), pool.length), np.float32)
    for at, (_, start, stop) in enumerate(pieces):
        count = stop - start
        place = slice(0, count) if pool.align == "left" else slice(pool.length - count, pool.length)
        features[at, place], masks[at, place] = bank.features[start:stop], 1.0
    items = np.array([item for item, _, _ in pieces])
    return Check(name, m, Windows({m: features}, {m: masks}), items, bank.targets[rows], bank.labels[rows])


def _still(check: Check) -> Check:
    """Returns the check of one crop with that crop in every slot, as `edgeemo eval` shows a face."""
    length = check.windows.features["video"].shape[1]
    features = np.repeat(check.windows.features["video"][:, -1:], length, axis=1)
    return replace(
        check, windows=Windows({"video": features}, {"video": np.ones(features.shape[:2], np.float32)})
    )


def _check_from_batch(name: str, batch: Batch) -> Check:
    count = len(batch.targets)
    windows = Windows(batch.features, batch.masks)
    return Check(name, batch.subset, windows, np.arange(count), batch.targets, batch.targets.argmax(axis=1))


def probabilities(logits: Array, prior: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Returns ``softmax(logits / temperature + log prior)``, (N, 7), as the session computes it."""
    return probabilities_from_logits(logits, SubsetSpec(temperature, tuple(prior)))


def item_probabilities(check: Check, windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the mean of the windows of each item, (items, 7)."""
    count = len(check.labels)
    sums = np.zeros((count, windows.shape[1]))
    np.add.at(sums, check.item, windows)
    return sums / np.bincount(check.item, minlength=count)[:, None]


def scores(check: Check, predicted: NDArray[np.float64]) -> dict[str, float]:
    """Returns n, accuracy, UAR, macro-F1, weighted F1 and calibration error, as `edgeemo eval` does.

    Args:
        check: knows the labels; items without one do not count.
        predicted: (items, 7) probabilities.
    """
    counted = check.labels >= 0
    metrics = metrics_from_probabilities(predicted[counted], check.labels[counted])
    return {
        "n": float(metrics.n),
        "accuracy": metrics.accuracy,
        "uar": metrics.uar,
        "macro_f1": metrics.macro_f1,
        "weighted_f1": metrics.weighted_f1,
        "calibration_error": metrics.ece,
    }


def measure_trunk(
    model: AdaptedTrunk,
    checks: list[Check],
    priors: Priors,
    temperatures: Mapping[str, float] | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Returns subset -> check -> figures."""
    report: dict[str, dict[str, dict[str, float]]] = {}
    for check in checks:
        logits, _ = answers(model, check.windows, check.subset)
        temperature = temperatures[check.subset] if temperatures else 1.0
        shares = probabilities(logits, priors[check.subset], temperature)
        report.setdefault(check.subset, {})[check.name] = scores(check, item_probabilities(check, shares))
    return report
