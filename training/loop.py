"""The training loop that every network here is fitted with: resumable, selected on unseen data."""

from __future__ import annotations

import csv
import logging
import math
import os
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeemo.errors import TrainingError

log = logging.getLogger(__name__)

Metrics = dict[str, float]

_AGAIN = "delete it to start the run again"
_STATE = frozenset(
    ["config", "model", "average", "best", "best_epoch", "optimizer", "schedule", "epoch", "steps", "history"]
)


@dataclass(frozen=True)
class LoopConfig:
    """How long and how hard to train.

    Attributes:
        epochs: passes over what `batches` yields.
        steps_per_epoch: batches in one epoch, for the learning-rate schedule.
        learning_rate: the peak, reached after `warmup` (a fraction of all steps), then a cosine to zero.
        weight_decay: of AdamW, on tensors of two or more dimensions.
        ema_decay: of the running average of the weights that is evaluated and kept; 0 keeps the last.
        clip_norm: largest norm of the gradient.
        select: the metric of `evaluate` to maximise over epochs.
        seed: every epoch derives its own random state from it, so a resumed run equals an unbroken one.
    """

    epochs: int
    steps_per_epoch: int
    learning_rate: float
    select: str
    weight_decay: float = 1e-4
    warmup: float = 0.1
    ema_decay: float = 0.0
    clip_norm: float = 5.0
    seed: int = 0


@dataclass(frozen=True)
class FitResult:
    """What came out: metrics of the kept epoch and the curve of all of them."""

    best_epoch: int
    metrics: Metrics
    history: list[Metrics]


