"""Trains the voice stem of the live model on three acted corpora, taught by larger networks."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save

from edgeemo.datasets.labels import LABELS
from edgeemo.datasets.speech import SPEECH_CORPORA
from edgeemo.errors import TrainingError
from edgeemo.features.audio import LogMelSpec
from edgeemo.training.augment.voice import mask_frames, tilt_frames, warp_frames
from edgeemo.training.live.voice_cache import VoiceFrames, band_statistics, cached_frames
from edgeemo.training.loop import LoopConfig, Metrics, fit
from edgeemo.training.stems.voice import STRIDE, ClipHead, VoiceStem
from edgeemo.training.stems.voice_teacher import VoiceTeacher

log = logging.getLogger(__name__)

_VARIANTS = 6  # the clean clip and five augmented ones
_SHARES = {"speech_ravdess": 0.45, "speech_nemo_pl": 0.35, "speech_emodb": 0.2}
_BATCH = 64
_STEPS = 60
_SHORTEST, _LONGEST = 120, 320  # frames in a training window: 1.5 s to the 4 s of the live window
_SMOOTHING = 0.1
_MIXED = 0.3  # share of the batches that are mixed up in pairs
_BABBLE = 0.3  # share of the windows with other voices behind
_TAUGHT = 0.7  # share of the teachers in a target; the rest is the label

# Epochs of each. They err differently: "plain" is a small stem of its own, "recurrent" and "centred" look at
# the whole window at once, the last without the mean of each band. Together they are better than each.
TEACHERS = {"plain": 70, "centred": 45, "recurrent": 30}

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # frames, mask, targets
Loss = Callable[[torch.nn.Module, Batch], torch.Tensor]


@dataclass(frozen=True)
class VoiceData:
    """Frames of every corpus and the front-end, with statistics, that normalises them."""

    spec: LogMelSpec
    train: Mapping[str, VoiceFrames]
    val: Mapping[str, VoiceFrames]

    def normalized(self, frames_db: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns (T, bands) as the front-end gives it, from frames in dB."""
        mean, std = (np.array(values, np.float32) for values in (self.spec.mean, self.spec.std))
        scaled: NDArray[np.float32] = (frames_db - mean) / std
        return scaled


class VoiceClassifier(torch.nn.Module):
    """The stem with the head that it is trained under."""

    def __init__(self, stem: VoiceStem, head: ClipHead) -> None:
        super().__init__()
        self.stem = stem
        self.head = head

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns logits (B, 7) of frames (B, left_context + 8 n, bands) and mask (B, n)."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.training):
            features = self.stem(frames)
        logits: torch.Tensor = self.head(features.float(), mask)
        return logits


