"""Runs the frozen stems over the corpora once: what the trunk is trained on.

A bank holds the feature sequences of one split of one modality, the samples as they are and in a few
augmented variants, with what the front-end of the live session would have given: sound from the start
of a stream, with zeros before it; single face crops; whole texts of at most 32 words.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeemo.datasets.faces import read_ferplus
from edgeemo.datasets.labels import LABELS
from edgeemo.datasets.speech import SPEECH_CORPORA
from edgeemo.datasets.text import READERS
from edgeemo.features.face import normalize_face
from edgeemo.features.text import TextSpec, tokenize, word_ids
from edgeemo.training.augment.face import augment_faces
from edgeemo.training.augment.text import TextNoise, crop_words, damage_words
from edgeemo.training.augment.voice import tilt_frames, warp_frames
from edgeemo.training.live.fit_voice import VoiceData
from edgeemo.training.live.split import trunk_rows
from edgeemo.training.stems.voice import STRIDE

log = logging.getLogger(__name__)

FACE_CORPUS = "ferplus"
TEXT_CORPORA = ("goemotions", "meld_text", "isear_text")
CORPORA: dict[str, tuple[str, ...]] = {
    "audio": SPEECH_CORPORA,
    "video": (FACE_CORPUS,),
    "text": TEXT_CORPORA,
}
VOICE_BLOCK = 40  # frames, half a second
_BATCH = 64

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class FeatureBank:
    """Feature sequences of n samples in v variants; variant 0 is the sample as it is.

    Attributes:
        features: (positions, D) float16, all sequences one after the other.
        spans: (v, n, 2) first position and end of each sequence.
        targets: (n, 7) label shares, each row summing to 1 (or to 0 where none of the labels fits).
        labels: (n,) the one label that counts for accuracy, or -1.
        weights: (n,) how much a sample counts when one is drawn.
        corpus: (n,) index into `CORPORA` of the modality.
        unseen: (n,) True where the stem was not trained on the sample.
    """

    features: NDArray[np.float16]
    spans: NDArray[np.int64]
    targets: NDArray[np.float32]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    corpus: NDArray[np.int64]
    unseen: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        variants, samples = self.spans.shape[:2]
        return f"FeatureBank({samples} samples in {variants} variants, {len(self.features)} positions)"


def cached_bank(path: Path, key: Mapping[str, Any], make: Callable[[], FeatureBank]) -> FeatureBank:
    """Returns the bank in ``path``, made and written first where it is missing or of another ``key``.

    Args:
        path: without suffix; an ``.npz`` and a ``.json`` with the key lie there.
        key: everything the bank depends on, the weights of the stem included (`file_sha256`).
        make: computes the bank.
    """
    arrays, note = path.with_name(f"{path.name}.npz"), path.with_name(f"{path.name}.json")
    if not (arrays.exists() and note.exists() and json.loads(note.read_text()) == dict(key)):
        note.unlink(missing_ok=True)
        bank = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.tmp.npz")
        np.savez(temporary, **{field.name: getattr(bank, field.name) for field in fields(bank)})
        os.replace(temporary, arrays)
        note.write_text(json.dumps(dict(key), indent=1) + "\n")
        log.info("made %s: %r", arrays, bank)
    with np.load(arrays, allow_pickle=False) as file:
        return FeatureBank(**{field.name: file[field.name] for field in fields(FeatureBank)})


def file_sha256(path: Path) -> str:
    """Returns the sha256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def voice_bank(
    voices: VoiceData,
    stem: torch.nn.Module,
    split: str,
    *,
    variants: int,
    seed: int,
    progress: Progress | None = None,
) -> FeatureBank:
    """Returns the features of all clips of all speech corpora, one every 8 frames from the clip's start.

    Args:
        voices: frames of the clips (`edgeemo.training.live.fit_voice.read_voices`).
        stem: (B, left_context + 8 n, bands) -> (B, n, D).
        split: ``train`` or ``val``.
        variants: 1 for the clean clips alone; the others are augmented on samples and on frames.
        seed: of the augmentation.
        progress: called with (what, sequences done, sequences).
    """
    rng = np.random.default_rng([seed, 1])
    corpora = voices.train if split == "train" else voices.val
    clips: list[NDArray[np.float32]] = []
    for variant in range(variants):
        for name in SPEECH_CORPORA:
            frames = corpora[name]
            for index in range(len(frames.labels)):
                if variant == 0:
                    clip = with_silence(frames.clip(index), voices.spec.range_db)
                else:
                    clip = frames.clip(index, int(rng.integers(len(frames.offsets))))
                    clip = warp_frames(clip, rng) if rng.random() < 0.7 else clip
                    clip = (
                        tilt_frames(clip, rng, range_db=voices.spec.range_db) if rng.random() < 0.7 else clip
                    )
                clips.append(voices.normalized(clip))
    sequences = voice_sequences(stem, clips, progress)
    labels = np.concatenate([corpora[name].labels for name in SPEECH_CORPORA])
    corpus = np.repeat(np.arange(len(SPEECH_CORPORA)), [len(corpora[name].labels) for name in SPEECH_CORPORA])
    return _bank(
        sequences,
        variants,
        targets=np.eye(len(LABELS), dtype=np.float32)[labels],
        labels=labels,
        weights=np.ones(len(labels), np.float32),
        corpus=corpus,
        unseen=np.full(len(labels), split != "train"),
    )


