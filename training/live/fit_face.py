"""Trains the face stem on the crowd votes of FER+."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
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

BATCH = 128
EVALUATION_BATCH = 256


def fit_face(
    data: Path,
    out: Path,
    *,
    epochs: int = 60,
    seed: int = 0,
    progress: Callable[[int, int, Metrics], None] | None = None,
) -> dict[str, float]:
    """Trains the face stem, or goes on where a killed run stopped, and writes what it learned.

    Rows of the train split that belong to the trunk (`trunk_rows`) are never seen. Faces that most
    voters gave to none of the seven labels count for as much as their votes for the seven.

    Args:
        data: the folder that holds ``ferplus/``.
        out: gets ``stem.safetensors`` (`FaceStem`, fp32), ``metrics.json`` and the state of the run.
        epochs: passes over the train rows.
        seed: of weights, order and augmentation.
        progress: called after each epoch with (epochs done, epochs, metrics).

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
    torch.manual_seed(seed)
    val = read_ferplus(data / "ferplus", "val")
    model = FaceClassifier(TrainableFaceStem()).to(memory_format=torch.channels_last)
    config = LoopConfig(
        epochs=epochs,
        steps_per_epoch=len(train) // BATCH,
        learning_rate=3e-3,
        select="accuracy",
        weight_decay=0.05,
        warmup=0.1,
        ema_decay=0.998,
        seed=seed,
    )
    fit(
        model,
        config,
        batches=lambda _, rng: _batches(train, rng),
        loss=_loss,
        evaluate=lambda network: measure_faces(network, val),
        out=out,
        progress=progress,
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


def _batches(
    train: FaceImages, rng: np.random.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    order = rng.permutation(len(train))
    for start in range(0, len(train) - BATCH + 1, BATCH):
        rows = order[start : start + BATCH]
        crops = normalize_face(augment_faces(train.images[rows], rng))
        yield torch.from_numpy(crops), torch.from_numpy(train.soft[rows]), torch.from_numpy(train.share[rows])


def _loss(model: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Cross entropy against the votes; bfloat16 doubles the speed where the processor has it."""
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
