"""Trains trunk and adapters of the live model on feature banks: any of the three families."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeemo.modality import all_subsets
from edgeemo.training.answer import cross_entropy
from edgeemo.training.dpft import separation_jsd
from edgeemo.training.live.measure import GLIMPSE, Check, Priors, measure_trunk
from edgeemo.training.live.triples import Batch, Pool, draw_batch, subset_priors
from edgeemo.training.loop import LoopConfig, Metrics, fit
from edgeemo.training.lowrank import AdaptedTrunk, Parts, draw_subsets, rows_by_subset
from edgeemo.training.ratios import RatioLog
from edgeemo.training.trunks.build import build_trunk, low_rank_spec
from edgeemo.training.trunks.separation import orthogonality_loss

DIVERGENCE_WINDOWS = 256  # of each subset, that the training ratios are measured on

# Sizes that fit a device: at most two blocks a modality and about 0.4 M parameters.
LIVE_OPTIONS: dict[str, dict[str, Any]] = {
    "mculora": {"width": 96, "blocks": 2, "heads": 2, "dropout": 0.2, "fusion_dropout": 0.3},
    "crosstemporal": {"channels": [64, 64, 64], "heads": 2, "dropout": 0.2, "fusion_dropout": 0.3},
    "redifu": {"width": 64, "heads": 2, "layers": 1, "dropout": 0.2, "fusion_dropout": 0.3},
}


@dataclass(frozen=True)
class TrunkConfig:
    """Family, size and training of the trunk.

    Attributes:
        options: of the family (`edgeemo.training.trunks.build.trunk_options`); those of
            `LIVE_OPTIONS` where it has no entry.
        epochs: evaluations on validation data.
        steps: batches an epoch.
        batch: windows a batch, over all subsets.
        learning_rate: peak.
        orthogonality: weight of the orthogonality loss.
        dynamic_ratios: whether DPFT moves how often each subset is drawn.
        seed: of weights, order and drawing.
    """

    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    epochs: int = 6
    steps: int = 75
    batch: int = 192
    learning_rate: float = 1.5e-3
    orthogonality: float = 0.05
    dynamic_ratios: bool = True
    seed: int = 0

    def trunk_options(self, family: str) -> dict[str, Any]:
        """Returns what a checkpoint notes to build the trunk again."""
        return dict(self.options.get(family, LIVE_OPTIONS[family]))


# A voice, a face or a text alone is both the commonest state of a device and the hardest to serve.
SUBSET_WEIGHTS = {1: 2.0, 2: 1.0, 3: 2.0}


def subset_probabilities(order: tuple[str, ...]) -> dict[str, float]:
    """Returns how often each subset is drawn for a sample."""
    weights = {subset: SUBSET_WEIGHTS[subset.count("+") + 1] for subset in all_subsets(order)}
    total = sum(weights.values())
    return {subset: weight / total for subset, weight in weights.items()}


def new_trunk(
    family: str, pools: Mapping[str, Pool], config: TrunkConfig, prompts: Tensor | None = None
) -> AdaptedTrunk:
    """Returns a fresh trunk with adapters, its input projections scaled to the features of ``pools``.

    Args:
        family: one of `edgeemo.training.trunks.FAMILIES`.
        pools: training pools in canonical order of the modalities.
        config: sizes and seed.
        prompts: (C, E) embeddings of one sentence a label, for the contrastive loss of crosstemporal.
    """
    torch.manual_seed(config.seed)
    options = config.trunk_options(family)
    if family == "crosstemporal":
        options["prompts"] = prompts
    trunk: Any = build_trunk(
        family,
        {m: pool.width for m, pool in pools.items()},
        {m: pool.length for m, pool in pools.items()},
        next(iter(pools.values())).classes,
        **options,
    )
    for m, pool in pools.items():
        features = pool.banks[0].features[::5].astype(np.float32)
        scale = torch.from_numpy(1 / (features.std(axis=0) + 0.1 * features.std()))
        mean = torch.from_numpy(features.mean(axis=0))
        with torch.no_grad():  # the same as standardising the features first
            linear = trunk.inputs[m]
            linear.weight.mul_(scale)
            linear.bias.sub_(linear.weight @ mean)
    return AdaptedTrunk(trunk, low_rank_spec(family))


def fit_trunk(
    family: str,
    pools: Mapping[str, Pool],
    checks: list[Check],
    out: Path,
    *,
    config: TrunkConfig,
    prompts: Tensor | None = None,
    progress: Callable[[int, int, Metrics], None] | None = None,
) -> tuple[AdaptedTrunk, Metrics]:
    """Trains, or resumes, and returns the trunk of the best epoch in eval mode with that epoch's figures.

    Args:
        family: one of `edgeemo.training.trunks.FAMILIES`.
        pools: training pools in canonical order of the modalities.
        checks: what is measured after each epoch.
        out: folder for state, curve and training ratios.
        config: size and training.
        prompts: see `new_trunk`.
        progress: called after each epoch with (epochs done, epochs, metrics).
    """
    model = new_trunk(family, pools, config, prompts)
    priors = subset_priors(pools)
    ratios = RatioLog(subset_probabilities(tuple(pools)), out / "ratios.json", dynamic=config.dynamic_ratios)

    def evaluate(network: Any) -> Metrics:
        if ratios.dynamic:
            ratios.finish_epoch(divergences(network, checks))
        return summary(network, checks, priors)

    result = fit(
        model,
        LoopConfig(
            epochs=config.epochs,
            steps_per_epoch=config.steps,
            learning_rate=config.learning_rate,
            select="score",
            weight_decay=0.02,
            ema_decay=0.995,
            seed=config.seed,
        ),
        batches=lambda epoch, rng: draw_groups(pools, config, ratios.start_epoch(epoch), rng),
        loss=lambda network, groups: trunk_loss(network, groups, config.orthogonality),
        evaluate=evaluate,
        out=out,
        progress=progress,
    )
    return model, result.metrics


def draw_groups(
    pools: Mapping[str, Pool], config: TrunkConfig, chances: Mapping[str, float], rng: np.random.Generator
) -> Iterator[list[Batch]]:
    """Yields the batches of an epoch: a subset is drawn for each sample, samples are grouped by subset.

    Args:
        pools: training pools.
        config: steps and batch.
        chances: subset -> probability of being drawn.
        rng: source of every choice.
    """
    priors = subset_priors(pools)
    for _ in range(config.steps):
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        groups = rows_by_subset(draw_subsets(config.batch, chances, generator))
        yield [
            draw_batch(pools, subset, len(groups[subset]), rng, prior=priors[subset])
            for subset in chances
            if subset in groups
        ]


def trunk_loss(model: AdaptedTrunk, groups: list[Batch], orthogonality: float) -> Tensor:
    """Returns cross entropy of the prior-adjusted logits, the family's own losses and orthogonality.

    All of them are means over the samples of the batch.
    """
    total = sum(len(group.targets) for group in groups)
    terms: list[Tensor] = []
    for group in groups:
        parts: dict[str, Parts] = {}
        masks = {m: torch.from_numpy(mask) for m, mask in group.masks.items()}
        features = {m: torch.from_numpy(values) for m, values in group.features.items()}
        targets, log_prior = torch.from_numpy(group.targets), torch.from_numpy(group.log_prior)
        answer = model.answer(features, masks, record=parts)
        loss = cross_entropy(answer.logits, targets, log_prior)
        own: dict[str, Tensor] = model.trunk.extra_losses(answer, targets, log_prior)
        loss = loss + sum(own.values(), torch.zeros(())) + orthogonality * orthogonality_loss(parts, masks)
        terms.append(loss * (len(group.targets) / total))
    return torch.stack(terms).sum()


def divergences(model: AdaptedTrunk, checks: list[Check]) -> dict[str, float]:
    """Returns how far common and specific pairs of each subset are apart on validation windows (DPFT)."""
    found: dict[str, list[float]] = {}
    for check in checks:
        masks = {m: torch.from_numpy(mask[:DIVERGENCE_WINDOWS]) for m, mask in check.windows.masks.items()}
        features = {
            m: torch.from_numpy(values[:DIVERGENCE_WINDOWS]) for m, values in check.windows.features.items()
        }
        parts: dict[str, Parts] = {}
        with torch.no_grad():
            model.answer(features, masks, record=parts)
        found.setdefault(check.subset, []).append(float(separation_jsd(parts, masks).mean()))
    return {subset: float(np.mean(found[subset])) for subset in model.subsets}


def summary(model: AdaptedTrunk, checks: list[Check], priors: Priors) -> Metrics:
    """Returns the headline figures of every subset and ``score``, their mean, which selects the epoch.

    A face counts by a single glimpse of it, the hardest window: a still face is the same crop 16 times.
    """
    report = measure_trunk(model, checks, priors)
    metrics: Metrics = {}
    for subset, figures in report.items():
        for name, values in figures.items():
            if subset == "video" and not name.endswith(GLIMPSE):
                continue
            kind = "uar" if subset == "audio" or "+" in subset else "accuracy"
            metrics[f"{subset}.{name}.{kind}"] = values[kind]
    by_subset = [
        float(np.mean([value for name, value in metrics.items() if name.split(".")[0] == subset]))
        for subset in report
    ]
    metrics["score"] = float(np.mean(by_subset))
    return metrics
