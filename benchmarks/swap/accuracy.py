"""Accuracy of every subset on label-matched triples: an engine for each, late fusion, one masked model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Table
from benchmarks.swap.accuracy_tables import (
    AGES_S,
    AVERAGE,
    HALF_LIFE_S,
    LATE,
    MASKED,
    OWN,
    REPLICATES,
    SHIPPED,
    accuracy_tables,
)
from benchmarks.swap.intervals import accuracies, interval, mean_recalls, pigeonhole_weights
from benchmarks.swap.pooling import Float64, fit_weights, half_life_shares, pooled_shares
from benchmarks.swap.triples import Items, Triples, draw_triples, read_items
from edgeemo.bundle import Bundle
from edgeemo.evaluation.metrics import metrics_from_probabilities
from edgeemo.evaluation.windows import run_in_batches
from edgeemo.modality import all_subsets, subset_members
from edgeemo.runtimes import Runner, open_engine


@dataclass(frozen=True)
class Answers:
    """What the engines say about triples of one half.

    Attributes:
        triples: the items.
        engines: subset -> (N, C) logits of its engine.
        masked: subset -> (N, C) logits of the tri-modal engine that is given zeros for the others.
    """

    triples: Triples
    engines: dict[str, NDArray[Any]]
    masked: dict[str, NDArray[Any]]


def measure(bundle: Bundle, data: Path, *, variant: str, triples: int, seeds: int) -> tuple[Any, list[Table]]:
    """Returns figures and tables.

    Args:
        bundle: whose stems and engines.
        data: holds the data sets.
        variant: of stems and engines.
        triples: of each half and seed.
        seeds: how often triples are drawn.
    """
    manifest = bundle.manifest
    prior = np.array(manifest.subsets["+".join(manifest.order)].prior)
    items = {name: read_items(bundle, data, name, variant=variant) for name in manifest.order}
    shares: dict[str, dict[str, list[Float64]]] = {}
    drawn: list[Triples] = []
    with ExitStack() as opened:
        engines = {
            subset: opened.enter_context(open_engine(bundle, subset, variant=variant))
            for subset in manifest.engines
        }
        for seed in range(seeds):
            halves = [
                _answers(engines, items, half, count=triples, prior=prior, seed=seed) for half in (0, 1)
            ]
            for half in (0, 1):
                found = _method_shares(halves[half], halves[1 - half], prior)
                _add_shipped(found, halves[half], bundle, prior)
                for method, by_subset in found.items():
                    for subset, rows in by_subset.items():
                        shares.setdefault(method, {}).setdefault(subset, []).append(rows)
                drawn.append(halves[half].triples)
    figures = _figures(shares, drawn, seeds)
    stale = _stale_figures(shares, drawn, tuple(manifest.order))
    counts = {name: len(own.labels) for name, own in items.items()}
    plain = {
        "n": {"triples": 2 * triples, "seeds": seeds, "items": counts},
        "prior": prior.round(4).tolist(),
        "subsets": figures,
        "after_a_loss": stale,
    }
    return plain, accuracy_tables(plain)


def _answers(
    engines: Mapping[str, Runner],
    items: Mapping[str, Items],
    half: int,
    *,
    count: int,
    prior: Float64,
    seed: int,
) -> Answers:
    rng = np.random.default_rng([seed, half])
    drawn = draw_triples(items, rng.choice(len(prior), size=count, p=prior), half=half, rng=rng)
    full: dict[str, NDArray[Any]] = {}
    for name, own in items.items():
        full[f"features.{name}"] = own.features[drawn.rows[name]]
        full[f"mask.{name}"] = own.masks[drawn.rows[name]]
    order = tuple(items)
    answers, masked = {}, {}
    for subset in all_subsets(order):
        members = subset_members(subset)
        feed = {key: array for key, array in full.items() if key.split(".")[1] in members}
        answers[subset] = run_in_batches(engines[subset], feed)["logits"]
        zeros = {key: np.zeros_like(array) for key, array in full.items() if key not in feed}
        complete = "+".join(order)
        masked[subset] = (
            answers[subset]
            if subset == complete
            else run_in_batches(engines[complete], feed | zeros)["logits"]
        )
    return Answers(drawn, answers, masked)


def _method_shares(reported: Answers, fitted: Answers, prior: Float64) -> dict[str, dict[str, Float64]]:
    """Returns method -> subset -> (N, C) probabilities; everything fitted comes from the other half."""
    labels = fitted.triples.labels
    found: dict[str, dict[str, Float64]] = {OWN: {}, LATE: {}, MASKED: {}, AVERAGE: {}}

    def pooled(one: list[NDArray[Any]], other: list[NDArray[Any]]) -> Float64:
        return pooled_shares(one, fit_weights(other, labels, prior), prior)

    for subset in reported.engines:
        members = subset_members(subset)
        found[OWN][subset] = pooled([reported.engines[subset]], [fitted.engines[subset]])
        found[MASKED][subset] = pooled([reported.masked[subset]], [fitted.masked[subset]])
        found[LATE][subset] = pooled(
            [reported.engines[name] for name in members], [fitted.engines[name] for name in members]
        )
        singles = {name: pooled([reported.engines[name]], [fitted.engines[name]]) for name in members}
        found[AVERAGE][subset] = half_life_shares(singles, dict.fromkeys(members, 0.0), HALF_LIFE_S)
    return found


def _add_shipped(
    found: dict[str, dict[str, Float64]], answers: Answers, bundle: Bundle, prior: Float64
) -> None:
    """Adds the engines under the temperatures of the manifest, which knows both halves."""
    found[SHIPPED] = {
        subset: pooled_shares([logits], np.array([1 / bundle.manifest.subsets[subset].temperature]), prior)
        for subset, logits in answers.engines.items()
    }


def _figures(
    shares: Mapping[str, Mapping[str, list[Float64]]], drawn: list[Triples], seeds: int
) -> dict[str, Any]:
    labels = np.concatenate([triples.labels for triples in drawn])
    items = {name: np.concatenate([triples.rows[name] for triples in drawn]) for name in drawn[0].rows}
    weights = pigeonhole_weights(items, replicates=REPLICATES, seed=0)
    size = len(labels) // seeds
    figures: dict[str, Any] = {}
    for subset in shares[OWN]:
        joined = {method: np.concatenate(by_subset[subset]) for method, by_subset in shares.items()}
        hits = {method: rows.argmax(axis=1) == labels for method, rows in joined.items()}
        found: dict[str, Any] = {}
        for method, rows in joined.items():
            each = [
                metrics_from_probabilities(rows[first : first + size], labels[first : first + size])
                for first in range(0, len(labels), size)
            ]
            found[method] = {
                name: {
                    "mean": float(np.mean([getattr(one, name) for one in each])),
                    "deviation": float(np.std([getattr(one, name) for one in each], ddof=1))
                    if seeds > 1
                    else 0.0,
                }
                for name in ("accuracy", "uar", "ece")
            }
        for other in (LATE, MASKED, AVERAGE):
            found[f"{OWN} minus {other}"] = {
                "accuracy": _difference(accuracies(hits[OWN], weights), accuracies(hits[other], weights)),
                "uar": _difference(
                    mean_recalls(hits[OWN], labels, weights), mean_recalls(hits[other], labels, weights)
                ),
            }
        figures[subset] = found
    return figures


def _difference(own: Float64, other: Float64) -> dict[str, float]:
    low, high = interval(own - other)
    return {"mean": float(np.mean(own - other)), "low": low, "high": high}


def _stale_figures(
    shares: Mapping[str, Mapping[str, list[Float64]]], drawn: list[Triples], order: tuple[str, ...]
) -> dict[str, Any]:
    """Returns what is right after one modality died and the emotion became another one."""
    labels = np.concatenate([triples.labels for triples in drawn])
    singles = {name: np.concatenate(shares[AVERAGE][name]) for name in order}  # calibrated, alone
    before = np.random.default_rng(5).permutation(len(labels))
    changed = labels[before] != labels
    figures: dict[str, Any] = {}
    for dead in order:
        rest = tuple(name for name in order if name != dead)
        subset = "+".join(rest)
        found: dict[str, Any] = {
            method: float(np.mean((np.concatenate(shares[method][subset]).argmax(axis=1) == labels)[changed]))
            for method in (OWN, LATE)
        }
        for age_s in AGES_S:
            said = {name: singles[name] for name in rest} | {dead: singles[dead][before]}
            ages_s = dict.fromkeys(rest, 0.0) | {dead: age_s}
            guess = half_life_shares(said, ages_s, HALF_LIFE_S).argmax(axis=1)
            found[f"half-lives, {age_s:g} s"] = float(np.mean((guess == labels)[changed]))
        figures[dead] = found
    return figures