def fit_voice(
    data: Path,
    out: Path,
    *,
    epochs: int = 50,
    teachers: Mapping[str, int] = TEACHERS,
    seed: int = 0,
    progress: Callable[[int, int, Metrics], None] | None = None,
) -> Metrics:
    """Trains the teachers and then the voice stem, or resumes, and writes weights, front-end and metrics.

    Batches are balanced over corpora and labels, so that neither language nor recording tells the
    label. The stem learns from the labels and from the mean answer of the teachers (Hinton et al., 2015,
    arXiv:1503.02531); some of its windows have other voices talking behind, which the teachers do not
    hear. The kept epoch has the best mean UAR over the
    unseen speakers of the three corpora.

    Args:
        data: holds ``speech_ravdess``, ``speech_nemo_pl`` and ``speech_emodb``.
        out: cache, state, curve, ``stem.safetensors``, ``front_end.json`` and ``metrics.json`` go
            here; a finished run is not repeated. The teachers' runs lie in ``out/teacher.<name>``.
        epochs: of 3840 windows each.
        teachers: epochs of each network to learn from, see `TEACHERS`; none trains on the labels alone.
        seed: of weights, order and augmentation.
        progress: called after each epoch with (epochs done, epochs, metrics), the teachers' included.

    Returns:
        ``uar_mean`` and, for each corpus, ``<corpus>_uar`` and ``<corpus>_accuracy`` on ``val``.

    Raises:
        DatasetError: a corpus is missing or broken.
        TrainingError: ``out`` holds a run with other settings.
    """
    done = out / "metrics.json"
    if done.exists() and (out / "stem.safetensors").exists():
        return dict(json.loads(done.read_text()))
    voices = read_voices(data, out / "cache", seed=seed)
    total = sum(teachers.values()) + epochs

    def fit_network(
        model: torch.nn.Module, folder: Path, *, count: int, done: int, seed: int, loss: Loss
    ) -> None:
        context = int(model.stem.left_context)
        fit(
            model,
            LoopConfig(
                epochs=count,
                steps_per_epoch=_STEPS,
                learning_rate=3e-3,
                select="uar_mean",
                ema_decay=0.995,
                weight_decay=0.02,
                seed=seed,
            ),
            batches=lambda epoch, rng: training_batches(voices, context, rng),
            loss=loss,
            evaluate=lambda trained: measure(trained, voices),
            out=folder,
            progress=lambda at, _, metrics: progress(done + at, total, metrics) if progress else None,
        )

    taught_by: list[torch.nn.Module] = []
    done_epochs = 0
    for name, count in teachers.items():
        own_seed = seed + list(TEACHERS).index(name)
        torch.manual_seed(own_seed)
        teacher = new_teacher(name).to(memory_format=torch.channels_last)
        folder = out / f"teacher.{name}"
        fit_network(teacher, folder, count=count, done=done_epochs, seed=own_seed, loss=_loss)
        taught_by.append(teacher)
        done_epochs += count
    torch.manual_seed(seed)
    stem = VoiceStem(norm=True, dropout=0.1 if teachers else 0.15)
    model = VoiceClassifier(stem, ClipHead(stem.project.out_channels, len(LABELS)))
    model.to(memory_format=torch.channels_last)
    fit_network(
        model,
        out,
        count=epochs,
        done=done_epochs,
        seed=seed,
        loss=lambda network, batch: _loss(network, _with_babble(_taught(taught_by, batch), voices.spec)),
    )
    deployed = VoiceClassifier(stem.folded(), model.head).eval()
    with torch.no_grad():
        metrics = measure(deployed, voices)
    weights = {name: tensor.contiguous() for name, tensor in deployed.stem.state_dict().items()}
    _write(out / "stem.safetensors", save(weights))
    _write(out / "front_end.json", _json(voices.spec.to_json()))
    _write(done, _json(metrics))
    return metrics


def new_teacher(name: str) -> torch.nn.Module:
    """Returns a fresh teacher of one of the kinds of `TEACHERS`."""
    if name == "plain":
        stem = VoiceStem(channels=(16, 32, 48), width=96, norm=True, dropout=0.15)
        return VoiceClassifier(stem, ClipHead(stem.project.out_channels, len(LABELS)))
    return VoiceTeacher(centred=name == "centred")


def load_voice_stem(out: Path) -> VoiceStem:
    """Returns the stem that `fit_voice` wrote into ``out``, in eval mode.

    Raises:
        TrainingError: there is no finished stem.
    """
    path = out / "stem.safetensors"
    if not path.is_file():
        raise TrainingError(f"{path} does not exist; train the voice stem first")
    stem = VoiceStem()
    stem.load_state_dict(load_file(path))
    stem.eval()
    return stem


def load_voice_spec(out: Path) -> LogMelSpec:
    """Returns the front-end, with the band statistics, that the stem in ``out`` was trained behind.

    Raises:
        TrainingError: there is no finished stem.
    """
    path = out / "front_end.json"
    if not path.is_file():
        raise TrainingError(f"{path} does not exist; train the voice stem first")
    return LogMelSpec.from_json(json.loads(path.read_text()))