def with_silence(frames_db: NDArray[np.float32], range_db: float) -> NDArray[np.float32]:
    """Returns a clip (T, bands) in dB, ended by silence up to the next whole block of the live stem."""
    missing = -len(frames_db) % VOICE_BLOCK
    return np.pad(frames_db, ((0, missing), (0, 0)), constant_values=-range_db)


def voice_sequences(
    stem: torch.nn.Module, clips: list[NDArray[np.float32]], progress: Progress | None = None
) -> list[NDArray[np.float16]]:
    """Returns (n, D) features of each clip (T, bands) as a stream that starts with it gives them.

    Clips of similar length share a batch; the stem looks only back, so zeros behind a clip change
    nothing of it. A clip of less than one block of 8 frames is repeated up to one.
    """
    context = int(stem.left_context)
    whole = [np.resize(clip, (STRIDE, clip.shape[1])) if len(clip) < STRIDE else clip for clip in clips]
    order = np.argsort([len(clip) for clip in whole], kind="stable")
    sequences: list[NDArray[np.float16]] = [np.zeros((0, 0), np.float16)] * len(whole)
    for at in range(0, len(order), _BATCH):
        some = [int(index) for index in order[at : at + _BATCH]]
        counts = [len(whole[index]) // STRIDE for index in some]
        frames = np.zeros((len(some), context + max(counts) * STRIDE, whole[0].shape[1]), np.float32)
        for place, (index, count) in enumerate(zip(some, counts, strict=True)):
            frames[place, context : context + count * STRIDE] = whole[index][: count * STRIDE]
        features = _run(stem, frames)
        for place, (index, count) in enumerate(zip(some, counts, strict=True)):
            sequences[index] = features[place, :count]
        if progress is not None:
            progress("voice features", at + len(some), len(order))
    return sequences


def face_bank(
    data: Path,
    stem: torch.nn.Module,
    split: str,
    *,
    variants: int,
    keep: float = 1.0,
    unseen: bool | None = None,
    seed: int,
    progress: Progress | None = None,
) -> FeatureBank:
    """Returns the features of FER+ faces, one position each.

    Args:
        data: holds ``ferplus``.
        stem: (B, 1, 48, 48) -> (B, 1, D).
        split: ``train`` or ``val``.
        variants: 1 for the plain crops alone.
        keep: share of the chosen rows to keep, evenly spread.
        unseen: True for the rows the stem never saw, False for the others, None for all.
        seed: of the augmentation.
        progress: called with (what, crops done, crops).
    """
    faces = read_ferplus(data / FACE_CORPUS, split)
    fresh = trunk_rows(len(faces)) if split == "train" else np.ones(len(faces), np.bool_)
    chosen = np.flatnonzero((faces.share > 0) & ((fresh == unseen) if unseen is not None else True))
    chosen = chosen[np.linspace(0, len(chosen) - 1, max(1, round(keep * len(chosen)))).astype(int)]
    rng = np.random.default_rng([seed, 2])
    parts: list[NDArray[np.float16]] = []
    for variant in range(variants):
        for at in range(0, len(chosen), 256):
            crops = faces.images[chosen[at : at + 256]]
            crops = augment_faces(crops, rng) if variant else crops
            parts.append(_run(stem, normalize_face(crops)[:, None])[:, 0])
            if progress is not None:
                progress("face features", variant * len(chosen) + at + len(crops), variants * len(chosen))
    count = variants * len(chosen)
    starts = np.arange(count).reshape(variants, len(chosen))
    return FeatureBank(
        np.concatenate(parts),
        np.stack((starts, starts + 1), axis=2),
        faces.soft[chosen],
        faces.label[chosen],
        faces.share[chosen],
        np.zeros(len(chosen), np.int64),
        fresh[chosen],
    )


def text_bank(
    data: Path,
    stem: torch.nn.Module,
    spec: TextSpec,
    split: str,
    *,
    variants: int,
    keep: float = 1.0,
    unseen: bool | None = None,
    seed: int,
    progress: Progress | None = None,
) -> FeatureBank:
    """Returns the features of texts, one position a word.

    Args:
        data: holds the text corpora.
        stem: (B, 32, K) ids -> (B, 32, D).
        spec: front-end of the stem.
        split: ``train`` or ``dev``.
        variants: 1 for the texts as written alone; the others are damaged.
        keep: share of the chosen rows to keep, evenly spread.
        unseen: True for the rows the stem never saw, False for the others, None for all.
        seed: of the damage.
        progress: called with (what, texts done, texts).
    """
    rng = np.random.default_rng([seed, 3])
    words: list[list[str]] = []
    targets, labels, corpus, fresh_rows = [], [], [], []
    for number, name in enumerate(TEXT_CORPORA):
        rows = READERS[name](data / name, split)
        fresh = trunk_rows(len(rows)) if split == "train" else np.ones(len(rows), np.bool_)
        fits = (rows.targets.sum(axis=1) > 0) & ((fresh == unseen) if unseen is not None else True)
        chosen = np.flatnonzero(fits)
        for row in chosen[np.linspace(0, len(chosen) - 1, max(1, round(keep * len(chosen)))).astype(int)]:
            tokens = tokenize(rows.texts[row])
            if tokens:
                words.append(tokens)
                targets.append(rows.targets[row])
                labels.append(rows.labels[row])
                corpus.append(number)
                fresh_rows.append(fresh[row])
    sequences: list[NDArray[np.float16]] = []
    for variant in range(variants):
        for at in range(0, len(words), 256):
            some = words[at : at + 256]
            if variant:
                some = [
                    damage_words(crop_words(text, spec.max_words, rng), TextNoise(), rng) for text in some
                ]
            ids = ids_from_words(some, spec)
            features = _run(stem, ids)
            counts = (ids[:, :, 0] != 0).sum(axis=1)
            sequences += [row[:count] for row, count in zip(features, counts, strict=True)]
            if progress is not None:
                progress("text features", variant * len(words) + at + len(some), variants * len(words))
    return _bank(
        sequences,
        variants,
        targets=np.stack(targets),
        labels=np.array(labels, np.int64),
        weights=np.ones(len(labels), np.float32),
        corpus=np.array(corpus, np.int64),
        unseen=np.array(fresh_rows, np.bool_),
    )


def ids_from_words(texts: Iterable[list[str]], spec: TextSpec) -> NDArray[np.int64]:
    """Returns (B, max_words, K) ids of the newest words of each text, from position 0 on."""
    rows = []
    for words in texts:
        newest = words[-spec.max_words :]
        ids = np.zeros((spec.max_words, spec.ids_per_word), np.int64)
        ids[: len(newest)] = word_ids(newest, spec)
        rows.append(ids)
    return np.stack(rows)


def _run(stem: torch.nn.Module, items: NDArray[Any]) -> NDArray[np.float16]:
    with torch.no_grad():
        features: NDArray[np.float32] = stem(torch.from_numpy(items)).float().numpy()
    return features.astype(np.float16)


def _bank(sequences: list[NDArray[np.float16]], variants: int, **rows: Any) -> FeatureBank:
    ends = np.cumsum([len(sequence) for sequence in sequences])
    starts = np.concatenate(([0], ends[:-1]))
    spans = np.stack((starts, ends), axis=1).reshape(variants, -1, 2)
    return FeatureBank(np.concatenate(sequences), spans, **rows)
