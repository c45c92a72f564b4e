"""Label-matched triples of windows: a voice, a face and a sentence of different people, the same label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle import Bundle
from edgeemo.datasets.speech import SPEECH_CORPORA, read_speech
from edgeemo.evaluation.layout import layout_of
from edgeemo.evaluation.sources import open_source
from edgeemo.runtimes import open_stem
from edgeemo.windows import Float32

CORPORA: dict[str, dict[str, float]] = {
    "audio": {"speech_ravdess": 0.4, "speech_nemo_pl": 0.4, "speech_emodb": 0.2},
    "video": {"ferplus": 1.0},
    "text": {"goemotions": 0.6, "meld_text": 0.4},
}
"""Modality -> data sets that serve it and how often each is drawn from, where it has the label."""
SPLIT = "val"


@dataclass(frozen=True)
class Items:
    """Windows of one modality, one for each labelled item, through the stem of the bundle.

    Attributes:
        features: (N, T, D), the newest window of each item.
        masks: (N, T).
        labels: (N,) index into the labels of the bundle.
        corpus: (N,) place in `CORPORA` of the modality.
        half: (N,) 0 or 1; what is fitted on one half is reported on the other. No speaker is in both.
    """

    features: Float32
    masks: Float32
    labels: NDArray[np.int64]
    corpus: NDArray[np.int64]
    half: NDArray[np.int64]


@dataclass(frozen=True)
class Triples:
    """Items drawn together.

    Attributes:
        rows: modality -> (N,) which item.
        labels: (N,) the label that the members of a triple share.
    """

    rows: dict[str, NDArray[np.int64]]
    labels: NDArray[np.int64]


def read_items(bundle: Bundle, data: Path, modality: str, *, variant: str) -> Items:
    """Returns the windows of every labelled item of a modality's data sets, split `SPLIT`.

    Args:
        bundle: whose front-end and stem.
        data: holds the data sets.
        modality: which.
        variant: of the stem.

    Raises:
        DatasetError: a data set is missing or broken.
    """
    manifest = bundle.manifest
    spec = manifest.modality(modality)
    parts: list[Items] = []
    with open_stem(bundle, modality, variant=variant) as stem:
        for corpus, name in enumerate(CORPORA[modality]):
            layout = layout_of(data / name, manifest)
            with open_source(layout, data / name, SPLIT) as source:
                place = np.array([_place(word, manifest.labels) for word in source.words])
                labels = np.where(source.label >= 0, place[source.label], -1)
                rows = np.flatnonzero(labels >= 0)
                halves = _halves(data / name, len(labels))[rows]
                features = np.zeros((len(rows), spec.window.length, spec.feature_width), np.float32)
                masks = np.zeros(features.shape[:2], np.float32)
                for batch in source.windows(rows, spec, stem, manifest.hop_s):
                    features[batch.item], masks[batch.item] = batch.features, batch.mask  # the newest stays
            kept = masks.any(axis=1)
            count = int(kept.sum())
            parts.append(
                Items(features[kept], masks[kept], labels[rows][kept], np.full(count, corpus), halves[kept])
            )
    return Items(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Items.__dataclass_fields__)
    )


def draw_triples(
    items: Mapping[str, Items],
    labels: NDArray[np.int64],
    *,
    half: int,
    rng: np.random.Generator,
) -> Triples:
    """Returns one triple for each label.

    A data set is drawn by its share among those that have the label, then an item with it.

    Args:
        items: of each modality.
        labels: (N,) of the triples.
        half: which half the items come from.
        rng: source of every choice.

    Raises:
        ValueError: a label that no item of a modality has in this half.
    """
    rows = {}
    for modality, own in items.items():
        shares = np.array(list(CORPORA[modality].values()))
        drawn = np.zeros(len(labels), np.int64)
        for label in np.unique(labels):
            mine = np.flatnonzero(labels == label)
            found = [
                np.flatnonzero((own.labels == label) & (own.half == half) & (own.corpus == corpus))
                for corpus in range(len(shares))
            ]
            weights = shares * [bool(len(candidates)) for candidates in found]
            if not weights.any():
                raise ValueError(f"half {half} of {modality} has no item with label {label}")
            corpora = rng.choice(len(shares), size=len(mine), p=weights / weights.sum())
            drawn[mine] = [rng.choice(found[corpus]) for corpus in corpora]
        rows[modality] = drawn
    return Triples(rows, labels)


def _place(word: str, labels: tuple[str, ...]) -> int:
    return labels.index(word) if word in labels else -1


def _halves(folder: Path, count: int) -> NDArray[np.int64]:
    """Returns (count,) 0 or 1: speakers apart where they are known, else the first and second half.

    A dialogue's lines follow each other, so that way at most one is in both.
    """
    if folder.name not in SPEECH_CORPORA:
        return (np.arange(count) >= (count + 1) // 2).astype(np.int64)
    with read_speech(folder, SPLIT) as corpus:
        speakers = sorted(set(corpus.speakers))
        return np.array([speakers.index(speaker) % 2 for speaker in corpus.speakers])
