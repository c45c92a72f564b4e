"""Trains the text stem of the live model on three corpora, with a classifier that is thrown away."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from edgeemo.datasets.labels import LABELS
from edgeemo.datasets.text import READERS, TextRows
from edgeemo.errors import TrainingError
from edgeemo.features.text import TextSpec, tokenize, word_ids
from edgeemo.training.augment.text import TextNoise, crop_words, damage_words
from edgeemo.training.live.split import trunk_rows
from edgeemo.training.loop import LoopConfig, Metrics, fit
from edgeemo.training.stems.text import TextHead, TextStem

log = logging.getLogger(__name__)

CORPORA = ("goemotions", "meld_text", "isear_text")
SPEC = TextSpec()

_COPIES = 3  # damaged versions of each text, made once
_BATCH = 256
_SMOOTHING = 0.05
_DROPOUT = 0.3
_ROW_DROPOUT = 0.2
_FINE_WEIGHT = 0.5


@dataclass(frozen=True)
class TextSamples:
    """Texts as ids, ready for training or for measuring.

    Attributes:
        ids: (versions, n, 32, K) int16; version 0 is the text as written, the others are damaged.
        labels: (n,) index or -1.
        targets: (n, 7) shares.
        fine: (n, F) 1 for each finer label.
        corpus: (n,) index into `CORPORA`.
    """

    ids: NDArray[np.int16]
    labels: NDArray[np.int64]
    targets: NDArray[np.float32]
    fine: NDArray[np.float32]
    corpus: NDArray[np.int64]


class TextClassifier(torch.nn.Module):
    """The stem with the head that it is trained under."""

    def __init__(self, stem: TextStem, head: TextHead) -> None:
        super().__init__()
        self.stem = stem
        self.head = head

    def forward(self, ids: torch.Tensor, corpus: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns logits (B, 7) and fine logits (B, F) of ids (B, T, K)."""
        answers: tuple[torch.Tensor, torch.Tensor]
        answers = self.head(self.stem(ids), (ids[:, :, 0] != 0).float(), corpus)
        return answers


