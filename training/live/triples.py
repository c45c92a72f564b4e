"""Label-matched windows: a voice, a face and a sentence of different people, under the same label.

No corpus has all three of one person, so a label is drawn first and then one sample of each modality
that bears it. Given the label the modalities are independent of each other; figures on such triples
overstate what fusion gains and are always called label-matched.

Labels are drawn from the prior of the subset, and the loss adds its logarithm to the logits (logit
adjustment: Menon et al., 2021, arXiv:2007.07314), so that the logits themselves are free of any prior
and the prior is a number in the manifest that an application can change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeemo.modality import all_subsets, subset_members
from edgeemo.training.live.features import FeatureBank

Array = NDArray[np.float32]

# How often each corpus is drawn, where it has the label that is wanted.
CORPUS_SHARES: dict[str, tuple[float, ...]] = {
    "audio": (0.4, 0.4, 0.2),
    "video": (1.0,),
    "text": (0.5, 0.35, 0.15),
}
SMOOTHING = 0.05
_SHORTEST_VOICE = 5  # positions, half a second
_FLOOR = 1e-3  # no prior is smaller than this


@dataclass(frozen=True)
class Samples:
    """Rows drawn from the banks of one modality.

    Attributes:
        bank: (B,) index of the bank.
        row: (B,) sample in that bank.
        targets: (B, 7) its label shares.
        log_prior: (B, 7) logarithm of the prior that it was drawn under.
    """

    bank: NDArray[np.int64]
    row: NDArray[np.int64]
    targets: Array
    log_prior: Array


class Pool:
    """All banks of one modality, to draw samples and windows from.

    Args:
        banks: seen and unseen samples apart, each with its own number of variants.
        shares: how often each bank is drawn; they sum to 1.
        corpus_shares: how often each corpus is drawn.
        length: positions in a window, T.
        align: ``"right"``, the newest position last, or ``"left"``.
        balanced: True where single-modality batches draw labels uniformly, False where samples are
            drawn as they are and the prior is that of the corpora as they are mixed.
    """

    def __init__(
        self,
        banks: Sequence[FeatureBank],
        shares: Sequence[float],
        corpus_shares: Sequence[float],
        *,
        length: int,
        align: str,
        balanced: bool,
    ) -> None:
        self.banks = tuple(banks)
        self.length, self.align, self.balanced = length, align, balanced
        self.classes = banks[0].targets.shape[1]
        self.width = banks[0].features.shape[1]
        groups = [
            (number, corpus, np.flatnonzero(bank.corpus == corpus))
            for number, bank in enumerate(banks)
            for corpus in range(len(corpus_shares))
        ]
        self._groups = [(number, corpus, rows) for number, corpus, rows in groups if len(rows)]
        self._shares = np.array(
            [shares[number] * corpus_shares[corpus] for number, corpus, _ in self._groups]
        )
        self._mass = []  # (groups) of (rows, C + 1) cumulated weight of each label, then of the rows
        for number, _, rows in self._groups:
            bank = banks[number]
            weights = bank.weights[rows, None] * np.hstack(
                (bank.targets[rows], np.ones((len(rows), 1), np.float32))
            )
            self._mass.append(np.cumsum(weights.astype(np.float64), axis=0))
        priors = self._corpus_priors(len(corpus_shares))
        drawn = np.bincount([corpus for _, corpus, _ in self._groups], self._shares, len(corpus_shares))
        mixed = (drawn[:, None] * priors).sum(axis=0)
        self.prior: Array = np.full(self.classes, 1 / self.classes) if balanced else mixed / mixed.sum()

    def _corpus_priors(self, corpora: int) -> NDArray[np.float64]:
        totals = np.zeros((corpora, self.classes))
        for (_, corpus, _), mass in zip(self._groups, self._mass, strict=True):
            totals[corpus] += mass[-1, :-1]
        totals = np.maximum(totals / np.maximum(totals.sum(axis=1, keepdims=True), 1e-9), _FLOOR)
        priors: NDArray[np.float64] = totals / totals.sum(axis=1, keepdims=True)
        return priors

    def draw(self, count: int, rng: np.random.Generator) -> Samples:
        """Returns samples for a batch of this modality alone, with the prior of the pool.

        One prior for all corpora: nobody tells a device which corpus a text is from, so what the text
        itself tells about that belongs into the logits.
        """
        if self.balanced:
            return self.draw_labels(rng.integers(self.classes, size=count), self.prior, rng)
        group = rng.choice(len(self._groups), size=count, p=self._shares / self._shares.sum())
        row = self._rows(group, np.full(count, self.classes), rng)
        bank = np.array([number for number, _, _ in self._groups])[group]
        targets = np.stack([self.banks[b].targets[r] for b, r in zip(bank, row, strict=True)])
        log_prior = np.broadcast_to(np.log(self.prior).astype(np.float32), targets.shape)
        return Samples(bank, row, targets, log_prior)

    def draw_labels(
        self, labels: NDArray[np.int64], prior: NDArray[np.floating], rng: np.random.Generator
    ) -> Samples:
        """Returns one sample for each label, drawn in proportion to its share of that label."""
        held = np.stack([mass[-1, :-1] > 0 for mass in self._mass])  # (groups, C)
        cumulated = np.cumsum(self._shares[:, None] * held, axis=0)  # (groups, C)
        point = rng.random(len(labels)) * cumulated[-1, labels]
        group = (point[:, None] >= cumulated[:, labels].T).sum(axis=1)
        row = self._rows(group, labels, rng)
        bank = np.array([number for number, _, _ in self._groups])[group]
        targets = np.eye(self.classes, dtype=np.float32)[labels]
        log_prior = np.broadcast_to(np.log(prior).astype(np.float32), targets.shape)
        return Samples(bank, row, targets, log_prior)

    def _rows(
        self, group: NDArray[np.int64], column: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        points = rng.random(len(group))
        rows = np.empty(len(group), np.int64)
        for at, (number, label) in enumerate(zip(group, column, strict=True)):
            mass = self._mass[number][:, label]
            place = np.searchsorted(mass, points[at] * mass[-1], side="right")
            rows[at] = self._groups[number][2][min(int(place), len(mass) - 1)]
        return rows

    def windows(self, samples: Samples, rng: np.random.Generator | None) -> tuple[Array, Array]:
        """Returns features (B, T, D) and mask (B, T) of one window of each sample.

        Args:
            samples: drawn from this pool.
            rng: draws variant, place and flaws; None gives the plain sample, its end in the window.
        """
        index = np.full((len(samples.row), self.length), -1, np.int64)
        features = np.zeros((*index.shape, self.width), np.float32)
        for number, bank in enumerate(self.banks):
            mine = np.flatnonzero(samples.bank == number)
            if len(mine):
                index[mine] = self._positions(bank, samples.row[mine], samples.targets[mine], rng)
                taken = bank.features[np.maximum(index[mine], 0)].astype(np.float32)
                features[mine] = taken * (index[mine] >= 0)[:, :, None]
        return features, (index >= 0).astype(np.float32)

    def _positions(
        self, bank: FeatureBank, rows: NDArray[np.int64], targets: Array, rng: np.random.Generator | None
    ) -> NDArray[np.int64]:
        """Returns (B, T) positions in ``bank.features``, -1 where there is nothing."""
        del targets
        variants = (
            np.zeros(len(rows), np.int64) if rng is None else rng.integers(len(bank.spans), size=len(rows))
        )
        start, end = bank.spans[variants, rows].T
        count = end - start
        if rng is not None and self.align == "right":
            least = np.minimum(_SHORTEST_VOICE, count)
            early = rng.integers(least, count + 1)
            count = np.where(rng.random(len(rows)) < 0.6, early, count)
        kept = np.minimum(count, self.length)
        if rng is not None and self.align == "right":  # after a gap the window fills anew
            short = rng.integers(np.minimum(_SHORTEST_VOICE, kept), kept + 1)
            kept = np.where(rng.random(len(rows)) < 0.2, short, kept)
        place = np.arange(self.length)[None, :]
        if self.align == "right":
            offset = count[:, None] - self.length + place
            valid = place >= self.length - kept[:, None]
        else:
            offset = place + (count - kept)[:, None]
            valid = place < kept[:, None]
        return np.where(valid, start[:, None] + offset, -1)


class FacePool(Pool):
    """Faces: a window of frames is made of crops of one face, sometimes of others of the same label."""

    STATIC = 0.35  # the same crop in every frame
    CHANGED = 0.15  # from some frame on another face of the same label
    FLASH = 0.12  # one to three frames of a face of another label
    FULL = 0.6  # every slot of the window is filled
    GAPS = 0.2  # some slots without a face

    def _positions(
        self, bank: FeatureBank, rows: NDArray[np.int64], targets: Array, rng: np.random.Generator | None
    ) -> NDArray[np.int64]:
        count, length = len(rows), self.length
        if rng is None:
            return np.repeat(bank.spans[0, rows, :1], length, axis=1)
        row = np.repeat(rows[:, None], length, axis=1)  # (B, T)
        place = np.arange(length)[None, :]
        label = targets.argmax(axis=1)
        changed = rng.random(count) < self.CHANGED
        others = self._others(bank, label, rng)
        row = np.where(
            changed[:, None] & (place >= rng.integers(1, length, count)[:, None]), others[:, None], row
        )
        flash = rng.random(count) < self.FLASH
        at = rng.integers(0, length, count)[:, None]
        inside = (place >= at) & (place < at + rng.integers(1, 4, count)[:, None])
        row = np.where(flash[:, None] & inside, rng.integers(len(bank), size=count)[:, None], row)
        variant = rng.integers(len(bank.spans), size=(count, length))
        variant = np.where((rng.random(count) < self.STATIC)[:, None], variant[:, :1], variant)
        filled = np.where(rng.random(count) < self.FULL, length, rng.integers(1, length + 1, count))
        valid = place >= length - filled[:, None]
        gaps = (rng.random(count) < self.GAPS)[:, None] & (rng.random((count, length)) < 0.3)
        kept = valid & ~gaps
        kept |= valid & ~kept.any(axis=1, keepdims=True)  # no window is empty
        return np.where(kept, bank.spans[variant, row, 0], -1)

    def _others(
        self, bank: FeatureBank, label: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Returns a face of the same label for each of the labels."""
        rows = np.empty(len(label), np.int64)
        for value in np.unique(label):
            found = np.flatnonzero(bank.targets.argmax(axis=1) == value)
            mine = np.flatnonzero(label == value)
            rows[mine] = (
                rng.choice(found, size=len(mine)) if len(found) else rng.integers(len(bank), size=len(mine))
            )
        return rows


