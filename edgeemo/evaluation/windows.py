"""Labelled data as the windows that a live session would show to its engines, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeemo.bundle import ModalitySpec
from edgeemo.datasets.speech import SpeechCorpus
from edgeemo.errors import DatasetError
from edgeemo.features.audio import LogMelSpec, log_mel
from edgeemo.features.face import FaceSpec, normalize_face
from edgeemo.features.text import TextSpec, text_window
from edgeemo.runtimes.base import Runner
from edgeemo.windows import BlockBuffer, FeatureWindow, Float32

Rows = NDArray[np.intp]

BATCH = 32
_GATHERED = 16  # clips whose blocks share batches


@dataclass(frozen=True)
class WindowBatch:
    """Some windows of one modality.

    Attributes:
        features: (B, T, D) features, zeros where nothing is.
        mask: (B, T), 1 where there is a feature.
        item: (B,) number of the item that each window shows.
        finished: items that are complete once this batch is in, for progress.
    """

    features: Float32
    mask: Float32
    item: NDArray[np.int64]
    finished: int


def speech_windows(
    corpus: SpeechCorpus, rows: Rows, spec: ModalitySpec, stem: Runner, *, hop_s: float
) -> Iterator[WindowBatch]:
    """Yields the windows of clips, each clip a stream of its own that ends in silence.

    The last block is filled up with zeros. There is a window at each hop from when the clip fills it to
    when the clip ends; a clip shorter than the window gives one, at its end, the rest masked.

    Args:
        corpus: the clips.
        rows: (N,) which of them; item i is clip ``rows[i]``.
        spec: the audio modality.
        stem: its stem.
        hop_s: seconds between windows.
    """
    front_end = LogMelSpec.from_json(spec.front_end)
    block_samples = spec.stem.block * front_end.hop
    step = max(1, round(hop_s / spec.window.period_s))
    for first in range(0, len(rows), _GATHERED):
        members = range(first, min(first + _GATHERED, len(rows)))
        clips = []
        for index in members:
            samples = corpus.samples(int(rows[index]), front_end.sample_rate_hz)
            missing = -len(samples) % block_samples if len(samples) else block_samples
            clips.append(_blocks(log_mel(np.pad(samples, (0, missing)), front_end), spec))
        answers = run_in_batches(stem, {f"input.{spec.name}": np.concatenate(clips)})
        features = answers[f"features.{spec.name}"]  # (blocks, n, D)
        windows: list[tuple[Float32, Float32, int]] = []
        start = 0
        for index, clip in zip(members, clips, strict=True):
            own = features[start : start + len(clip)].reshape(-1, spec.feature_width)
            start += len(clip)
            windows += [(*view, index) for view in _views(own, spec, step)]
        for number in range(0, len(windows), BATCH):
            part = windows[number : number + BATCH]
            yield WindowBatch(
                np.concatenate([features for features, _, _ in part]),
                np.concatenate([mask for _, mask, _ in part]),
                np.array([item for _, _, item in part], np.int64),
                members.stop if number + BATCH >= len(windows) else members.start,
            )


def face_windows(images: NDArray[np.uint8], spec: ModalitySpec, stem: Runner) -> Iterator[WindowBatch]:
    """Yields one window for each face, as if it had been in view, unmoved, for the whole window.

    Args:
        images: (N, H, W) grey crops.
        spec: the video modality.
        stem: its stem.

    Raises:
        DatasetError: the crops are not of the size that the stem takes.
    """
    front_end = FaceSpec.from_json(spec.front_end)
    if images.shape[1:] != spec.stem.item_shape:
        raise DatasetError(f"the faces are {images.shape[1:]} pixels, the stem takes {spec.stem.item_shape}")
    for first in range(0, len(images), BATCH):
        crops = normalize_face(images[first : first + BATCH], front_end)[:, None]  # (B, 1, H, W)
        features = run_in_batches(stem, {f"input.{spec.name}": crops})[f"features.{spec.name}"]  # (B, 1, D)
        yield WindowBatch(
            np.repeat(features, spec.window.length, axis=1),
            np.ones((len(crops), spec.window.length), np.float32),
            np.arange(first, first + len(crops)),
            first + len(crops),
        )


def text_windows(texts: list[str], spec: ModalitySpec, stem: Runner) -> Iterator[WindowBatch]:
    """Yields one window for each text, as if its words had just been said; texts without words give none.

    Args:
        texts: N texts.
        spec: the text modality.
        stem: its stem.
    """
    front_end = TextSpec.from_json(spec.front_end)
    for first in range(0, len(texts), BATCH):
        pairs = [text_window(text, front_end) for text in texts[first : first + BATCH]]
        ids, mask = np.stack([ids for ids, _ in pairs]), np.stack([mask for _, mask in pairs])
        finished = first + len(pairs)
        spoken = np.flatnonzero(mask.any(axis=1))
        if not len(spoken):
            continue
        answers = run_in_batches(stem, {f"input.{spec.name}": ids[spoken]})
        features = answers[f"features.{spec.name}"]  # (B, T, D)
        yield WindowBatch(features, mask[spoken], first + spoken, finished)


def run_in_batches(runner: Runner, feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Returns the outputs of many items, computed as a live hop computes them.

    Quantized engines scale their activations over the whole batch (DynamicQuantizeLinear), so they are
    run on one item at a time, as in a session; the others on `BATCH` at a time.

    Args:
        runner: a stem or engine.
        feed: arrays (N, ...), N at least 1.
    """
    size = 1 if runner.variant.startswith("int8") else BATCH
    count = len(next(iter(feed.values())))
    parts = [
        runner.run({name: array[first : first + size] for name, array in feed.items()})
        for first in range(0, count, size)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _blocks(items: Float32, spec: ModalitySpec) -> Float32:
    """Returns the aligned blocks (blocks, left_context + block, *item_shape) of a stream from its start."""
    buffer = BlockBuffer(
        block=spec.stem.block, left_context=spec.stem.left_context, item_shape=spec.stem.item_shape
    )
    buffer.push(items)
    return np.stack(list(buffer.take(up_to_item=len(items))))


def _views(features: Float32, spec: ModalitySpec, step: int) -> Iterator[tuple[Float32, Float32]]:
    """Yields features (1, T, D) and mask (1, T) of every full window of a stream, or of its only one."""
    window = FeatureWindow(length=spec.window.length, width=spec.feature_width)
    newest = len(features) - 1
    ends = set(range(newest, spec.window.length - 2, -step)) or {newest}
    for slot, feature in enumerate(features):
        window.put(slot, feature)
        if slot in ends:
            yield window.view(slot)