def fit_text(
    data: Path,
    out: Path,
    *,
    epochs: int = 4,
    seed: int = 0,
    progress: Callable[[int, int, Metrics], None] | None = None,
) -> Metrics:
    """Trains the text stem, or resumes it, and writes ``stem.safetensors`` and ``metrics.json``.

    The stem never sees the rows that `trunk_rows` keeps for the trunk. Every eighth row of the train
    files is one of those; tuning and selection use ``dev``.

    Args:
        data: holds ``goemotions``, ``meld_text`` and ``isear_text``.
        out: state, curve, weights and metrics go here; a finished run is not repeated.
        epochs: passes over the training texts.
        seed: of weights, order and damage.
        progress: called after each epoch with (epochs done, epochs, metrics).

    Returns:
        Metrics of the kept epoch on ``dev``.

    Raises:
        DatasetError: a corpus is missing or broken.
        TrainingError: ``out`` holds a run with other settings.
    """
    done = out / "metrics.json"
    if done.exists() and (out / "stem.safetensors").exists():
        return dict(json.loads(done.read_text()))
    rng = np.random.default_rng([seed, 7])
    fine_names = _fine_names(READERS["goemotions"](data / "goemotions", "train"))
    train = read_samples(data, "train", fine_names, copies=_COPIES, rng=rng)
    dev = read_samples(data, "dev", fine_names)
    log.info("%d texts to train on, %d to select on", len(train.labels), len(dev.labels))
    torch.manual_seed(seed)
    stem = TextStem(SPEC, dropout=_DROPOUT, row_dropout=_ROW_DROPOUT)
    seed_table(stem, train)
    model = TextClassifier(stem, TextHead(stem.width, len(LABELS), len(fine_names), len(CORPORA), _DROPOUT))
    config = LoopConfig(
        epochs=epochs,
        steps_per_epoch=-(-len(train.labels) // _BATCH),
        learning_rate=3e-3,
        select="goemotions_accuracy",
        ema_decay=0.995,
        weight_decay=1e-3,
        seed=seed,
    )
    result = fit(
        model,
        config,
        batches=lambda epoch, order: _batches(train, order),
        loss=_loss,
        evaluate=lambda trained: measure(trained, dev),
        out=out,
        progress=progress,
    )
    save_file({k: v.contiguous() for k, v in stem.state_dict().items()}, out / "stem.safetensors")
    temporary = out / "metrics.tmp"
    temporary.write_text(json.dumps(result.metrics, indent=1) + "\n")
    os.replace(temporary, done)
    return result.metrics


def load_text_stem(out: Path) -> TextStem:
    """Returns the stem that `fit_text` wrote into `out`, in eval mode.

    Raises:
        TrainingError: there is no finished stem.
    """
    path = out / "stem.safetensors"
    if not path.is_file():
        raise TrainingError(f"{path} does not exist; train the text stem first")
    stem = TextStem(SPEC)
    stem.load_state_dict(load_file(path))
    stem.eval()
    return stem


def read_samples(
    data: Path,
    split: str,
    fine_names: tuple[str, ...],
    *,
    copies: int = 0,
    rng: np.random.Generator | None = None,
    noise: TextNoise | None = None,
) -> TextSamples:
    """Returns the labelled texts of all corpora; of ``train``, only the rows that are not the trunk's.

    Args:
        data: folder of the corpora.
        split: ``train`` or ``dev``.
        fine_names: the finer labels, in the order of the second output.
        copies: damaged versions to make of each text.
        rng: source of the damage; needed for copies.
        noise: kinds of damage; the usual ones by default.

    Raises:
        DatasetError: a corpus is missing or broken.
    """
    damage = noise or TextNoise()
    versions: list[list[NDArray[np.int16]]] = [[] for _ in range(copies + 1)]
    labels, targets, fine, corpora = [], [], [], []
    for number, name in enumerate(CORPORA):
        rows = READERS[name](data / name, split)
        kept = ~trunk_rows(len(rows)) if split == "train" else np.ones(len(rows), bool)
        for row in np.flatnonzero(kept & (rows.targets.sum(axis=1) > 0)):
            words = tokenize(rows.texts[row])
            if not words:
                continue
            versions[0].append(_ids(words[-SPEC.max_words :]))
            for version in versions[1:]:
                if rng is None:
                    raise TrainingError("damaged copies need a random generator")
                version.append(_ids(damage_words(crop_words(words, SPEC.max_words, rng), damage, rng)))
            labels.append(rows.labels[row])
            targets.append(rows.targets[row])
            fine.append([float(label in rows.fine[row]) for label in fine_names])
            corpora.append(number)
    return TextSamples(
        np.stack([np.stack(version) for version in versions]),
        np.array(labels, np.int64),
        np.array(targets, np.float32),
        np.array(fine, np.float32),
        np.array(corpora, np.int64),
    )


def seed_table(stem: TextStem, train: TextSamples, strength: float = 0.15) -> None:
    """Starts each row of the table from how much more often it occurs with each label than others do.

    These log-count ratios are what makes naive Bayes strong on short texts (Wang and Manning,
    "Baselines and Bigrams", ACL 2012). They fill the first columns, the seven labels and then the
    finer ones; the rest stays random. Writes into ``stem.table``.

    Args:
        stem: its table is overwritten in place.
        train: texts to count in, version 0.
        strength: standard deviation of the columns written.
    """
    classes = np.concatenate((train.targets, train.fine), axis=1)[:, : stem.width]
    counts = np.ones((stem.spec.rows, classes.shape[1]))
    for ids, shares in zip(train.ids[0], classes, strict=True):
        counts[np.unique(ids)] += shares
    ratio = np.log(counts / (counts.sum(axis=0) / counts.shape[0]))
    ratio -= ratio.mean(axis=1, keepdims=True)
    ratio *= strength / ratio[1:].std()
    with torch.no_grad():
        stem.table.weight[1:, : classes.shape[1]] = torch.from_numpy(ratio[1:]).float()


def measure(model: torch.nn.Module, samples: TextSamples) -> Metrics:
    """Returns accuracy, macro-F1 and weighted F1 of each corpus, over texts with exactly one label."""
    predicted = np.concatenate(
        [
            model(_tensor(samples.ids[0, at : at + 512]), torch.from_numpy(samples.corpus[at : at + 512]))[0]
            .argmax(dim=1)
            .numpy()
            for at in range(0, len(samples.labels), 512)
        ]
    )
    metrics: Metrics = {}
    for number, name in enumerate(CORPORA):
        rows = (samples.corpus == number) & (samples.labels >= 0)
        if rows.any():
            metrics.update(
                {f"{name}_{k}": v for k, v in _scores(samples.labels[rows], predicted[rows]).items()}
            )
    return metrics


def _scores(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> Metrics:
    confusion = np.zeros((len(LABELS), len(LABELS)))
    np.add.at(confusion, (labels, predicted), 1)
    hits, true, said = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    f1 = 2 * hits / np.maximum(true + said, 1)
    return {
        "accuracy": float(hits.sum() / true.sum()),
        "macro_f1": float(f1[true > 0].mean()),
        "weighted_f1": float((f1 * true).sum() / true.sum()),
    }


def _batches(train: TextSamples, order: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Yields shuffled batches of texts of similar length, cut to the longest of them."""
    count = len(train.labels)
    version = order.integers(train.ids.shape[0], size=count)
    lengths = (train.ids[version, np.arange(count), :, 0] != 0).sum(axis=1)
    shuffled = order.permutation(count)
    # Sorting by length and a random part keeps batches alike in length and different each epoch.
    ranked = shuffled[np.argsort(lengths[shuffled] + 4 * order.random(count), kind="stable")]
    chunks = [ranked[at : at + _BATCH] for at in range(0, count, _BATCH)]
    for at in order.permutation(len(chunks)):
        rows = chunks[at]
        yield {
            "ids": _tensor(train.ids[version[rows], rows, : lengths[rows].max()]),
            "targets": torch.from_numpy(train.targets[rows]),
            "fine": torch.from_numpy(train.fine[rows]),
            "corpus": torch.from_numpy(train.corpus[rows]),
        }


def _loss(model: torch.nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    logits, fine = model(batch["ids"], batch["corpus"])
    targets = batch["targets"] * (1 - _SMOOTHING) + _SMOOTHING / len(LABELS)
    main = -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()
    has_fine = batch["fine"].sum(dim=1, keepdim=True) > 0  # (B, 1)
    finer = torch.nn.functional.binary_cross_entropy_with_logits(fine, batch["fine"], reduction="none")
    finer = (finer * has_fine).sum(dim=1).mean()
    total: torch.Tensor = main + _FINE_WEIGHT * finer
    return total


def _fine_names(rows: TextRows) -> tuple[str, ...]:
    return tuple(sorted({name for names in rows.fine for name in names}))


def _ids(words: list[str]) -> NDArray[np.int16]:
    ids = np.zeros((SPEC.max_words, SPEC.ids_per_word), np.int16)
    kept = words[: SPEC.max_words]
    ids[: len(kept)] = word_ids(kept, SPEC)
    return ids


def _tensor(ids: NDArray[np.int16]) -> torch.Tensor:
    return torch.from_numpy(ids.astype(np.int64))
