"""Figures of the text stem on unseen texts, each corpus by itself."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from edgeemo.datasets.labels import LABELS
from edgeemo.training.live.text_samples import CORPORA, TextSamples
from edgeemo.training.loop import Metrics

_BATCH = 512


def measure(model: torch.nn.Module, samples: TextSamples) -> Metrics:
    """Returns figures of each corpus over texts with exactly one label, and ``weighted_f1_mean``.

    ``<corpus>_accuracy``, ``_macro_f1`` and ``_weighted_f1`` are of the answer that does not know the
    corpus, as on a device; ``<corpus>_own_accuracy`` and so on are of the one that does.

    Args:
        model: ids (B, T, K) -> `edgeemo.training.stems.text.TextAnswer`.
        samples: texts with labels; version 0 is read.
    """
    plain, views = [], []
    for at in range(0, len(samples.labels), _BATCH):
        answer = model(torch.from_numpy(samples.ids[0, at : at + _BATCH].astype(np.int64)))
        plain.append(answer.main.argmax(dim=1).numpy())
        views.append(answer.views.argmax(dim=2).numpy())
    predicted, viewed = np.concatenate(plain), np.concatenate(views)
    metrics = corpus_scores(samples, predicted)
    metrics["weighted_f1_mean"] = float(
        np.mean([value for name, value in metrics.items() if name.endswith("weighted_f1")])
    )
    own_answers = viewed[np.arange(len(viewed)), samples.corpus]
    return {**metrics, **corpus_scores(samples, own_answers, "own_")}


def corpus_scores(samples: TextSamples, predicted: NDArray[np.int64], kind: str = "") -> Metrics:
    """Returns accuracy, macro-F1 and weighted F1 of each corpus, over texts with exactly one label.

    Args:
        samples: texts with labels.
        predicted: (n,) index of the label said.
        kind: comes between the name of the corpus and that of the figure.
    """
    metrics: Metrics = {}
    for number, name in enumerate(CORPORA):
        rows = (samples.corpus == number) & (samples.labels >= 0)
        if rows.any():
            figures = _scores(samples.labels[rows], predicted[rows])
            metrics.update({f"{name}_{kind}{figure}": value for figure, value in figures.items()})
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
