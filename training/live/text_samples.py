"""Texts of three corpora as the text stem reads them: ids of the words as written and of damaged copies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeemo.datasets.text import READERS, TextRows
from edgeemo.errors import TrainingError
from edgeemo.features.text import TextSpec, tokenize, word_ids
from edgeemo.training.augment.text import TextNoise, crop_words, damage_words
from edgeemo.training.live.split import trunk_rows

CORPORA = ("goemotions", "meld_text", "isear_text")


@dataclass(frozen=True)
class TextSamples:
    """Texts as ids, ready for training or for measuring.

    Attributes:
        words: n texts, whole and undamaged.
        ids: (versions, n, max_words, K) int16; version 0 is the text as written, the others are damaged.
        labels: (n,) index or -1.
        targets: (n, 7) shares.
        fine: (n, F) 1 for each finer label.
        corpus: (n,) index into `CORPORA`.
    """

    words: list[list[str]]
    ids: NDArray[np.int16]
    labels: NDArray[np.int64]
    targets: NDArray[np.float32]
    fine: NDArray[np.float32]
    corpus: NDArray[np.int64]


def read_samples(
    data: Path,
    split: str,
    spec: TextSpec,
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
        spec: of the ids.
        fine_names: the finer labels, in the order of the second output.
        copies: damaged versions to make of each text.
        rng: source of the damage; needed for copies.
        noise: kinds of damage; the usual ones by default.

    Raises:
        DatasetError: a corpus is missing or broken.
        TrainingError: there is no ``rng`` to make copies with.
    """
    if copies and rng is None:
        raise TrainingError("damaged copies need a random generator: pass rng")
    damage = noise or TextNoise()
    versions: list[list[NDArray[np.int16]]] = [[] for _ in range(copies + 1)]
    texts, labels, targets, fine, corpora = [], [], [], [], []
    for number, name in enumerate(CORPORA):
        rows = READERS[name](data / name, split)
        kept = ~trunk_rows(len(rows)) if split == "train" else np.ones(len(rows), bool)
        for row in np.flatnonzero(kept & (rows.targets.sum(axis=1) > 0)):
            words = tokenize(rows.texts[row])
            if not words:
                continue
            texts.append(words)
            versions[0].append(_ids(words[-spec.max_words :], spec))
            if rng is not None:
                for version in versions[1:]:
                    version.append(
                        _ids(damage_words(crop_words(words, spec.max_words, rng), damage, rng), spec)
                    )
            labels.append(rows.labels[row])
            targets.append(rows.targets[row])
            fine.append([float(label in rows.fine[row]) for label in fine_names])
            corpora.append(number)
    return TextSamples(
        texts,
        np.stack([np.stack(version) for version in versions]),
        np.array(labels, np.int64),
        np.array(targets, np.float32),
        np.array(fine, np.float32),
        np.array(corpora, np.int64),
    )


def fine_label_names(rows: TextRows) -> tuple[str, ...]:
    """Returns the finer labels that occur, sorted."""
    return tuple(sorted({name for names in rows.fine for name in names}))


def _ids(words: list[str], spec: TextSpec) -> NDArray[np.int16]:
    ids = np.zeros((spec.max_words, spec.ids_per_word), np.int16)
    kept = words[: spec.max_words]
    ids[: len(kept)] = word_ids(kept, spec)
    return ids
