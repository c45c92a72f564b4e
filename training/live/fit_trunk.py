"""Trains trunk and adapters of the live model on feature banks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgeemo.modality import all_subsets
from edgeemo.training.live.measure import GLIMPSE, Check, Priors, measure_trunk
from edgeemo.training.live.triples import Batch, Pool, draw_batch, subset_priors
from edgeemo.training.loop import LoopConfig, Metrics, fit
from edgeemo.training.lowrank import AdaptedTrunk, Parts, draw_subsets, rows_by_subset
from edgeemo.training.trunks.mculora import LOW_RANK, MCULoRATrunk
from edgeemo.training.trunks.separation import orthogonality_loss


@dataclass(frozen=True)
class TrunkConfig:
    """Size and training of the trunk.

    Attributes:
        width: d.
        blocks: attention blocks a modality.
        heads: attention heads.
        dropout: inside the branches.
        fusion_dropout: on the pooled vectors.
        epochs: evaluations on validation data.
        steps: batches an epoch.
        batch: windows a batch, over all subsets.
        learning_rate: peak.
        orthogonality: weight of the orthogonality loss.
        seed: of weights, order and drawing.
    """

    width: int = 96
    blocks: int = 2
    heads: int = 2
    dropout: float = 0.2
    fusion_dropout: float = 0.3
    epochs: int = 12
    steps: int = 100
    batch: int = 192
    learning_rate: float = 1.5e-3
    orthogonality: float = 0.05
    seed: int = 0

    def trunk_arguments(self) -> dict[str, int]:
        """Returns what a checkpoint notes to build the trunk again."""
        return {"width": self.width, "blocks": self.blocks, "heads": self.heads}


# A voice, a face or a text alone is both the commonest state of a device and the hardest to serve.
SUBSET_WEIGHTS = {1: 2.0, 2: 1.0, 3: 2.0}


def subset_probabilities(order: tuple[str, ...]) -> dict[str, float]:
    """Returns how often each subset is drawn for a sample."""
    weights = {subset: SUBSET_WEIGHTS[subset.count("+") + 1] for subset in all_subsets(order)}
    total = sum(weights.values())
    return {subset: weight / total for subset, weight in weights.items()}


def new_trunk(pools: Mapping[str, Pool], config: TrunkConfig) -> AdaptedTrunk:
    """Returns a fresh trunk with adapters, its input projections scaled to the features of ``pools``."""
    torch.manual_seed(config.seed)
    trunk = MCULoRATrunk(
        {m: pool.width for m, pool in pools.items()},
        {m: pool.length for m, pool in pools.items()},
        next(iter(pools.values())).classes,
        dropout=config.dropout,
        fusion_dropout=config.fusion_dropout,
        width=config.width,
        blocks=config.blocks,
        heads=config.heads,
    )
    for m, pool in pools.items():
        features = pool.banks[0].features[::5].astype(np.float32)
        scale = torch.from_numpy(1 / (features.std(axis=0) + 0.1 * features.std()))
        mean = torch.from_numpy(features.mean(axis=0))
        with torch.no_grad():  # the same as standardising the features first
            linear = trunk.inputs[m]
            linear.weight.mul_(scale)
            linear.bias.sub_(linear.weight @ mean)
    return AdaptedTrunk(trunk, LOW_RANK)


def fit_trunk(
    pools: Mapping[str, Pool],
    checks: list[Check],
    out: Path,
    *,
    config: TrunkConfig,
    progress: Callable[[int, int, Metrics], None] | None = None,
) -> tuple[AdaptedTrunk, Metrics]:
    """Trains, or resumes, and returns the trunk of the best epoch in eval mode with that epoch's figures.

    Args:
        pools: training pools in canonical order of the modalities.
        checks: what is measured after each epoch.
        out: folder for state and curve.
        config: size and training.
        progress: called after each epoch with (epochs done, epochs, metrics).
    """
    model = new_trunk(pools, config)
    priors = subset_priors(pools)
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
        batches=lambda _, rng: draw_groups(pools, config, rng),
        loss=lambda network, groups: trunk_loss(network, groups, config.orthogonality),
        evaluate=lambda network: summary(network, checks, priors),
        out=out,
        progress=progress,
    )
    return model, result.metrics


def draw_groups(
    pools: Mapping[str, Pool], config: TrunkConfig, rng: np.random.Generator
) -> Iterator[list[Batch]]:
    """Yields the batches of an epoch: a subset is drawn for each sample, samples are grouped by subset."""
    chances, priors = subset_probabilities(tuple(pools)), subset_priors(pools)
    for _ in range(config.steps):
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        groups = rows_by_subset(draw_subsets(config.batch, chances, generator))
        yield [
            draw_batch(pools, subset, len(groups[subset]), rng, prior=priors[subset])
            for subset in chances
            if subset in groups
        ]


def trunk_loss(model: AdaptedTrunk, groups: list[Batch], orthogonality: float) -> Tensor:
    """Returns cross entropy of the prior-adjusted logits over all samples, plus the orthogonality loss."""
    total = sum(len(group.targets) for group in groups)
    terms: list[Tensor] = []
    for group in groups:
        parts: dict[str, Parts] = {}
        masks = {m: torch.from_numpy(mask) for m, mask in group.masks.items()}
        features = {m: torch.from_numpy(values) for m, values in group.features.items()}
        logits, _ = model(features, masks, record=parts)
        log_shares = torch.log_softmax(logits + torch.from_numpy(group.log_prior), dim=1)
        cross_entropy = -(torch.from_numpy(group.targets) * log_shares).sum(dim=1).mean()
        both = cross_entropy + orthogonality * orthogonality_loss(parts, masks)
        terms.append(both * (len(group.targets) / total))
    return torch.stack(terms).sum()


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
