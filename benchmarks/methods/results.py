"""Reads finished runs and works out every figure of the comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.datasets.mosi import MODALITIES, MosiVideos
from edgeemo.errors import TrainingError
from edgeemo.modality import all_subsets
from edgeemo.training.config import FAMILIES, MethodConfig
from edgeemo.training.methods import MethodResult, Network, Record, load_record, method_result, networks_of
from edgeemo.training.methods.bootstrap import Interval, figures_from_confusion, paired_interval
from edgeemo.training.methods.disturb import CLEAN, DISTURBANCES, missing_pattern_shares
from edgeemo.training.methods.run import rule_of
from edgeemo.training.methods.size import MethodSize, method_size

SUBSETS = all_subsets(MODALITIES)
FIGURES = ("accuracy", "uar", "weighted_f1")
MISSING_RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)

BI_GRU = {
    "audio": 0.526,
    "video": 0.549,
    "text": 0.768,
    "audio+video": 0.541,
    "audio+text": 0.775,
    "video+text": 0.770,
    "audio+video+text": 0.776,
}
"""Accuracy of a bi-GRU over the video, from the README of the data; single figures without deviation."""


@dataclass(frozen=True)
class Comparison:
    """Everything that the tables show.

    Attributes:
        configs: of each method.
        seeds: in the order of the results.
        results: method -> its cross-fitted result.
        sizes: method -> its size.
        majority: share of the commonest label on dev.
        data: train and dev videos and utterances.
    """

    configs: Mapping[str, MethodConfig]
    seeds: tuple[int, ...]
    results: Mapping[str, MethodResult]
    sizes: Mapping[str, MethodSize]
    majority: float
    data: Mapping[str, int]

    def mean_and_deviation(self, method: str, figure: str) -> tuple[list[float], list[float]]:
        """Returns mean and deviation over seeds for each subset, and for the mean of the seven last."""
        rows = np.stack([self.results[method].by_seed((CLEAN, subset))[figure] for subset in SUBSETS])
        rows = np.concatenate([rows, rows.mean(axis=0, keepdims=True)])  # (K + 1, S)
        spread = rows.std(axis=1, ddof=1) if rows.shape[1] > 1 else np.zeros(len(rows))
        return rows.mean(axis=1).tolist(), spread.tolist()

    def interval(self, ours: str, theirs: str, subsets: Sequence[str], figure: str) -> Interval:
        """Returns the paired difference of two methods on the mean of some subsets."""
        keys = [(CLEAN, subset) for subset in subsets]
        tables = [self.results[method].confusion(keys) for method in (ours, theirs)]
        return paired_interval(tables[0], tables[1], figure)

    def at_missing_rates(self, method: str, figure: str) -> list[float]:
        """Returns a figure at each of `MISSING_RATES`, exact over all patterns of missing modalities."""
        tables = self.results[method].confusion([(CLEAN, subset) for subset in SUBSETS])
        pooled = tables.sum(axis=(1, 2)).astype(np.float64)  # (K, C, C)
        found = []
        for rate in MISSING_RATES:
            shares = missing_pattern_shares(rate, SUBSETS, len(MODALITIES))
            mixed: NDArray[Any] = np.einsum("k,kcd->cd", shares, pooled)
            found.append(float(figures_from_confusion(mixed)[figure]))
        return found

    def disturbed(self, method: str, name: str, subset: str) -> float:
        """Returns the accuracy under a condition, mean over seeds."""
        return float(self.results[method].by_seed((name, subset))["accuracy"].mean())


def collect_results(
    configs: Mapping[str, MethodConfig],
    seeds: Sequence[int],
    data: tuple[MosiVideos, MosiVideos],
    out: Path,
) -> Comparison:
    """Reads the runs of all methods.

    Args:
        configs: method -> settings.
        seeds: that every method has runs of.
        data: train and dev videos.
        out: holds the runs.

    Raises:
        TrainingError: a run is not finished, or has other settings.
    """
    train, dev = data
    results: dict[str, MethodResult] = {}
    for method, config in configs.items():
        runs = [
            {
                network.name: _record(config, network, run_folder(out, config, network, seed))
                for network in networks_of(config, MODALITIES)
            }
            for seed in seeds
        ]
        results[method] = method_result(method, runs, rule_of(config))
    labels = dev.label[dev.mask > 0]
    return Comparison(
        configs=configs,
        seeds=tuple(seeds),
        results=results,
        sizes={method: _kept_size(config, dev, out / "sizes") for method, config in configs.items()},
        majority=float(np.bincount(labels).max() / len(labels)),
        data={
            "train_videos": len(train),
            "train_utterances": int(train.mask.sum()),
            "dev_videos": len(dev),
            "dev_utterances": len(labels),
        },
    )


def run_folder(out: Path, config: MethodConfig, network: Network, seed: int) -> Path:
    """Returns where a run is kept: baselines on another trunk than the first family's lie apart."""
    apart = not config.adapted and config.family != FAMILIES[0]
    return (out / f"on-{config.family}" if apart else out) / network.name / f"seed{seed}"


def _record(config: MethodConfig, network: Network, folder: Path) -> Record:
    record = load_record(folder)
    if record.meta["config"] != json.loads(json.dumps(config.identity(adapted=network.adapted))):
        raise TrainingError(f"{folder} was trained with other settings than those of {config.method}")
    return record


def _kept_size(config: MethodConfig, dev: MosiVideos, folder: Path) -> MethodSize:
    """Returns the size of a method, from a file where it was worked out before (tracing takes minutes)."""
    path = folder / f"{config.family}.{config.method}.json"
    key = json.loads(json.dumps([config.family, config.trunk, dev.widths, dev.length]))
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] == key:
            return MethodSize(**kept["size"])
    size = method_size(config, dev.widths, dev.length)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"key": key, "size": asdict(size)}) + "\n", encoding="utf-8")
    return size


def conditions_by_panel() -> dict[str, list[tuple[str, float]]]:
    """Returns panel title -> (condition, strength) in order, clean first."""
    panels: dict[str, list[tuple[str, float]]] = {}
    for each in DISTURBANCES:
        panels.setdefault(f"{each.modality} {each.kind}", []).append((each.name, each.strength))
    return panels
