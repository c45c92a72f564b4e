"""The voice stem: log-mel frames to ten features a second, block by block or all at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn

STRIDE = 8  # frames in one feature
_DILATIONS = (1, 2, 3)


class _Unit(nn.Module):
    """A convolution, its normalisation (identity once folded) and a ReLU."""

    def __init__(self, conv: nn.Conv2d, *, norm: bool) -> None:
        super().__init__()
        self.conv = conv
        self.norm: nn.Module = nn.BatchNorm2d(conv.out_channels) if norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x)))


class VoiceStem(nn.Module):
    """Strided 2-D convolutions over time and bands, then dilated ones over time.

    No convolution is padded in time, so feature k depends on `left_context + STRIDE` frames alone
    and blocks of any multiple of `STRIDE` frames, each with its left context, give the features of
    the whole stream. Before the first frame of a stream lie `left_context` rows of zeros.
    """

    def __init__(
        self,
        *,
        bands: int = 64,
        channels: Sequence[int] = (24, 48, 64),
        width: int = 128,
        features: int = 64,
        dropout: float = 0.0,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.bands = bands
        inputs = (1, *channels[:-1])
        sizes = (5, 3, 3)
        self.local = nn.ModuleList(
            _Unit(nn.Conv2d(before, after, size, stride=2, padding=(0, size // 2), bias=not norm), norm=norm)
            for before, after, size in zip(inputs, channels, sizes, strict=True)
        )
        self.gather = _Unit(nn.Conv2d(channels[-1], width, (1, bands // 8), bias=not norm), norm=norm)
        self.temporal = nn.ModuleList(
            _Unit(nn.Conv2d(width, width, (3, 1), dilation=(d, 1), bias=not norm), norm=norm)
            for d in _DILATIONS
        )
        self.project = nn.Conv2d(width, features, 1)
        self.dropout = nn.Dropout(dropout)

    @property
    def left_context(self) -> int:
        """Frames before a block that its first feature needs."""
        reach, step = 1, 1
        for unit in self.local:
            reach += (cast(_Unit, unit).conv.kernel_size[0] - 1) * step
            step *= 2
        return reach + 2 * sum(_DILATIONS) * step - STRIDE

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Returns (B, n, features) from (B, left_context + n * STRIDE, bands)."""
        x = frames.unsqueeze(1)  # (B, 1, T, bands)
        for unit in self.local:
            x = unit(x)
        x = self.dropout(self.gather(x))  # (B, width, T / 8, 1)
        for unit, dilation in zip(self.temporal, _DILATIONS, strict=True):
            x = x[:, :, 2 * dilation :] + self.dropout(unit(x))
        out: torch.Tensor = self.project(x).squeeze(3).transpose(1, 2)
        return out

    @torch.no_grad()
    def folded(self) -> VoiceStem:
        """Returns the same function in eval mode with every BatchNorm folded into its convolution."""
        channels = [cast(_Unit, unit).conv.out_channels for unit in self.local]
        plain = VoiceStem(
            bands=self.bands,
            channels=channels,
            width=self.project.in_channels,
            features=self.project.out_channels,
        )
        for ours, theirs in zip(self._units(), plain._units(), strict=True):
            weight, bias = _folded_weights(ours)
            theirs.conv.weight.copy_(weight)
            cast(torch.Tensor, theirs.conv.bias).copy_(bias)
        plain.project.load_state_dict(self.project.state_dict())
        plain.eval()
        return plain

    def _units(self) -> list[_Unit]:
        return [cast(_Unit, unit) for unit in (*self.local, self.gather, *self.temporal)]


class ClipHead(nn.Module):
    """Attention pooling over the features of a clip and a linear classifier; thrown away after training."""

    def __init__(self, features: int, classes: int, *, heads: int = 4, dropout: float = 0.3) -> None:
        super().__init__()
        self.attend = nn.Linear(features, heads)
        self.classify = nn.Linear(features * heads, classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns logits (B, classes) from (B, n, features) and mask (B, n), 1 where there was sound."""
        features = torch.relu(features)
        scores = self.attend(features).masked_fill(mask[:, :, None] == 0, -1e4)  # (B, n, heads)
        pooled = torch.einsum("bnh,bnd->bhd", scores.softmax(dim=1), features).flatten(1)
        logits: torch.Tensor = self.classify(self.dropout(pooled))
        return logits


def _folded_weights(unit: _Unit) -> tuple[torch.Tensor, torch.Tensor]:
    conv = unit.conv
    bias = conv.bias if conv.bias is not None else torch.zeros(conv.out_channels)
    if isinstance(unit.norm, nn.Identity):
        return conv.weight, bias
    norm = cast(Any, unit.norm)
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return conv.weight * scale[:, None, None, None], norm.bias + (bias - norm.running_mean) * scale
