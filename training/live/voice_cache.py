"""Log-mel frames of the speech corpora, computed once and kept beside the run."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeemo.datasets.speech import SpeechCorpus, read_speech
from edgeemo.features.audio import LogMelSpec, log_mel
from edgeemo.training.augment.voice import augment_voice, trim_silence

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VoiceFrames:
    """Frames of one split of one corpus, in dB relative to the level, in several variants.

    Attributes:
        frames: (total, bands) float16, all variants of all clips one after the other.
        offsets: (variants, clips, 2) first frame and end of every clip.
        labels: (clips,) label index.
    """

    frames: NDArray[np.float16]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64]

    def clip(self, index: int, variant: int = 0) -> NDArray[np.float32]:
        """Returns (T, bands) of one clip."""
        start, end = self.offsets[variant, index]
        return self.frames[start:end].astype(np.float32)


def cached_frames(
    folder: Path,
    split: str,
    cache: Path,
    *,
    spec: LogMelSpec,
    variants: int,
    seed: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> VoiceFrames:
    """Returns the frames of one split, from the cache where a finished run left them.

    Variant 0 is the clip as it is; the others are augmented, half of them after the silence around
    the clip was cut off.

    Args:
        folder: a speech corpus.
        split: ``train`` or ``val``.
        cache: folder for the arrays.
        spec: front-end; its mean and std are ignored, so the frames stay in dB.
        variants: 1 for the clean clips alone.
        seed: of the augmentation.
        progress: called with (what, clips done, clips).
    """
    path = cache / f"{folder.name}.{split}.{variants}.{seed}.npz"
    if not path.exists():
        with read_speech(folder, split) as corpus:
            made = _compute(corpus, replace(spec, mean=(), std=()), variants, seed, progress)
        cache.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, frames=made.frames, offsets=made.offsets, labels=made.labels)
        os.replace(temporary, path)
        log.info("cached %s", path)
    with np.load(path, allow_pickle=False) as arrays:
        return VoiceFrames(arrays["frames"], arrays["offsets"], arrays["labels"])


def band_statistics(corpora: Sequence[VoiceFrames]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of every band in dB, every corpus counting the same.

    Rounded to 1/1000 dB, so that the spec is short in a manifest.
    """
    moments = []
    for corpus in corpora:
        sample = corpus.frames[::7].astype(np.float64)
        moments.append((sample.mean(axis=0), (sample**2).mean(axis=0)))
    mean = np.mean([first for first, _ in moments], axis=0)
    std = np.sqrt(np.mean([second for _, second in moments], axis=0) - mean**2)
    return tuple(round(float(value), 3) for value in mean), tuple(round(float(value), 3) for value in std)


def _compute(
    corpus: SpeechCorpus,
    spec: LogMelSpec,
    variants: int,
    seed: int,
    progress: Callable[[str, int, int], None] | None,
) -> VoiceFrames:
    rng = np.random.default_rng(seed)
    parts: list[NDArray[np.float16]] = []
    offsets = np.zeros((variants, len(corpus), 2), np.int64)
    total = 0
    for index in range(len(corpus)):
        samples = corpus.samples(index, spec.sample_rate_hz)
        trimmed = trim_silence(samples, rate=spec.sample_rate_hz)
        for variant in range(variants):
            if variant > 0:
                source = trimmed if rng.random() < 0.5 else samples
                sound = augment_voice(source, rng, rate=spec.sample_rate_hz)
            else:
                sound = samples
            frames = log_mel(sound, spec).astype(np.float16)
            parts.append(frames)
            offsets[variant, index] = total, total + len(frames)
            total += len(frames)
        if progress is not None:
            progress(corpus.name, index + 1, len(corpus))
    return VoiceFrames(np.concatenate(parts), offsets, corpus.label_index)