def fit(
    model: torch.nn.Module,
    config: LoopConfig,
    *,
    batches: Callable[[int, np.random.Generator], Iterable[Any]],
    loss: Callable[[torch.nn.Module, Any], torch.Tensor],
    evaluate: Callable[[torch.nn.Module], Metrics],
    out: Path,
    progress: Callable[[int, int, Metrics], None] | None = None,
    stop: Callable[[list[Metrics]], bool] | None = None,
) -> FitResult:
    """Trains `model` in place and leaves it with the weights of the best epoch, in eval mode.

    After each epoch the whole state goes to ``out/state.pt`` (atomically) and the curve to
    ``out/curve.csv``; a run that was killed continues behind the last finished epoch.

    Args:
        model: the network; only parameters with ``requires_grad`` are trained.
        config: schedule and selection.
        batches: gives the batches of an epoch from its number and its own random generator.
        loss: scalar loss of one batch.
        evaluate: metrics on data that is not trained on; called with averaged weights where
            `ema_decay` is set.
        out: folder for state and curve.
        progress: called after each epoch with (epochs done, epochs, metrics).
        stop: asked before each epoch but the first with the curve so far; true ends the run there.

    Raises:
        TrainingError: the folder holds a damaged state or that of another run, or the loss is not finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    run = _Run(model, config)
    run.resume(out / "state.pt")
    for epoch in range(run.epoch, config.epochs):
        if stop is not None and run.history and stop(run.history):
            break
        torch.manual_seed(config.seed * 100_003 + epoch)
        model.train()
        losses = []
        for batch in batches(epoch, np.random.default_rng([config.seed, epoch])):
            value = loss(model, batch)
            losses.append(run.step(value))
        metrics = {"loss": float(np.mean(losses)), **run.evaluate(evaluate)}
        run.finish_epoch(metrics)
        run.save(out / "state.pt")
        _write_curve(out / "curve.csv", run.history)
        log.info("epoch %d/%d %s", epoch + 1, config.epochs, metrics)
        if progress is not None:
            progress(epoch + 1, config.epochs, metrics)
    model.load_state_dict(run.best)
    model.eval()
    return FitResult(run.best_epoch, run.history[run.best_epoch], run.history)


class _Run:
    """Everything that a resumed run needs to go on as if nothing had happened."""

    def __init__(self, model: torch.nn.Module, config: LoopConfig) -> None:
        self.model, self.config = model, config
        trained = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        steps = max(1, config.epochs * config.steps_per_epoch)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: _warm_cosine(step / steps, config.warmup)
        )
        self.trained = trained
        self.average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        self.best = deepcopy(self.average)
        self.best_epoch = -1
        self.epoch = 0
        self.steps = 0
        self.history: list[Metrics] = []

    def step(self, value: torch.Tensor) -> float:
        if not torch.isfinite(value):
            raise TrainingError(
                f"the loss became {value.item()} in epoch {self.epoch + 1}; lower learning_rate "
                f"(now {self.config.learning_rate:g}) or look for non-finite values in the data"
            )
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, self.config.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.steps += 1
        self._average_weights()
        return float(value.detach())

    def _average_weights(self) -> None:
        # The usual ramp keeps the first, random weights from lingering in the average.
        decay = min(self.config.ema_decay, (1 + self.steps) / (10 + self.steps))
        if self.config.ema_decay == 0:
            decay = 0.0
        with torch.no_grad():
            for name, tensor in self.model.state_dict().items():
                if tensor.is_floating_point():
                    self.average[name].lerp_(tensor, 1 - decay)
                else:
                    self.average[name].copy_(tensor)

    def evaluate(self, evaluate: Callable[[torch.nn.Module], Metrics]) -> Metrics:
        current = deepcopy(self.model.state_dict())
        self.model.load_state_dict(self.average)
        self.model.eval()
        with torch.no_grad():
            metrics = evaluate(self.model)
        self.model.load_state_dict(current)
        if self.config.select not in metrics:
            raise TrainingError(f"select={self.config.select!r} is not measured; there are {sorted(metrics)}")
        return metrics

    def finish_epoch(self, metrics: Metrics) -> None:
        self.history.append(metrics)
        best = self.history[self.best_epoch][self.config.select] if self.best_epoch >= 0 else -math.inf
        if metrics[self.config.select] > best:
            self.best_epoch = self.epoch
            self.best = deepcopy(self.average)
        self.epoch += 1

    def save(self, path: Path) -> None:
        state = {
            "config": asdict(self.config),
            "model": self.model.state_dict(),
            "average": self.average,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "optimizer": self.optimizer.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch},
            "epoch": self.epoch,
            "steps": self.steps,
            "history": self.history,
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, path)

    def resume(self, path: Path) -> None:
        if not path.exists():
            return
        state = _read_state(path)
        if state["config"] != asdict(self.config):
            changed = sorted(k for k, v in asdict(self.config).items() if state["config"].get(k) != v)
            raise TrainingError(
                f"{path} belongs to a run with other settings ({', '.join(changed)}); "
                "use the same settings to resume, or another --out"
            )
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError, TypeError) as reason:
            raise TrainingError(f"{path} is the state of another network ({reason}); {_AGAIN}") from None
        self.average, self.best = state["average"], state["best"]
        self.schedule.last_epoch = state["schedule"]["last_epoch"]
        self.epoch, self.steps = state["epoch"], state["steps"]
        self.best_epoch, self.history = state["best_epoch"], state["history"]


def _read_state(path: Path) -> dict[str, Any]:
    """Returns what `_Run.save` wrote.

    Raises:
        TrainingError: the file cannot be read, is damaged, or holds something else.
    """
    try:
        state = torch.load(path, weights_only=True)
    except OSError as reason:
        raise TrainingError(f"{path} cannot be read ({reason.strerror or reason})") from None
    except Exception as reason:  # torch has no common class for what a damaged file makes it raise
        what = str(reason).partition("\n")[0] or type(reason).__name__
        raise TrainingError(f"{path} is damaged or no state of a run ({what}); {_AGAIN}") from None
    missing = _STATE - set(state) if isinstance(state, dict) else _STATE
    if missing:
        raise TrainingError(f"{path} is no state of a run: it lacks {', '.join(sorted(missing))}; {_AGAIN}")
    found: dict[str, Any] = state
    return found


def _warm_cosine(part: float, warmup: float) -> float:
    """Learning-rate factor at `part` (0..1) of the run: linear up, then a cosine down to zero."""
    if part < warmup:
        return max(part / warmup, 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (part - warmup) / (1 - warmup)))


def _write_curve(path: Path, history: list[Metrics]) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", *history[0]])
        writer.writeheader()
        writer.writerows({"epoch": number + 1, **row} for number, row in enumerate(history))
    os.replace(temporary, path)
