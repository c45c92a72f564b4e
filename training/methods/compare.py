"""Gathers the runs of a method over seeds into cross-fitted predictions and confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeemo.errors import TrainingError
from edgeemo.modality import all_subsets, subset_members
from edgeemo.training.methods.bootstrap import confusion_by_video, figures_from_confusion
from edgeemo.training.methods.disturb import CLEAN, DISTURBANCES
from edgeemo.training.methods.late import fit_temperature, product_of_experts
from edgeemo.training.methods.run import Record
from edgeemo.training.methods.selection import Rule, cross_fit_epochs

Key = tuple[str, str]
"""(condition, subset)"""


@dataclass(frozen=True)
class MethodResult:
    """A method over seeds, every dev utterance reported once a seed.

    Attributes:
        method: its name.
        guesses: (condition, subset) -> (S, N) labels.
        labels: (N,).
        videos: (N,).
        epochs: for each seed, network and half the epoch that reports, counted from 1.
        wall_s: training time of each seed, all networks of the method together.
    """

    method: str
    guesses: dict[Key, NDArray[np.int64]]
    labels: NDArray[np.int64]
    videos: NDArray[np.int64]
    epochs: list[dict[str, tuple[int, int]]]
    wall_s: list[float]

    def confusion(self, keys: Sequence[Key], classes: int = 2) -> NDArray[np.int64]:
        """Returns items by key, seed, video, label and guess, (K, S, V, C, C)."""
        return np.stack(
            [confusion_by_video(self.guesses[key], self.labels, self.videos, classes) for key in keys]
        )

    def by_seed(self, key: Key) -> dict[str, NDArray[np.float64]]:
        """Returns accuracy, UAR and weighted F1 of each seed, (S,)."""
        return figures_from_confusion(self.confusion([key])[0].sum(axis=1))


def method_result(method: str, runs: Sequence[Mapping[str, Record]], rule: Rule) -> MethodResult:
    """Returns the cross-fitted result of a method.

    Args:
        method: of `edgeemo.training.config.METHODS`.
        runs: for each seed, network name -> its finished run; all on the same dev videos.
        rule: how epochs are selected.

    Raises:
        TrainingError: there are no runs, or they are not of the same dev utterances.
    """
    if not runs or not all(runs):
        raise TrainingError(f"there are no runs of {method}")
    first = next(iter(runs[0].values()))
    guesses: dict[Key, list[NDArray[np.int64]]] = {}
    epochs: list[dict[str, tuple[int, int]]] = []
    walls: list[float] = []
    for records in runs:
        for record in records.values():
            same = np.array_equal(record.labels, first.labels) and np.array_equal(record.videos, first.videos)
            if not same:
                raise TrainingError(f"the runs of {method} are not of the same dev utterances")
        seed_guesses, seed_epochs = (_fused if method == "late_fusion" else _chosen)(records, rule)
        for key, values in seed_guesses.items():
            guesses.setdefault(key, []).append(values)
        epochs.append(seed_epochs)
        walls.append(sum(record.meta["wall_s"] for record in records.values()))
    stacked = {key: np.stack(values) for key, values in guesses.items()}
    return MethodResult(method, stacked, first.labels, first.videos, epochs, walls)


def _reporting_epochs(record: Record, rule: Rule) -> tuple[int, int]:
    halves = record.halves[record.videos]
    return cross_fit_epochs(record.logits[:, record.clean_rows()], record.labels, halves, rule)


def _chosen(
    records: Mapping[str, Record], rule: Rule
) -> tuple[dict[Key, NDArray[np.int64]], dict[str, tuple[int, int]]]:
    """Returns the guesses of networks that answer for themselves, and their epochs."""
    guesses: dict[Key, NDArray[np.int64]] = {}
    epochs: dict[str, tuple[int, int]] = {}
    for name, record in records.items():
        on_zero, on_one = _reporting_epochs(record, rule)
        second = record.halves[record.videos] == 1
        for row, key in enumerate(record.keys):
            logits = np.where(second[:, None], record.logits[on_one, row], record.logits[on_zero, row])
            guesses[key] = logits.argmax(axis=1)
        epochs[name] = (on_zero + 1, on_one + 1)
    return guesses, epochs


def _fused(
    records: Mapping[str, Record], rule: Rule
) -> tuple[dict[Key, NDArray[np.int64]], dict[str, tuple[int, int]]]:
    """Returns the guesses of late fusion; epoch and temperature of a half come from the other half."""
    experts: dict[Key, NDArray[np.float64]] = {}
    epochs: dict[str, tuple[int, int]] = {}
    for name, record in records.items():
        chosen = _reporting_epochs(record, rule)
        half = record.halves[record.videos]
        for row, (condition, subset) in enumerate(record.keys):
            expert = np.zeros(record.logits.shape[2:])
            for reporting, epoch in enumerate(chosen):
                clean = record.logits[epoch, record.clean_rows()[0]].astype(np.float64)
                selecting = half != reporting
                temperature = fit_temperature(clean[selecting], record.labels[selecting])
                expert[half == reporting] = (record.logits[epoch, row] / temperature)[half == reporting]
            experts[condition, subset] = expert
        epochs[name] = (chosen[0] + 1, chosen[1] + 1)
    modalities = tuple(subset for condition, subset in experts if condition == CLEAN)
    guesses: dict[Key, NDArray[np.int64]] = {}
    for subset in all_subsets(modalities):
        members = [experts[CLEAN, m] for m in subset_members(subset)]
        guesses[CLEAN, subset] = product_of_experts(members).argmax(axis=1)
    for each in DISTURBANCES:
        members = [experts[each.name if m == each.modality else CLEAN, m] for m in modalities]
        guesses[each.name, each.modality] = experts[each.name, each.modality].argmax(axis=1)
        guesses[each.name, all_subsets(modalities)[-1]] = product_of_experts(members).argmax(axis=1)
    return guesses, epochs