@dataclass(frozen=True)
class Batch:
    """Windows of one subset.

    Attributes:
        subset: which modalities there are.
        features: modality -> (B, T, D).
        masks: modality -> (B, T).
        targets: (B, 7).
        log_prior: (B, 7), added to the logits in the loss.
    """

    subset: str
    features: dict[str, Array]
    masks: dict[str, Array]
    targets: Array
    log_prior: Array


def subset_priors(
    pools: Mapping[str, Pool], powers: Mapping[str, float] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Returns subset -> (7,) prior: the normalised geometric mean of the members' own priors.

    Args:
        pools: modality -> pool.
        powers: modality -> power that its prior is raised to; below 1 it is flatter than its data.
    """
    powers = powers or {}
    priors = {}
    for subset in all_subsets(tuple(pools)):
        logs = [powers.get(m, 1.0) * np.log(pools[m].prior) for m in subset_members(subset)]
        weights = np.exp(np.mean(logs, axis=0))
        priors[subset] = weights / weights.sum()
    return priors


def draw_batch(
    pools: Mapping[str, Pool],
    subset: str,
    count: int,
    rng: np.random.Generator,
    *,
    prior: NDArray[np.float64],
    plain: bool = False,
) -> Batch:
    """Returns windows of one subset: samples as they come for a single modality, else label-matched ones.

    Args:
        pools: modality -> pool.
        subset: canonical key.
        count: windows, B.
        rng: source of every choice.
        prior: (7,) of the subset; label-matched windows are drawn from it.
        plain: no augmented variants, no flaws and no label smoothing, for measuring.
    """
    members = subset_members(subset)
    if len(members) == 1:
        drawn = {subset: pools[subset].draw(count, rng)}
    else:
        labels = rng.choice(len(prior), size=count, p=prior)
        drawn = {m: pools[m].draw_labels(labels, prior, rng) for m in members}
    features, masks = {}, {}
    for m in members:
        features[m], masks[m] = pools[m].windows(drawn[m], None if plain else rng)
    targets, log_prior = drawn[members[0]].targets, drawn[members[0]].log_prior
    if not plain:
        targets = targets * (1 - SMOOTHING) + SMOOTHING / targets.shape[1]
    return Batch(subset, features, masks, targets, np.array(log_prior))
