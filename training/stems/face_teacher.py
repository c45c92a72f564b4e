"""A larger face network that is trained only to teach the stem; it never ships."""

from __future__ import annotations

import torch
from torch import nn

from edgeemo.training.stems.face import CROP_SIZE

_STAGES = ((48, 1), (96, 2), (192, 2))  # channels, residual blocks; each stage halves the size


class FaceTeacher(nn.Module):
    """A residual network (He et al., 2016, arXiv:1512.03385) on a 48x48 crop: 1.9 M parameters.

    Input (B, n, 48, 48) standardised crops, output (B, n, labels) logits, like `FaceClassifier`.
    """

    def __init__(self, labels: int = 7, dropout: float = 0.4) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        before = 1
        for channels, blocks in _STAGES:
            stages.append(_normed(before, channels, stride=2))
            stages += [_Residual(channels) for _ in range(blocks)]
            before = channels
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(dropout)
        # Mouth and eyes are at known places: keep a 3x3 map of them rather than one mean.
        self.head = nn.Linear(before * 9, labels)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Returns (B, n, labels) logits of (B, n, 48, 48) crops."""
        hidden = crops.reshape(-1, 1, CROP_SIZE, CROP_SIZE)
        hidden = self.stages(hidden.contiguous(memory_format=torch.channels_last))  # (B*n, C, 6, 6)
        places = nn.functional.avg_pool2d(hidden, 2).flatten(1)  # (B*n, C * 9)
        logits: torch.Tensor = self.head(self.dropout(places))
        return logits.reshape(-1, crops.shape[1], logits.shape[-1])


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _normed(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(self.first(x)))


def _normed(before: int, after: int, *, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )
