"""Trains the face stem on the crowd votes of FER+, and on what a larger network makes of each crop."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch.nn import functional

from edgeemo.datasets.faces import FaceImages, read_ferplus
from edgeemo.datasets.labels import LABELS
from edgeemo.errors import TrainingError
from edgeemo.features.face import normalize_face
from edgeemo.training.augment.face import augment_faces
from edgeemo.training.live.split import trunk_rows
from edgeemo.training.loop import LoopConfig, Metrics, fit
from edgeemo.training.stems.face import FaceClassifier, FaceStem, TrainableFaceStem
from edgeemo.training.stems.face_teacher import FaceTeacher

BATCH = 128
EVALUATION_BATCH = 256

_COPIES = 6  # augmented versions of each face that the teachers are asked about, once; each is also mirrored
_TAUGHT = 0.7  # share of the teachers in a target; the rest are the crowd's votes

# Epochs of each: a stem of its own, and a residual network of 1.9 M parameters. Neither is better than
# the other by much; their mean over a crop and its mirror image is better than both.
TEACHERS = {"plain": 60, "residual": 18}

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # crops, targets, weights
Batches = Callable[[np.random.Generator], Iterator[Batch]]
Progress = Callable[[int, int, Metrics], None]


@dataclass(frozen=True)
class TaughtFaces:
    """Augmented faces with the answers of the teachers.

    Attributes:
        images: (copies, N, 48, 48) uint8.
        soft: (copies, N, 7) mean probabilities, the same for the mirrored image.
    """

    images: NDArray[np.uint8]
    soft: NDArray[np.float32]


def fit_face(
    data: Path,
    out: Path,
    *,
    epochs: int = 44,
    teachers: Mapping[str, int] = TEACHERS,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Trains the teachers, then the face stem, or goes on where a killed run stopped.

    Rows of the train split that belong to the trunk (`trunk_rows`) are never seen. Faces
    that most voters gave to none of the seven labels count for as much as their votes for the seven.
    The stem learns from the votes and from the teachers' answer to the very crop that it sees (Hinton
    et al., 2015, arXiv:1503.02531; Beyer et al., 2022, arXiv:2106.05237: same crop, many epochs).

    Args:
        data: the folder that holds ``ferplus/``.
        out: gets ``stem.safetensors`` (`FaceStem`, fp32), ``metrics.json`` and the state of the run;
            the teachers' lie in ``out/teacher.<name>``.
        epochs: passes over the train rows by the stem.
        teachers: passes by each network to learn from, see `TEACHERS`; none trains on the votes alone.
        seed: of weights, order and augmentation.
        progress: called after each epoch with (epochs done, epochs, metrics), the teachers' included.

    Returns:
        Figures on FER+ val; see `measure_faces`. The kept epoch is the best on val, which flatters
        it by a few tenths of a percent.

    Raises:
        DatasetError: no readable FER+ under `data`.
        TrainingError: too few faces, or `out` holds a run with other settings.
    """
    train = _train_rows(read_ferplus(data / "ferplus", "train"))
    if len(train) < BATCH:
        raise TrainingError(
            f"{data / 'ferplus'} leaves {len(train)} faces to train on; at least {BATCH} are needed"
        )
    val = read_ferplus(data / "ferplus", "val")
    total = sum(teachers.values()) + epochs

    def fit_network(model: torch.nn.Module, folder: Path, *, count: int, done: int, batches: Batches) -> None:
        fit(
            model,
            LoopConfig(
                epochs=count,
                steps_per_epoch=len(train) // BATCH,
                learning_rate=3e-3,
                select="accuracy",
                weight_decay=0.05,
                warmup=0.1,
                ema_decay=0.998,
                seed=seed,
            ),
            batches=lambda _, rng: batches(rng),
            loss=_loss,
            evaluate=lambda network: measure_faces(network, val),
            out=folder,
            progress=lambda at, _, metrics: progress(done + at, total, metrics) if progress else None,
        )

    taught_by: list[torch.nn.Module] = []
    done = 0
    for name, count in teachers.items():
        torch.manual_seed(seed)
        teacher = new_teacher(name).to(memory_format=torch.channels_last)
        fit_network(
            teacher,
            out / f"teacher.{name}",
            count=count,
            done=done,
            batches=lambda rng: _batches(train, rng),
        )
        taught_by.append(teacher)
        done += count
    taught = _taught(taught_by, train, np.random.default_rng([seed, 17])) if teachers else None
    torch.manual_seed(seed)
    model = FaceClassifier(TrainableFaceStem(0.0 if teachers else 0.2)).to(memory_format=torch.channels_last)
    fit_network(
        model,
        out,
        count=epochs,
        done=done,
        batches=lambda rng: _taught_batches(train, taught, rng) if taught else _batches(train, rng),
    )
    deployed = FaceClassifier(model.stem.fold()).eval()
    deployed.head.load_state_dict(model.head.state_dict())
    metrics = measure_faces(deployed, val)
    save_file(
        {name: t.contiguous() for name, t in deployed.stem.state_dict().items()}, out / "stem.safetensors"
    )
    temporary = out / "metrics.tmp"
    temporary.write_text(json.dumps(metrics, indent=1) + "\n")
    os.replace(temporary, out / "metrics.json")
    return metrics


