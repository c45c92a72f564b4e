"""One run: a network, a seed, a configuration -> what it says on dev after every epoch.

The predictions of all epochs are kept (half a megabyte), so that the epoch can be selected afterwards on
one half of the dev videos and reported on the other, without training again. A run that was killed goes on
behind its last finished epoch; a finished one is read back.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from edgeemo.datasets.mosi import CLASSES, MosiVideos
from edgeemo.errors import TrainingError
from edgeemo.modality import subset_key
from edgeemo.training.answer import cross_entropy
from edgeemo.training.config import MethodConfig
from edgeemo.training.loop import LoopConfig, Metrics, fit
from edgeemo.training.lowrank import Parts
from edgeemo.training.methods.disturb import CLEAN, DISTURBANCES, disturb_features
from edgeemo.training.methods.networks import Network, answer_subset, new_network, trunk_of
from edgeemo.training.methods.ratios import divergences
from edgeemo.training.methods.selection import Rule, half_accuracy, split_halves
from edgeemo.training.ratios import RatioLog
from edgeemo.training.trunks import orthogonality_loss

Progress = Callable[[int, int, Metrics], None]
_RECORD, _META = "record.npz", "record.json"


@dataclass(frozen=True)
class Record:
    """What a run leaves behind.

    Attributes:
        keys: (condition, subset) of each row of predictions; the condition is ``"clean"`` or the name
            of a disturbance.
        logits: (E, Q, N, C) of E epochs, Q keys and N dev utterances in the order of ``labels``.
        labels: (N,).
        videos: (N,) place of each utterance's video.
        halves: (V,) which half of the cross-fit each video is in, for this seed.
        meta: configuration, seed, parameters, wall time, data.
    """

    keys: tuple[tuple[str, str], ...]
    logits: NDArray[np.float16]
    labels: NDArray[np.int64]
    videos: NDArray[np.int64]
    halves: NDArray[np.int64]
    meta: dict[str, Any]

    def clean_rows(self) -> list[int]:
        """Returns the rows of ``keys`` without disturbance."""
        return [row for row, (condition, _) in enumerate(self.keys) if condition == CLEAN]


def run_network(
    network: Network,
    config: MethodConfig,
    seed: int,
    data: tuple[MosiVideos, MosiVideos],
    out: Path,
    *,
    progress: Progress | None = None,
) -> Record:
    """Trains, resumes or reads back one run.

    ``out`` then holds the curve (``curve.csv``), the predictions of all epochs (``record.npz`` and
    ``.json``) and the weights of the epoch that is best on all of dev (``weights.safetensors``): those are
    for use; what is reported is cross-fitted.

    Args:
        network: one of `networks_of` the configuration.
        config: all settings.
        seed: of weights, order, subsets, noise and of the halves of dev.
        data: train and dev videos.
        out: folder of the run.
        progress: called after each epoch with (epochs done, epochs, metrics).

    Raises:
        TrainingError: the folder holds a run of another configuration, seed or data.
    """
    train, dev = data
    identity = {
        "network": asdict(network),
        "config": config.identity(adapted=network.adapted),
        "seed": seed,
        "data": f"{_fingerprint(train):08x}{_fingerprint(dev):08x}",
    }
    identity = json.loads(json.dumps(identity))
    out.mkdir(parents=True, exist_ok=True)
    _check_identity(out / "identity.json", identity)
    if (out / _META).exists():
        return load_record(out)
    run = _Run(network, config, seed=seed, data=data, out=out)
    model = new_network(
        network, config, widths=dev.widths, length=dev.length, classes=len(CLASSES), seed=seed
    )
    schedule = config.schedule
    result = fit(
        model,
        LoopConfig(
            epochs=schedule.epochs,
            steps_per_epoch=schedule.steps,
            learning_rate=schedule.learning_rate,
            select="accuracy",
            weight_decay=schedule.weight_decay,
            ema_decay=schedule.ema_decay,
            seed=seed,
        ),
        batches=run.batches,
        loss=run.loss,
        evaluate=run.evaluate,
        out=out,
        progress=progress,
        stop=run.stop,
    )
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        out / "weights.safetensors",
    )
    parameters = sum(p.numel() for p in trunk_of(model).parameters())
    everything = sum(p.numel() for p in model.parameters())
    run.write_record(
        len(result.history), {**identity, "parameters": {"trunk": parameters, "all": everything}}
    )
    return load_record(out)


def rule_of(config: MethodConfig) -> Rule:
    """Returns how a configuration selects epochs."""
    return Rule(patience=config.schedule.patience, smoothing=config.schedule.smoothing)


def load_record(out: Path) -> Record:
    """Reads a finished run.

    Raises:
        TrainingError: the run is not finished, or its files are broken.
    """
    if not (out / _META).is_file():
        raise TrainingError(f"{out} holds no finished run; train it first")
    meta = json.loads((out / _META).read_text(encoding="utf-8"))
    with (out / _RECORD).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        arrays = {name: file[name] for name in ("logits", "labels", "videos", "halves")}
    keys = tuple((condition, subset) for condition, subset in meta.pop("keys"))
    return Record(keys, meta=meta, **arrays)


class _Run:
    """Batches, loss and evaluation of one run."""

    def __init__(
        self,
        network: Network,
        config: MethodConfig,
        *,
        seed: int,
        data: tuple[MosiVideos, MosiVideos],
        out: Path,
    ) -> None:
        train, dev = data
        self.network, self.config, self.seed, self.out = network, config, seed, out
        self.epoch = 0
        self.chances: dict[str, float] = {}
        self.began = time.perf_counter()
        self.train = {m: torch.from_numpy(train.features[m]) for m in network.modalities}
        self.mask = torch.from_numpy(train.mask)
        self.targets = _soft_targets(train, config)
        self.valid = dev.mask > 0  # (V, T)
        self.labels = dev.label[self.valid]
        self.videos = np.repeat(np.arange(len(dev)), self.valid.sum(axis=1))
        self.halves = split_halves(self.valid.sum(axis=1).tolist(), seed)
        self.dev_mask = torch.from_numpy(dev.mask)
        self.conditions = {CLEAN: dev.features} | {
            each.name: disturb_features(dev.features, dev.mask, each) for each in DISTURBANCES
        }
        full = subset_key(dev.features, tuple(dev.features))
        self.keys = [(CLEAN, subset) for subset in network.subsets]
        self.keys += [
            (each.name, subset)
            for each in DISTURBANCES
            for subset in (each.modality, full)
            if subset in network.subsets
        ]
        self.ratios = RatioLog(
            dict.fromkeys(network.subsets, 1.0),
            out / "ratios.json",
            dynamic=network.adapted and config.adaptation.dynamic_ratios,
        )

    def batches(self, epoch: int, rng: np.random.Generator) -> Iterator[list[tuple[str, Tensor]]]:
        """Yields batches of videos: one subset is drawn for each, videos are grouped by subset."""
        self.epoch, self.began = epoch, time.perf_counter()
        chances = self.chances = self.ratios.start_epoch(epoch)
        schedule = self.config.schedule
        waiting: list[int] = []
        for _ in range(schedule.steps):
            while len(waiting) < schedule.batch:
                waiting += rng.permutation(len(self.mask)).tolist()
            chosen, waiting = waiting[: schedule.batch], waiting[schedule.batch :]
            drawn = rng.choice(len(chances), size=len(chosen), p=list(chances.values()))
            names = list(chances)
            yield [
                (names[place], torch.tensor([v for v, d in zip(chosen, drawn, strict=True) if d == place]))
                for place in sorted(set(drawn.tolist()))
            ]

    def loss(self, model: nn.Module, groups: list[tuple[str, Tensor]]) -> Tensor:
        """Returns the loss of a batch: cross entropy over utterances, and what adapters and trunk add."""
        terms: list[Tensor] = []
        adaptation = self.config.adaptation
        total = float(sum(self.mask[rows].sum() for _, rows in groups))
        for subset, rows in groups:
            mask = self.mask[rows]
            longest = int(mask.sum(dim=1).max())  # padding at the end says nothing
            mask, targets = mask[:, :longest], self.targets[rows, :longest]
            features = {m: self._roughened(values[rows, :longest]) for m, values in self.train.items()}
            parts: dict[str, Parts] = {}
            record = parts if self.network.adapted and adaptation.orthogonality else None
            answer = answer_subset(model, self.network, subset, features, mask, record=record)
            term = cross_entropy(answer.logits, targets)
            if parts:
                masks = dict.fromkeys(features, mask)
                term = term + adaptation.orthogonality * orthogonality_loss(parts, masks)
            if adaptation.auxiliary:
                extra = trunk_of(model).extra_losses(answer, targets)
                term = term + adaptation.auxiliary * sum(extra.values(), torch.zeros(()))
            terms.append(term * (float(mask.sum()) / total))
        return torch.stack(terms).sum()

    def _roughened(self, features: Tensor) -> Tensor:
        """Returns features (B, T, D) with noise, and without some dimensions in each video."""
        regular = self.config.regularisation
        if regular.feature_noise:
            features = features + regular.feature_noise * torch.randn_like(features)
        if regular.feature_dropout:
            keep = 1 - regular.feature_dropout
            features = features * (torch.rand(features.shape[0], 1, features.shape[2]) < keep) / keep
        return features

    def evaluate(self, model: nn.Module) -> Metrics:
        """Keeps the predictions of this epoch in a file and returns the accuracies on dev."""
        logits = self._predict(model)  # (Q, N, C)
        if self.ratios.dynamic:
            self.ratios.finish_epoch(divergences(model, self.network, self.train, self.mask))
        seconds = time.perf_counter() - self.began
        path = self._epoch_path(self.epoch)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            np.savez(file, logits=logits.astype(np.float16), seconds=np.float64(seconds))
        os.replace(temporary, path)
        clean = logits[: len(self.network.subsets)].astype(np.float16)
        metrics = {
            "accuracy": float(half_accuracy(clean, self.labels, np.ones(len(self.labels), bool))),
            "half_0": float(half_accuracy(clean, self.labels, self.halves[self.videos] == 0)),
            "half_1": float(half_accuracy(clean, self.labels, self.halves[self.videos] == 1)),
        }
        rights = (clean.argmax(axis=-1) == self.labels).mean(axis=1)
        metrics |= {subset: float(right) for subset, right in zip(self.network.subsets, rights, strict=True)}
        if self.ratios.dynamic:
            metrics |= {f"ratio.{name}": share for name, share in self.chances.items()}
        return metrics

    def _predict(self, model: nn.Module) -> NDArray[np.float32]:
        tables: list[NDArray[np.float32]] = []
        with torch.no_grad():
            for condition, subset in self.keys:
                features = {
                    m: torch.from_numpy(self.conditions[condition][m]) for m in self.network.modalities
                }
                answer = answer_subset(model, self.network, subset, features, self.dev_mask)
                tables.append(answer.logits.numpy()[self.valid])  # (N, C)
        return np.stack(tables)

    def stop(self, history: list[Metrics]) -> bool:
        """Whether neither half of dev has found a better epoch for so long that none will be looked at."""
        rule = rule_of(self.config)
        return all(rule.ended([row[name] for row in history]) for name in ("half_0", "half_1"))

    def _epoch_path(self, epoch: int) -> Path:
        return self.out / "epochs" / f"{epoch:04d}.npz"

    def write_record(self, epochs: int, meta: dict[str, Any]) -> None:
        """Gathers the epochs into one file; the description comes last and marks the run as finished."""
        logits, seconds = [], 0.0
        for epoch in range(epochs):
            with self._epoch_path(epoch).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                logits.append(file["logits"])
                seconds += float(file["seconds"])
        with (self.out / _RECORD).open("wb") as file:
            np.savez_compressed(
                file,
                logits=np.stack(logits),
                labels=self.labels,
                videos=self.videos,
                halves=self.halves,
            )
        meta = {**meta, "keys": self.keys, "epochs": epochs, "wall_s": round(seconds, 2)}
        meta["threads"] = torch.get_num_threads()
        _write_json(self.out / _META, meta)
        for epoch in range(epochs):
            self._epoch_path(epoch).unlink()


def _soft_targets(videos: MosiVideos, config: MethodConfig) -> Tensor:
    """Returns (V, T, 2) shares of the two classes, all zero at padding."""
    regular = config.regularisation
    score, label = torch.from_numpy(videos.score), torch.from_numpy(videos.label)
    positive = torch.sigmoid(regular.score_slope * score) if regular.score_slope else (label == 1).float()
    shares = torch.stack((1 - positive, positive), dim=-1)
    shares = shares * (1 - regular.label_smoothing) + regular.label_smoothing / len(CLASSES)
    return shares * torch.from_numpy(videos.mask)[..., None]


def _fingerprint(videos: MosiVideos) -> int:
    total = zlib.crc32("\n".join(videos.video_ids).encode())
    for values in (*videos.features.values(), videos.label, videos.score):
        total = zlib.crc32(np.ascontiguousarray(values).tobytes(), total)
    return total


def _check_identity(path: Path, identity: dict[str, Any]) -> None:
    if not path.exists():
        _write_json(path, identity)
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    if found != identity:
        changed = sorted(key for key in identity if found.get(key) != identity[key])
        raise TrainingError(
            f"{path.parent} holds a run with another {', '.join(changed)}; use the same to resume or "
            "read it, or another --out"
        )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)
