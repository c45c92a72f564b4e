"""A larger voice network that is trained only to teach the stem; it never ships."""

from __future__ import annotations

import torch
from torch import nn

from edgeemo.training.stems.voice import STRIDE, ClipHead, VoiceStem


class VoiceTeacher(nn.Module):
    """A wide stem, a recurrent layer that looks both ways, and attention pooling.

    It may do what a live stem cannot: see the whole window at once, and take the mean of each band
    over the window away first, so that the speaker and the microphone matter less. Without that it hears
    vocal effort in the tilt of the spectrum; a teacher of each kind is better than two of one.

    Args:
        centred: whether the mean of each band is taken away.
        bands: of the front-end.
        classes: labels.
        dropout: in training only.
    """

    def __init__(
        self, *, centred: bool = True, bands: int = 64, classes: int = 7, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.centred = centred
        self.stem = VoiceStem(
            bands=bands, channels=(32, 64, 96), width=160, features=128, dropout=dropout, norm=True
        )
        self.recurrent = nn.GRU(128, 96, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.head = ClipHead(192, classes)

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns logits (B, classes) of frames (B, left_context + 8 n, bands) and mask (B, n)."""
        with torch.autocast("cpu", torch.bfloat16):
            features = self.stem(self._without_mean(frames, mask) if self.centred else frames)
        known = mask[:, :, None]
        hidden, _ = self.recurrent(torch.relu(features.float()) * known)
        logits: torch.Tensor = self.head(self.dropout(hidden), mask)
        return logits

    def _without_mean(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Takes the mean of each band over the frames with sound from those and from their context."""
        sound = mask.repeat_interleave(STRIDE, dim=1)  # (B, 8 n)
        window = frames[:, self.stem.left_context :]
        mean = (window * sound[:, :, None]).sum(dim=1) / sound.sum(dim=1, keepdim=True)  # (B, bands)
        exists = (frames != 0).any(dim=2, keepdim=True)
        return frames - mean[:, None] * exists