def new_teacher(name: str) -> torch.nn.Module:
    """Returns a fresh teacher of one of the kinds of `TEACHERS`."""
    return FaceClassifier(TrainableFaceStem()) if name == "plain" else FaceTeacher()


def load_face_stem(out: Path) -> FaceStem:
    """Returns the trained stem that `fit_face` left in `out`, in eval mode.

    Raises:
        TrainingError: there is none yet.
    """
    stem = FaceStem()
    stem.load_state_dict(_read(out / "stem.safetensors"))
    stem.eval()
    return stem


def face_logits(classifier: torch.nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns (N, 7) logits of (N, 48, 48) grey crops, under the label prior of FER+."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(images), EVALUATION_BATCH):
            crops = torch.from_numpy(normalize_face(images[start : start + EVALUATION_BATCH]))
            parts.append(classifier(crops[:, None])[:, 0].float().numpy())
    return np.concatenate(parts).astype(np.float32)


def measure_faces(classifier: torch.nn.Module, faces: FaceImages) -> Metrics:
    """Returns accuracy, UAR and the recall of each label over the faces with a majority label.

    `uar_balanced` and `recall_balanced.*` are taken after dividing the softmax by the label prior
    (the mean soft label of `faces` themselves), as a balanced decision would. Fear and disgust have
    57 and 21 faces in FER+ val: their recalls carry errors of 6 and 11 points.
    """
    logits = face_logits(classifier, faces.images)
    counted = faces.label >= 0
    prior = faces.soft.sum(axis=0) / max(float(faces.soft.sum()), 1.0)
    truth, plain = faces.label[counted], logits[counted]
    metrics = {"accuracy": float((plain.argmax(axis=1) == truth).mean()), "faces": float(len(truth))}
    for suffix, scores in (("", plain), ("_balanced", plain - np.log(np.maximum(prior, 1e-6)))):
        guess = scores.argmax(axis=1)
        recalls = {
            f"recall{suffix}.{name}": float((guess[truth == index] == index).mean())
            for index, name in enumerate(LABELS)
            if bool((truth == index).any())
        }
        metrics[f"uar{suffix}"] = float(np.mean(list(recalls.values())))
        metrics.update(recalls)
    return metrics


def _train_rows(faces: FaceImages) -> FaceImages:
    kept = ~trunk_rows(len(faces)) & (faces.share > 0)
    return FaceImages(faces.images[kept], faces.soft[kept], faces.share[kept], faces.label[kept])


def _batches(train: FaceImages, rng: np.random.Generator) -> Iterator[Batch]:
    for rows in _shuffled(len(train), rng):
        crops = normalize_face(augment_faces(train.images[rows], rng))
        yield torch.from_numpy(crops), torch.from_numpy(train.soft[rows]), torch.from_numpy(train.share[rows])


def _taught_batches(train: FaceImages, taught: TaughtFaces, rng: np.random.Generator) -> Iterator[Batch]:
    for rows in _shuffled(len(train), rng):
        copy = rng.integers(len(taught.images), size=len(rows))
        images = taught.images[copy, rows]
        mirrored = rng.random(len(rows)) < 0.5
        images[mirrored] = images[mirrored, :, ::-1]
        crops = normalize_face(images)
        targets = _TAUGHT * taught.soft[copy, rows] + (1 - _TAUGHT) * train.soft[rows]
        yield torch.from_numpy(crops), torch.from_numpy(targets), torch.from_numpy(train.share[rows])


def _shuffled(count: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    order = rng.permutation(count)
    for start in range(0, count - BATCH + 1, BATCH):
        yield order[start : start + BATCH]


def _taught(teachers: Sequence[torch.nn.Module], train: FaceImages, rng: np.random.Generator) -> TaughtFaces:
    """Returns augmented copies of all train faces with the teachers' probabilities for each of them."""
    count = len(train)
    images = np.empty((_COPIES, count, *train.images.shape[1:]), np.uint8)
    soft = np.zeros((_COPIES, count, train.soft.shape[1]), np.float32)
    for copy in range(_COPIES):
        for start in range(0, count, EVALUATION_BATCH):
            some = slice(start, start + EVALUATION_BATCH)
            images[copy, some] = augment_faces(train.images[some], rng)
            crops = torch.from_numpy(normalize_face(images[copy, some]))[:, None]
            views = torch.cat((crops, crops.flip(3)))
            for teacher in teachers:
                with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                    logits = teacher(views)[:, 0]
                both = torch.softmax(logits.float(), dim=1).numpy().reshape(2, -1, soft.shape[2])
                soft[copy, some] += both.mean(axis=0) / len(teachers)
    return TaughtFaces(images, soft)


def _loss(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Cross entropy against soft labels; bfloat16 doubles the speed where the processor has it."""
    crops, soft, share = batch
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(crops[:, None])[:, 0]
    each = functional.cross_entropy(logits.float(), soft, reduction="none")
    return (each * share).sum() / share.sum()


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise TrainingError(f"{path} does not exist; train the face stem first")
    weights: dict[str, torch.Tensor] = load_file(path)
    return weights
