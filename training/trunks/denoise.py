"""Differential attention in two forms, the learnable delta, and attention with a relation bias.

All of them take sequences h (B, T, d) and a mask (B, T), and add nothing from padding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from edgeemo.training.trunks.sequence import join_heads, padding_bias, split_heads


def change_to_next(value: Tensor, mask: Tensor) -> Tensor:
    """Returns V - shift(V), (B, T, d): each valid position minus its valid successor, 0 where it has none.

    ``shift`` repeats the last valid position at the edge (ours); the code of arXiv 2603.25752 is circular.
    """
    follows = F.pad(mask[:, 1:], (0, 1)) * mask  # (B, T), 1 where this position and the next are valid
    return (value - F.pad(value[:, 1:], (0, 0, 0, 1))) * follows.unsqueeze(-1)


class DifferenceAttention(nn.Module):
    """``lambda (softmax(Q K^T s) - softmax(Q K_prev^T s)) V``, K_prev = K one step later in time (code).

    Without padding and with a circular shift this is ``lambda softmax(Q K^T s) (V - shift(V))``, shift
    taking each position to its successor's value: one softmax, half the cost (ours; tested). lambda is
    learned, one a head, from 1.
    """

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        del depth
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.strength = nn.Parameter(torch.ones(heads, 1, 1))

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        """Returns (B, T, d)."""
        width = h.shape[2]
        query, key, value = self.qkv(h).split(width, dim=-1)
        changes = split_heads(change_to_next(value, mask), self.heads)
        query = split_heads(query, self.heads) * (width // self.heads) ** -0.5
        scores = torch.matmul(query, split_heads(key, self.heads).transpose(-1, -2))
        weights = torch.softmax(scores + padding_bias(mask), dim=-1)
        return join_heads(self.strength * torch.matmul(weights, changes))


class DualAttention(nn.Module):
    """``(A1 - lambda A2) V`` over two groups of queries and keys (arXiv 2410.05258).

    Differential Transformer: ``lambda = exp(lq1.lk1) - exp(lq2.lk2) + lambda_init`` with
    ``lambda_init = 0.8 - 0.6 exp(-0.3 depth)``, depth from 0; each head's output goes through RMSNorm and
    is multiplied by ``1 - lambda_init``.
    """

    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.heads = heads
        self.start = 0.8 - 0.6 * math.exp(-0.3 * depth)
        half = width // heads // 2
        self.qkv = nn.Linear(width, 3 * width)
        self.query_1, self.key_1, self.query_2, self.key_2 = (
            nn.Parameter(0.1 * torch.randn(half)) for _ in range(4)
        )
        self.gain = nn.Parameter(torch.ones(width // heads))

    def strength(self) -> Tensor:
        """Returns lambda, a scalar."""
        first = torch.exp((self.query_1 * self.key_1).sum())
        return first - torch.exp((self.query_2 * self.key_2).sum()) + self.start

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        """Returns (B, T, d)."""
        length, width = h.shape[1], h.shape[2]
        half = width // self.heads // 2
        query, key, value = self.qkv(h).split(width, dim=-1)
        # (B, heads, 2, T, d / heads / 2): the two groups of a head lie side by side in its part of d.
        query = split_heads(query, 2 * self.heads) * half**-0.5
        scores = torch.matmul(query, split_heads(key, 2 * self.heads).transpose(-1, -2))
        weights = torch.softmax(scores + padding_bias(mask), dim=-1)
        weights = weights.reshape(-1, self.heads, 2, length, length)
        difference = weights.select(2, 0) - self.strength() * weights.select(2, 1)
        mixed = torch.matmul(difference, split_heads(value, self.heads))  # (B, heads, T, d / heads)
        norm = torch.rsqrt(mixed.square().mean(dim=-1, keepdim=True) + 1e-5)
        return join_heads(mixed * norm * self.gain * (1 - self.start))


class RelationAttention(nn.Module):
    """Self-attention whose scores carry a learned bias for how two positions are related.

    The relation graph of arXiv 2603.25752 (code) has edges to the same and to the other speaker, in the
    past and in the future, within a window; here they are an additive bias a head (form: ours). Beyond
    the window a position has no edge and no bias, and is still seen.

    Args:
        width: d.
        heads: attention heads.
        length: the most positions.
        reach: how many positions away an edge goes.
    """

    def __init__(self, width: int, heads: int, length: int, reach: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        # Rows: itself; past and future of the same speaker; past and future of others.
        self.relation = nn.Parameter(torch.zeros(heads, 5))
        offset = torch.arange(length)[None, :] - torch.arange(length)[:, None]  # key - query
        past, future = (offset < 0) & (offset >= -reach), (offset > 0) & (offset <= reach)
        self.register_buffer("edges", torch.stack((offset == 0, past, future)).float())  # (3, T, T)

    def bias(self, length: int, speakers: Tensor | None = None) -> Tensor:
        """Returns the relation bias: (heads, T, T), or (B, heads, T, T) with ``speakers`` (B, T)."""
        edges = self.edges[:, :length, :length]
        same = torch.matmul(self.relation[:, :3], edges.reshape(3, -1)).reshape(self.heads, length, length)
        if speakers is None:
            return same
        around = torch.matmul(self.relation[:, 3:], edges[1:].reshape(2, -1))
        other = around.reshape(self.heads, length, length)
        alike = (speakers[:, :, None] == speakers[:, None, :]).to(same.dtype).unsqueeze(1)  # (B, 1, T, T)
        return alike * same + (1 - alike) * other

    def forward(self, h: Tensor, mask: Tensor, speakers: Tensor | None = None) -> Tensor:
        """Returns (B, T, d)."""
        length, width = h.shape[1], h.shape[2]
        query, key, value = self.qkv(h).split(width, dim=-1)
        query = split_heads(query, self.heads) * (width // self.heads) ** -0.5
        scores = torch.matmul(query, split_heads(key, self.heads).transpose(-1, -2))
        weights = torch.softmax(scores + self.bias(length, speakers) + padding_bias(mask), dim=-1)
        return join_heads(torch.matmul(weights, split_heads(value, self.heads)))


class GatedDelta(nn.Module):
    """Blends a sequence with its learnable local change (code of arXiv 2603.25752).

    ``D = x + alpha sigmoid(W_g x) * LN(DWConv_3(x))``; ``g = sigmoid(w2 tanh(W1 LN[x; D]))``;
    ``u = g D + (1 - g) x``. The convolution is depthwise over time and takes padding for zeros.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.taps = nn.Parameter(torch.randn(3, width) * 3**-0.5)
        self.taps_bias = nn.Parameter(torch.zeros(width))
        self.norm_delta = nn.LayerNorm(width)
        self.gate = nn.Linear(width, width)
        self.alpha = nn.Parameter(torch.full((1,), 0.5))
        self.norm_both = nn.LayerNorm(2 * width)
        self.blend_1 = nn.Linear(2 * width, width)
        self.blend_2 = nn.Linear(width, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Returns u (B, T, d) of x (B, T, d)."""
        length = x.shape[1]
        padded = F.pad(x * mask.unsqueeze(-1), (0, 0, 1, 1))
        local = self.taps_bias + sum(self.taps[i] * padded[:, i : i + length] for i in range(3))
        delta = x + self.alpha * torch.sigmoid(self.gate(x)) * self.norm_delta(local)
        both = self.norm_both(torch.cat((x, delta), dim=-1))
        share = torch.sigmoid(self.blend_2(torch.tanh(self.blend_1(both))))  # (B, T, 1)
        return x + share * (delta - x)
