"""Builds the tiny random checkpoint of tests/data/tiny_checkpoint with the real writer.

    python tests/tiny_checkpoint.py [OUT]

Needs torch. Everything is seeded: widths of 8, three toy stems, adapters that are random and not zero.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeemo.training.checkpoints.save import CheckpointInfo, ModalityPart, RangesOf, Windows, save_checkpoint
from edgeemo.training.lowrank import AdaptedTrunk, LowRankSpec
from edgeemo.training.trunks.mculora import MCULoRATrunk

LABELS = ("neutral", "happy", "sad")
WIDTHS = {"audio": 4, "video": 4, "text": 4}
LENGTHS = {"audio": 4, "video": 3, "text": 4}
TRUNK: dict[str, Any] = {"width": 8, "blocks": 1, "heads": 2}
LOW_RANK = LowRankSpec(ranks=((r"\.(out|fc1|fc2)$", 2), (r"^(inputs|fusion|heads)\.", 1)), scale=2.0)
WINDOWS = 256


class TinyVoiceStem(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """(B, 2 + 2 n, 4) -> (B, n, 4): one valid convolution of kernel 4 and stride 2."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 4, kernel_size=4, stride=2)

    def forward(self, frames: Tensor) -> Tensor:
        features: Tensor = torch.relu(self.conv(frames.transpose(1, 2))).transpose(1, 2)
        return features


class TinyFaceStem(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """(B, n, 6, 6) -> (B, n, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, kernel_size=3, stride=3)
        self.out = nn.Linear(8, 4)

    def forward(self, crops: Tensor) -> Tensor:
        items = crops.shape[1]
        maps = torch.relu(self.conv(crops.reshape(-1, 1, 6, 6)))  # (B n, 2, 2, 2)
        features: Tensor = self.out(maps.reshape(-1, items, 8))
        return features


class TinyTextStem(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """(B, 4, 2) int64 ids -> (B, 4, 4): mean of the embeddings of the ids that are not padding."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(16, 4)

    def forward(self, ids: Tensor) -> Tensor:
        known = (ids != 0).float().unsqueeze(-1)  # (B, 4, 2, 1)
        features: Tensor = (self.table(ids) * known).sum(2) / known.sum(2).clamp(min=1.0)
        return features


def tiny_model(seed: int = 0) -> AdaptedTrunk:
    """Returns a random trunk whose adapters are random too, B included."""
    torch.manual_seed(seed)
    model = AdaptedTrunk(MCULoRATrunk(WIDTHS, LENGTHS, len(LABELS), **TRUNK), LOW_RANK)
    with torch.no_grad():
        for parameter in model.pairs.parameters():
            parameter.normal_(std=0.3)
    model.eval()
    return model


def tiny_parts(seed: int = 0) -> list[ModalityPart]:
    """Returns three toy stems with synthetic inputs."""
    torch.manual_seed(seed + 1)
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float32]:
        return rng.normal(size=shape).astype(np.float32)

    ids = rng.integers(0, 16, size=(12, 4, 2))
    return [
        ModalityPart(
            name="audio",
            front_end={"kind": "log_mel"},
            stem=TinyVoiceStem(),
            width=4,
            length=4,
            period_s=0.25,
            window_s=1.0,
            stride=2,
            left_context=2,
            block=4,
            scope="stream",
            item_shape=(4,),
            examples=normal(4, 6, 4),
            calibration=normal(64, 6, 4),
        ),
        ModalityPart(
            name="video",
            front_end={"kind": "face_crop"},
            stem=TinyFaceStem(),
            width=4,
            length=3,
            period_s=0.25,
            window_s=0.75,
            stride=1,
            left_context=0,
            block=1,
            scope="stream",
            item_shape=(6, 6),
            examples=normal(4, 1, 6, 6),
            calibration=normal(64, 1, 6, 6),
        ),
        ModalityPart(
            name="text",
            front_end={"kind": "hashed_words"},
            stem=TinyTextStem(),
            width=4,
            length=4,
            period_s=0.0,
            window_s=10.0,
            stride=1,
            left_context=0,
            block=4,
            scope="window",
            item_shape=(2,),
            examples=ids[:4],
            calibration=ids,
        ),
    ]


def tiny_windows(count: int = WINDOWS, seed: int = 0) -> Windows:
    """Returns random feature windows with 1 to T valid positions each."""
    rng = np.random.default_rng(seed)
    features, masks = {}, {}
    for m, width in WIDTHS.items():
        valid = rng.integers(1, LENGTHS[m] + 1, size=(count, 1))
        masks[m] = (np.arange(LENGTHS[m]) < valid).astype(np.float32)
        features[m] = (rng.normal(size=(count, LENGTHS[m], width)) * masks[m][..., None]).astype(np.float32)
    return Windows(features, masks)


def tiny_info(model: AdaptedTrunk) -> CheckpointInfo:
    """Returns made-up but complete words for the tiny model."""
    prior = [0.5, 0.3, 0.2]
    return CheckpointInfo(
        model_id="tiny",
        family="mculora",
        labels=LABELS,
        hop_s=0.5,
        temperatures={subset: 1.0 + 0.1 * index for index, subset in enumerate(model.subsets)},
        priors=dict.fromkeys(model.subsets, prior),
        trunk=TRUNK,
        data=[{"name": "random numbers", "licence": "none", "use": "none"}],
        licence={"weights": "CC0-1.0", "non_commercial": False, "notice": "random weights for tests"},
    )


def write_tiny_checkpoint(out: Path, *, ranges_of: RangesOf | None = None) -> AdaptedTrunk:
    """Writes the tiny checkpoint and returns the model that it holds."""
    model = tiny_model()
    save_checkpoint(model, out, tiny_parts(), tiny_info(model), tiny_windows(), ranges_of=ranges_of)
    return model


def no_ranges(
    graph: Path, weights: Mapping[str, Any], batches: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Stands for the calibration where a test is not about it."""
    del graph, weights, batches
    return {}


if __name__ == "__main__":
    write_tiny_checkpoint(
        Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data/tiny_checkpoint"
    )
