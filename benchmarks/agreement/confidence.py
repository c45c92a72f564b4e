"""Whether the confidence of a reading is the share of such readings that are right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Table
from benchmarks.swap.triples import Items, draw_triples
from edgeemo.bundle import Bundle, probabilities_from_logits
from edgeemo.evaluation.metrics import metrics_from_probabilities
from edgeemo.evaluation.windows import run_in_batches
from edgeemo.modality import subset_members
from edgeemo.runtimes import Runner


def measure_confidence(
    engines: Mapping[str, Runner], items: Mapping[str, Items], bundle: Bundle, *, count: int, seeds: int
) -> dict[str, Any]:
    """Returns subset -> n, accuracy, mean confidence and calibration error of label-matched windows.

    Args:
        engines: subset -> opened engine.
        items: of each modality.
        bundle: with temperatures and priors; labels are drawn from the prior of the subset.
        count: windows of each subset and seed.
        seeds: how often they are drawn.
    """
    found = {}
    for subset, engine in engines.items():
        spec = bundle.manifest.subsets[subset]
        prior = np.array(spec.prior) / sum(spec.prior)
        shares, truth = [], []
        for seed in range(seeds):
            rng = np.random.default_rng([seed, 77])
            labels = rng.choice(len(prior), size=count, p=prior)
            members = {name: items[name] for name in subset_members(subset)}
            drawn = draw_triples(members, labels, half=seed % 2, rng=rng)
            feed: dict[str, NDArray[Any]] = {}
            for name, own in members.items():
                feed[f"features.{name}"] = own.features[drawn.rows[name]]
                feed[f"mask.{name}"] = own.masks[drawn.rows[name]]
            shares.append(probabilities_from_logits(run_in_batches(engine, feed)["logits"], spec))
            truth.append(labels)
        p, y = np.concatenate(shares), np.concatenate(truth)
        figures = metrics_from_probabilities(p, y)
        found[subset] = {
            "n": figures.n,
            "accuracy": figures.accuracy,
            "confidence": float(p.max(axis=1).mean()),
            "ece": figures.ece,
        }
    return found


def confidence_table(found: Mapping[str, Any]) -> Table:
    """Returns the table of `measure_confidence`."""
    return Table(
        "Confidence of readings",
        "One window of each item, label-matched, labels drawn from the prior of the subset. ECE: expected "
        "calibration error over 15 bins, the gap between confidence and accuracy. Single modalities over "
        "whole data sets: the table of `python -m benchmarks accuracy`. No signal has the confidence 0.",
        ("subset", "n", "accuracy", "mean confidence", "ECE"),
        [
            (
                subset,
                str(row["n"]),
                f"{row['accuracy']:.1%}",
                f"{row['confidence']:.1%}",
                f"{row['ece']:.3f}",
            )
            for subset, row in found.items()
        ],
    )
