"""Trains the text stem of the live model on three corpora, taught by linear models of each of them."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from edgeemo.datasets.labels import LABELS
from edgeemo.datasets.text import READERS
from edgeemo.errors import TrainingError
from edgeemo.features.text import TextSpec
from edgeemo.training.live.text_figures import corpus_scores, measure
from edgeemo.training.live.text_samples import CORPORA, TextSamples, fine_label_names, read_samples
from edgeemo.training.live.text_teachers import TeacherConfig, answers_by_others, text_patterns
from edgeemo.training.loop import LoopConfig, Metrics, fit
from edgeemo.training.stems.text import TextAnswer, TextHead, TextStem

log = logging.getLogger(__name__)

SPEC = TextSpec(word_buckets=12_287, pair_buckets=7_168, ngram_buckets=4_064)  # 1.6 MB of int8
TEACHERS = TeacherConfig()

_COPIES = 3  # damaged versions of each text, made once
_BATCH = 256
_OFTEN = (1.0, 3.0, 2.0)  # how often an epoch shows each text of each corpus
_TAUGHT = 0.7  # share of the teachers in a target; the rest is the label
_DROPOUT = 0.3
_ROW_DROPOUT = 0.2
_FINE_WEIGHT = 0.5
_VIEWS_WEIGHT = 0.5  # of the answers to each corpus, summed
_SOURCE_WEIGHT = 0.2

Batch = dict[str, torch.Tensor]


class TextClassifier(torch.nn.Module):
    """The stem with the head that it is trained under."""

    def __init__(self, stem: TextStem, head: TextHead) -> None:
        super().__init__()
        self.stem = stem
        self.head = head

    def forward(self, ids: torch.Tensor) -> TextAnswer:
        """Returns what `TextHead` makes of ids (B, T, K)."""
        answer: TextAnswer = self.head(self.stem(ids), (ids[:, :, 0] != 0).float())
        return answer


def fit_text(
    data: Path,
    out: Path,
    *,
    epochs: int = 8,
    teachers: TeacherConfig | None = TEACHERS,
    seed: int = 0,
    progress: Callable[[int, int, Metrics], None] | None = None,
) -> Metrics:
    """Trains the teachers and then the text stem, or resumes, and writes weights and metrics.

    Neither ever sees the rows that `trunk_rows` keeps for the trunk. Every eighth row of the train
    files is one of those; tuning and selection use ``dev``. The stem learns from the labels and from
    what teachers that have not been trained on a text say to it as it was written (Hinton et al., 2015,
    arXiv:1503.02531), while the stem reads a damaged copy. The kept epoch has the best mean weighted F1
    over the corpora.

    Args:
        data: holds ``goemotions``, ``meld_text`` and ``isear_text``.
        out: state, curve, ``stem.safetensors`` and ``metrics.json`` go here; a finished run is not
            repeated. The teachers' answers lie in ``out/teacher``.
        epochs: passes over the training texts.
        teachers: what to learn from; None trains on the labels alone.
        seed: of weights, order, folds and damage.
        progress: called after each teacher and epoch with (done, teachers and epochs, metrics).

    Returns:
        Metrics of the kept epoch on ``dev``; see `measure`.

    Raises:
        DatasetError: a corpus is missing or broken.
        TrainingError: ``out`` holds a run with other settings.
    """
    done = out / "metrics.json"
    if done.exists() and (out / "stem.safetensors").exists():
        return dict(json.loads(done.read_text()))
    rng = np.random.default_rng([seed, 7])
    fine_names = fine_label_names(READERS["goemotions"](data / "goemotions", "train"))
    train = read_samples(data, "train", SPEC, fine_names, copies=_COPIES, rng=rng)
    dev = read_samples(data, "dev", SPEC, fine_names)
    log.info("%d texts to train on, %d to select on", len(train.labels), len(dev.labels))
    folds = teachers.folds if teachers else 0

    def tell(at: int, metrics: Metrics) -> None:
        if progress is not None:
            progress(at, folds + epochs, metrics)

    answers = None
    if teachers is not None:
        answers, figures = _ask_teachers(
            train, dev, out / "teacher", config=teachers, seed=seed, progress=lambda at, _: tell(at, {})
        )
        log.info("teachers: %s", figures)
    torch.manual_seed(seed)
    stem = TextStem(SPEC, dropout=_DROPOUT, row_dropout=_ROW_DROPOUT)
    seed_table(stem, train)
    model = TextClassifier(stem, TextHead(stem.width, len(LABELS), len(fine_names), len(CORPORA), _DROPOUT))
    often = np.array(_OFTEN)[train.corpus]
    config = LoopConfig(
        epochs=epochs,
        steps_per_epoch=-(-round(often.sum()) // _BATCH),
        learning_rate=3e-3,
        select="weighted_f1_mean",
        ema_decay=0.995,
        weight_decay=1e-3,
        seed=seed,
    )
    result = fit(
        model,
        config,
        batches=lambda epoch, order: training_batches(train, answers, order),
        loss=_loss,
        evaluate=lambda trained: measure(trained, dev),
        out=out,
        progress=lambda at, _, metrics: tell(folds + at, metrics),
    )
    save_file({k: v.contiguous() for k, v in stem.state_dict().items()}, out / "stem.safetensors")
    _write_json(done, result.metrics)
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


def seed_table(stem: TextStem, train: TextSamples, strength: float = 0.15) -> None:
    """Starts each row of the table from how much more often it occurs with each label than others do.

    These log-count ratios are what makes naive Bayes strong on short texts (Wang and Manning,
    "Baselines and Bigrams", ACL 2012). They fill the first columns, the labels in each corpus and then
    the finer ones; the rest stays random. Writes into ``stem.table``.

    Args:
        stem: its table is overwritten in place.
        train: texts to count in, version 0.
        strength: standard deviation of the columns written.
    """
    of_corpus = [train.targets * (train.corpus == number)[:, None] for number in range(len(CORPORA))]
    classes = np.concatenate((*of_corpus, train.fine), axis=1)[:, : stem.width]
    counts = np.ones((stem.spec.rows, classes.shape[1]))
    for ids, shares in zip(train.ids[0], classes, strict=True):
        counts[np.unique(ids)] += shares
    ratio = np.log(counts / (counts.sum(axis=0) / counts.shape[0]))
    ratio -= ratio.mean(axis=1, keepdims=True)
    ratio *= strength / ratio[1:].std()
    with torch.no_grad():
        stem.table.weight[1:, : classes.shape[1]] = torch.from_numpy(ratio[1:]).float()


def training_batches(
    train: TextSamples, answers: NDArray[np.float32] | None, order: np.random.Generator
) -> Iterator[Batch]:
    """Yields shuffled batches of texts of similar length, cut to the longest of them.

    Args:
        train: texts in several versions.
        answers: (n, corpora, 7) by the teachers, or None.
        order: source of the order and of the versions.
    """
    often = np.array(_OFTEN)[train.corpus]
    whole = np.floor(often)
    repeats = whole + (order.random(len(often)) < often - whole)
    row = np.repeat(np.arange(len(often)), repeats.astype(np.int64))
    version = order.integers(train.ids.shape[0], size=len(row))
    lengths = (train.ids[version, row, :, 0] != 0).sum(axis=1)
    shuffled = order.permutation(len(row))
    # Sorting by length and a random part keeps batches alike in length and different each epoch.
    ranked = shuffled[np.argsort(lengths[shuffled] + 4 * order.random(len(row)), kind="stable")]
    chunks = [ranked[at : at + _BATCH] for at in range(0, len(row), _BATCH)]
    for at in order.permutation(len(chunks)):
        rows, longest = row[chunks[at]], lengths[chunks[at]].max()
        corpus, targets = train.corpus[rows], train.targets[rows]
        views = np.zeros((len(rows), len(CORPORA), targets.shape[1]), np.float32)
        if answers is None:
            views[np.arange(len(rows)), corpus] = targets
        else:
            views = answers[rows]
            targets = _TAUGHT * views[np.arange(len(rows)), corpus] + (1 - _TAUGHT) * targets
        yield {
            "ids": _tensor(train.ids[version[chunks[at]], rows, :longest]),
            "targets": torch.from_numpy(targets),
            "fine": torch.from_numpy(train.fine[rows]),
            "views": torch.from_numpy(views),
            "corpus": torch.from_numpy(corpus),
        }


def _loss(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    answer: TextAnswer = model(batch["ids"])
    total = -(batch["targets"] * answer.main).sum(dim=1).mean()
    has_fine = batch["fine"].sum(dim=1, keepdim=True) > 0  # (B, 1)
    finer = torch.nn.functional.binary_cross_entropy_with_logits(answer.fine, batch["fine"], reduction="none")
    total = total + _FINE_WEIGHT * (finer * has_fine).sum(dim=1).mean()
    total = total - _VIEWS_WEIGHT * (batch["views"] * answer.views).sum(dim=(1, 2)).mean()
    source = torch.nn.functional.nll_loss(answer.source, batch["corpus"])
    return total + _SOURCE_WEIGHT * source


def _ask_teachers(
    train: TextSamples,
    dev: TextSamples,
    out: Path,
    *,
    config: TeacherConfig,
    seed: int,
    progress: Callable[[int, int], None],
) -> tuple[NDArray[np.float32], Metrics]:
    """Returns the answers to the training texts, and what the teachers reach on ``dev``."""
    mine, unseen = answers_by_others(
        text_patterns(train.words, config),
        train.targets,
        train.corpus,
        text_patterns(dev.words, config),
        out,
        config=config,
        seed=seed,
        progress=progress,
    )
    said = unseen[np.arange(len(unseen)), dev.corpus].argmax(axis=1)
    figures = corpus_scores(dev, said, "own_")
    _write_json(out / "metrics.json", figures)
    return mine, figures


def _write_json(path: Path, plain: Metrics) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(plain, indent=1) + "\n")
    os.replace(temporary, path)


def _tensor(ids: NDArray[np.int16]) -> torch.Tensor:
    return torch.from_numpy(ids.astype(np.int64))
