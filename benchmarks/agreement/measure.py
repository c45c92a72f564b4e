"""Matched and mismatched windows, what engines say about them, and the figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.agreement.confidence import confidence_table, measure_confidence
from benchmarks.agreement.scores import (
    DIFFER,
    DIVERGENCE,
    SHIPPED,
    Float64,
    area_under_roc,
    scores_from_logits,
)
from benchmarks.report import Table
from benchmarks.swap.triples import Items, draw_triples, read_items
from edgeemo.bundle import Bundle
from edgeemo.evaluation.metrics import calibration_error
from edgeemo.evaluation.windows import run_in_batches
from edgeemo.modality import subset_members
from edgeemo.runtimes import Runner, open_engine
from edgeemo.session.over_time.agreement import CLEAR_CONTRADICTION, contradiction_of, shares_from_evidence

EVIDENCE, SINGLES = "evidence of the engine", "single-modality engines"
CLEAR = 0.6  # a modality speaks clearly where its own engine gives the true label so much


@dataclass(frozen=True)
class Said:
    """What was said about items of one subset.

    Attributes:
        mismatched: (N,) whether one modality has another label than the others.
        logits: source -> modality -> (N, C), free of any prior.
        clear: (N,) whether every modality's own engine is right and sure.
    """

    mismatched: NDArray[np.bool_]
    logits: dict[str, dict[str, NDArray[Any]]]
    clear: NDArray[np.bool_]


def measure(bundle: Bundle, data: Path, *, variant: str, count: int, seeds: int) -> tuple[Any, list[Table]]:
    """Returns figures and tables.

    Args:
        bundle: whose stems and engines.
        data: holds the data sets.
        variant: of stems and engines.
        count: matched items, and as many mismatched ones, of each subset and seed.
        seeds: how often they are drawn.
    """
    manifest = bundle.manifest
    items = {name: read_items(bundle, data, name, variant=variant) for name in manifest.order}
    subsets = [subset for subset in manifest.engines if len(subset_members(subset)) > 1]
    figures: dict[str, Any] = {"n": {"matched": count, "mismatched": count, "seeds": seeds}, "subsets": {}}
    with ExitStack() as opened:
        engines = {
            subset: opened.enter_context(open_engine(bundle, subset, variant=variant))
            for subset in manifest.engines
        }
        for subset in subsets:
            runs = [_said(engines, items, subset, bundle, count=count, seed=seed) for seed in range(seeds)]
            figures["subsets"][subset] = _figures(runs, subset, bundle)
        figures["confidence"] = measure_confidence(engines, items, bundle, count=count, seeds=seeds)
        figures["cost_us"] = _cost(engines, items, bundle, rounds=count)
    return figures, _tables(figures)


def _said(
    engines: Mapping[str, Runner],
    items: Mapping[str, Items],
    subset: str,
    bundle: Bundle,
    *,
    count: int,
    seed: int,
) -> Said:
    rng = np.random.default_rng([seed, len(subset)])
    members, classes = subset_members(subset), len(bundle.manifest.labels)
    common = rng.integers(classes, size=2 * count)
    mismatched = np.arange(2 * count) >= count
    odd = rng.integers(len(members), size=2 * count)
    other = (common + rng.integers(1, classes, size=2 * count)) % classes
    feed: dict[str, NDArray[Any]] = {}
    singles, clear = {}, np.ones(2 * count, bool)
    for number, name in enumerate(members):
        labels = np.where(mismatched & (odd == number), other, common)
        rows = draw_triples({name: items[name]}, labels, half=seed % 2, rng=rng).rows[name]
        own = {f"features.{name}": items[name].features[rows], f"mask.{name}": items[name].masks[rows]}
        feed |= own
        singles[name] = run_in_batches(engines[name], own)["logits"]
        sure = _shares(singles[name], bundle.manifest.subsets[name].temperature)[np.arange(2 * count), labels]
        clear &= sure >= CLEAR
    answers = run_in_batches(engines[subset], feed)
    evidence = {name: answers[f"evidence.{name}"] for name in members}
    return Said(mismatched, {EVIDENCE: evidence, SINGLES: singles}, clear)


def _shares(logits: NDArray[Any], temperature: float) -> Float64:
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _figures(runs: list[Said], subset: str, bundle: Bundle) -> dict[str, Any]:
    own = {name: bundle.manifest.subsets[name].temperature for name in subset_members(subset)}
    joint = dict.fromkeys(own, bundle.manifest.subsets[subset].temperature)
    found: dict[str, Any] = {"area": {EVIDENCE: {}, SINGLES: {}}}
    for source, temperatures in ((EVIDENCE, joint), (SINGLES, own)):
        scored = [scores_from_logits(run.logits[source], temperatures) for run in runs]
        for score in (SHIPPED, DIVERGENCE, DIFFER):
            areas = [area_under_roc(by[score], run.mismatched) for by, run in zip(scored, runs, strict=True)]
            found["area"][source][score] = {"mean": float(np.mean(areas)), "sd": float(np.std(areas))}
        if source == EVIDENCE:
            value = np.concatenate([by[SHIPPED] for by in scored])
    truth = np.concatenate([run.mismatched for run in runs])
    clear = np.concatenate([run.clear for run in runs])
    shown = value >= CLEAR_CONTRADICTION
    found["calibration_error"] = calibration_error(np.maximum(value, 1 - value), (value >= 0.5) == truth)
    found["false_alarms"] = float(shown[~truth].mean())
    found["shown"] = float(shown[truth].mean())
    found["shown_where_clear"] = float(shown[truth & clear].mean())
    found["false_alarms_where_clear"] = float(shown[~truth & clear].mean())
    return found


def _cost(
    engines: Mapping[str, Runner], items: Mapping[str, Items], bundle: Bundle, *, rounds: int
) -> dict[str, float]:
    """Returns microseconds of one hop: the largest engine, the single-modality ones, and the score itself."""
    members = bundle.manifest.order
    feeds: dict[str, dict[str, NDArray[Any]]] = {
        name: {f"features.{name}": items[name].features[:1], f"mask.{name}": items[name].masks[:1]}
        for name in members
    }
    whole = {key: array for feed in feeds.values() for key, array in feed.items()}
    largest = engines["+".join(members)]
    answer = largest.run(whole)
    labels = bundle.manifest.labels
    evidence = {
        name: dict(zip(labels, map(float, answer[f"evidence.{name}"][0]), strict=True)) for name in members
    }
    return {
        "engine": _median_us(lambda: largest.run(whole), rounds),
        SINGLES: sum(_median_us(partial(engines[name].run, feeds[name]), rounds) for name in members),
        EVIDENCE: _median_us(
            lambda: contradiction_of(shares_from_evidence(evidence, temperature=0.9)), rounds
        ),
    }


def _median_us(call: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return round(median(times) * 1e6, 1)


def _tables(figures: Mapping[str, Any]) -> list[Table]:
    count, seeds = figures["n"]["matched"], figures["n"]["seeds"]
    areas = [
        (f"{subset}, {source}", *(f"{by[score]['mean']:.3f} ± {by[score]['sd']:.3f}" for score in by))
        for subset, found in figures["subsets"].items()
        for source, by in found["area"].items()
    ]
    shown = [
        (
            subset,
            *(f"{found[key]:.1%}" for key in ("false_alarms", "shown", "false_alarms_where_clear")),
            f"{found['shown_where_clear']:.1%}",
            f"{found['calibration_error']:.3f}",
        )
        for subset, found in figures["subsets"].items()
    ]
    cost = figures["cost_us"]
    return [
        Table(
            "Area under the ROC curve",
            f"{count} windows with one label and {count} in which one modality bears another, labels drawn "
            "uniformly; voice, face and sentence of different people, val and dev. Mean and deviation of "
            f"{seeds} draws; 0.5 is chance. Two modalities of one label are told from two of different "
            "labels only as well as the labels themselves are recognised.",
            ("subset, what the score is made of", SHIPPED, DIVERGENCE, DIFFER),
            areas,
        ),
        Table(
            f"What is shown at {CLEAR_CONTRADICTION}",
            "Evidence of the engine, odds of one common label. Clear: every modality's own engine gives its "
            f"true label {CLEAR:.0%} or more. ECE: of the contradiction as a probability, half of the "
            "windows being mismatched.",
            ("subset", "false alarms", "shown", "false alarms, clear", "shown, clear", "ECE"),
            shown,
        ),
        Table(
            "Cost of one hop",
            "Medians in microseconds; the evidence comes with the engine's answer.",
            ("what", "us"),
            [
                ("the tri-modal engine", f"{cost['engine']:.0f}"),
                (f"{SINGLES}, all three, beside it", f"{cost[SINGLES]:.0f}"),
                ("the score from the evidence", f"{cost[EVIDENCE]:.1f}"),
            ],
        ),
        confidence_table(figures["confidence"]),
    ]