def read_voices(data: Path, cache: Path, *, seed: int = 0) -> VoiceData:
    """Returns the frames of all three corpora, from the cache where there is one.

    Raises:
        DatasetError: a corpus is missing or broken.
    """
    spec = LogMelSpec()
    splits = {
        split: {
            name: cached_frames(data / name, split, cache, spec=spec, variants=variants, seed=seed)
            for name in SPEECH_CORPORA
        }
        for split, variants in (("train", _VARIANTS), ("val", 1))
    }
    mean, std = band_statistics(list(splits["train"].values()))
    return VoiceData(replace(spec, mean=mean, std=std), splits["train"], splits["val"])


def training_batches(voices: VoiceData, left_context: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Yields the batches of one epoch, balanced over corpora and labels.

    A window is right-aligned: what lies before the clip is rows of zeros, as at the start of a
    stream, and masked. Half of the windows begin within their clip but know nothing before it.
    """
    names = list(_SHARES)
    rows = {
        name: [np.flatnonzero(voices.train[name].labels == label) for label in range(len(LABELS))]
        for name in names
    }
    for _ in range(_STEPS):
        length = STRIDE * int(rng.integers(_SHORTEST // STRIDE, _LONGEST // STRIDE + 1))
        frames = np.zeros((_BATCH, left_context + length, voices.spec.bands), np.float32)
        mask = np.zeros((_BATCH, length // STRIDE), np.float32)
        targets = np.full((_BATCH, len(LABELS)), _SMOOTHING / len(LABELS), np.float32)
        for place in range(_BATCH):
            name = names[int(rng.choice(len(names), p=list(_SHARES.values())))]
            label = int(rng.choice([n for n, found in enumerate(rows[name]) if len(found)]))
            clip = _augmented(voices, name, int(rng.choice(rows[name][label])), rng)
            mask[place] = _place_window(clip, frames[place], left_context, rng)
            targets[place, label] += 1 - _SMOOTHING
        batch = (torch.from_numpy(frames), torch.from_numpy(mask), torch.from_numpy(targets))
        yield _mix_up(batch, rng) if rng.random() < _MIXED else batch


def measure(model: torch.nn.Module, voices: VoiceData) -> Metrics:
    """Returns UAR and accuracy of each corpus on its whole, clean ``val`` clips, and the mean UAR."""
    metrics: Metrics = {}
    for name, corpus in voices.val.items():
        predicted = _predicted(model, voices, corpus)
        present = np.unique(corpus.labels)
        recalls = [float((predicted[corpus.labels == label] == label).mean()) for label in present]
        metrics[f"{name}_uar"] = float(np.mean(recalls))
        metrics[f"{name}_accuracy"] = float((predicted == corpus.labels).mean())
    metrics["uar_mean"] = float(np.mean([metrics[f"{name}_uar"] for name in voices.val]))
    return metrics


def _predicted(model: torch.nn.Module, voices: VoiceData, corpus: VoiceFrames) -> NDArray[np.int64]:
    stem = model.stem
    context = int(stem.left_context)
    order = np.argsort(np.diff(corpus.offsets[0])[:, 0], kind="stable")
    predicted = np.zeros(len(order), np.int64)
    for at in range(0, len(order), _BATCH):
        some = order[at : at + _BATCH]
        clips = [voices.normalized(corpus.clip(int(index))) for index in some]
        positions = [max(1, len(clip) // STRIDE) for clip in clips]
        frames = np.zeros((len(some), context + max(positions) * STRIDE, voices.spec.bands), np.float32)
        mask = np.zeros((len(some), max(positions)), np.float32)
        for place, (clip, count) in enumerate(zip(clips, positions, strict=True)):
            kept = clip[-count * STRIDE :]
            frames[place, frames.shape[1] - len(kept) :] = kept
            mask[place, -count:] = 1.0
        logits = model(torch.from_numpy(frames), torch.from_numpy(mask))
        predicted[some] = logits.argmax(dim=1).numpy()
    return predicted


def _augmented(voices: VoiceData, name: str, index: int, rng: np.random.Generator) -> NDArray[np.float32]:
    clip = voices.train[name].clip(index, int(rng.integers(_VARIANTS)))
    if rng.random() < 0.7:
        clip = warp_frames(clip, rng)
    if rng.random() < 0.7:
        clip = tilt_frames(clip, rng, range_db=voices.spec.range_db)
    return mask_frames(voices.normalized(clip), rng)


def _place_window(
    clip: NDArray[np.float32], window: NDArray[np.float32], left_context: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Writes the clip, or a part of it, into ``window`` (left_context + T, bands).

    Returns:
        (T / 8,) mask, 1 where a position has sound.
    """
    length = len(window) - left_context
    end = int(rng.integers(length, len(clip) + 1)) if len(clip) > length else len(clip)
    before = left_context if rng.random() < 0.5 else 0
    kept = clip[max(0, end - length - before) : end]
    window[len(window) - len(kept) :] = kept
    seen = min(len(kept), length)
    return (np.arange(length // STRIDE) * STRIDE + STRIDE > length - seen).astype(np.float32)


def _mix_up(batch: Batch, rng: np.random.Generator) -> Batch:
    """Returns convex pairs of windows and targets (Zhang et al., 2018, arXiv:1710.09412)."""
    frames, mask, targets = batch
    part = float(rng.beta(0.4, 0.4))
    return (
        part * frames + (1 - part) * frames.flip(0),
        torch.maximum(mask, mask.flip(0)),
        part * targets + (1 - part) * targets.flip(0),
    )


def _loss(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    frames, mask, targets = batch
    return -(targets * torch.log_softmax(model(frames, mask), dim=1)).sum(dim=1).mean()


def _taught(teachers: list[torch.nn.Module], batch: Batch) -> Batch:
    """Returns the batch with targets that are mostly the teachers' mean probabilities."""
    if not teachers:
        return batch
    frames, mask, targets = batch
    with torch.no_grad():
        answers = [torch.softmax(teacher(frames, mask), dim=1) for teacher in teachers]
    mean = torch.stack(answers).mean(dim=0)
    return frames, mask, _TAUGHT * mean + (1 - _TAUGHT) * targets


def _with_babble(batch: Batch, spec: LogMelSpec) -> Batch:
    """Returns the batch with one to three other windows of it talking behind some of the windows.

    Powers add up in every band and frame (the cross terms of independent voices cancel on average).
    """
    frames, mask, targets = batch
    mean, std = (torch.tensor(values) for values in (spec.mean, spec.std))
    silent = (frames == 0).all(dim=2, keepdim=True)  # before the clip
    level_db = torch.where(silent, torch.tensor(-spec.range_db), frames * std + mean)
    power = 10 ** (level_db / 10)
    behind = torch.zeros_like(power)
    for shift in range(1, int(torch.randint(1, 4, ())) + 1):
        behind = behind + power.roll(shift, dims=0)
    loudest = torch.quantile(power.mean(dim=2), 0.8, dim=1)
    ratio_db = torch.empty(len(frames)).uniform_(0, 20)
    scale = loudest / torch.quantile(behind.mean(dim=2), 0.8, dim=1).clamp(min=1e-9) * 10 ** (-ratio_db / 10)
    scale = scale * (torch.rand(len(frames)) < _BABBLE)
    mixed_db = 10 * torch.log10(power + scale[:, None, None] * behind)
    mixed = (mixed_db.clamp(-spec.range_db, 0) - mean) / std
    heard = torch.where(silent | (scale == 0)[:, None, None], frames, mixed)
    return heard, mask, targets


def _json(plain: Mapping[str, object]) -> bytes:
    return (json.dumps(plain, indent=1) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
