"""What every trunk needs of padded sequences: positions, means over what is valid, attention to it alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# Added to the attention scores of padding. Large enough to leave nothing of them in float32 and
# small enough for float16, whose largest number is 65504.
PADDING_BIAS = -1e4


def sinusoids(length: int, width: int) -> Tensor:
    """Returns fixed sine and cosine positions, (length, width), as in "Attention is all you need"."""
    steps = torch.arange(length, dtype=torch.float32)[:, None]
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(1e4) / width))
    table = torch.zeros(length, width)
    table[:, 0::2] = torch.sin(steps * rates)
    table[:, 1::2] = torch.cos(steps * rates[: width // 2])
    return table


class Positions(nn.Module):
    """Adds fixed sinusoidal positions; the table is a buffer and is saved with the weights."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("table", sinusoids(length, width))

    def forward(self, h: Tensor) -> Tensor:
        """Returns h (B, T, d) plus the first T rows of the table (length, d)."""
        table: Tensor = self.table
        return h + (table if h.shape[1] == table.shape[0] else table[: h.shape[1]])


def padding_bias(mask: Tensor) -> Tensor:
    """Returns what to add to attention scores, (B, 1, 1, T): 0 for valid keys, `PADDING_BIAS` for padding."""
    return ((1.0 - mask) * PADDING_BIAS).unsqueeze(1).unsqueeze(1)


def valid_weights(mask: Tensor) -> Tensor:
    """Returns (B, 1, T): equal shares of the valid positions, 0 for padding, that sum to 1."""
    return (mask / mask.sum(dim=1, keepdim=True).clamp(min=1.0)).unsqueeze(1)


def masked_mean(h: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean over the valid positions, (B, d), of h (B, T, d) with mask (B, T)."""
    return torch.matmul(valid_weights(mask), h).squeeze(1)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Returns (B, heads, T, d / heads) of x (B, T, d)."""
    length, width = x.shape[1], x.shape[2]
    return x.reshape(-1, length, heads, width // heads).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """Returns (B, T, d) of x (B, heads, T, d / heads)."""
    heads, length, width = x.shape[1], x.shape[2], x.shape[3]
    return x.transpose(1, 2).contiguous().view(-1, length, heads * width)
