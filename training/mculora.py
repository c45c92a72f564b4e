"""The MCULoRA trunk: temporal modelling of each modality and block-wise fusion (arXiv 2507.11202).

For modality m with feature sequence x_m (B, T_m, D_m):

    h = Dropout(Lin_m(x_m)) + positions                 positions: ours, fixed sinusoids
    A = SelfAttention(LN(h));  f = A + MLP(LN(A));  h = h + f       LN: ours, the rest as published
    p_m = masked mean over time of LN(h)                               ours, one label a window
    hid_m = ReLU(sum_n W_mn p_n + b_m) + p_m
    logits = sum_m (Head_m hid_m + c_m)

The fusion is the published ``ReLU(proj1(z)) + z`` and ``head`` on ``z = [p_a; p_v; p_t]``, written block
by block, so that a modality that is absent has no weight, no bias and no input: the rows and columns
that it would have fed do not exist in the sub-network of the subset.

Evidence of modality m is ``Head_m hid_m + c_m`` minus its mean over the classes, so the evidence of
all present modalities adds up to the logits minus their mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from edgeemo.training.lowrank import LowRankSpec, Parts

# Every Linear but Q, K, V: rank 8 inside the blocks, 4 elsewhere.
LOW_RANK = LowRankSpec(ranks=((r"\.(out|fc1|fc2)$", 8), (r"^(inputs|fusion|heads)\.", 4)))

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


class Block(nn.Module):
    """Self-attention and an MLP of ratio 1 over one modality: ``h + A + MLP(LN(A))``."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, bias: Tensor) -> Tensor:
        """Returns the next hidden sequence.

        Args:
            h: (B, T, d).
            bias: (B, 1, 1, T), 0 for valid positions and `PADDING_BIAS` for padding.
        """
        length, width = h.shape[1], h.shape[2]
        qkv = self.qkv(self.norm_attention(h)).reshape(-1, length, 3, self.heads, width // self.heads)
        qkv = qkv.permute(2, 0, 3, 1, 4)  # (3, B, heads, T, d / heads)
        query, key, value = qkv.select(0, 0), qkv.select(0, 1), qkv.select(0, 2)
        scale = (width // self.heads) ** -0.5
        weights = torch.softmax(torch.matmul(query * scale, key.transpose(-1, -2)) + bias, dim=-1)
        mixed = torch.matmul(weights, value).transpose(1, 2).contiguous().view(-1, length, width)  # (B, T, d)
        attended = self.dropout(self.out(mixed))
        hidden = self.dropout(F.gelu(self.fc1(self.norm_mlp(attended))))
        return h + attended + self.dropout(self.fc2(hidden))


class MCULoRATrunk(nn.Module):
    """Feature sequences of any non-empty subset of modalities in, logits and evidence out.

    Args:
        widths: modality -> D_m, in canonical order.
        lengths: modality -> T_m, the fixed window length in positions.
        classes: number of labels C.
        width: d, even and divisible by ``heads``.
        blocks: attention blocks for each modality.
        heads: attention heads.
        dropout: after the input projections and inside the blocks.
        fusion_dropout: on the pooled vectors; label-matched training pairs are easy, so it is strong.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        lengths: Mapping[str, int],
        classes: int,
        *,
        width: int = 96,
        blocks: int = 2,
        heads: int = 2,
        dropout: float = 0.1,
        fusion_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.widths = dict(widths)
        self.lengths = dict(lengths)
        self.inputs = nn.ModuleDict({m: nn.Linear(size, width) for m, size in widths.items()})
        self.positions = nn.ModuleDict({m: Positions(lengths[m], width) for m in widths})
        self.blocks = nn.ModuleDict(
            {m: nn.ModuleList(Block(width, heads, dropout) for _ in range(blocks)) for m in widths}
        )
        self.norms = nn.ModuleDict({m: nn.LayerNorm(width) for m in widths})
        self.fusion = nn.ModuleDict(
            {m: nn.ModuleDict({n: nn.Linear(width, width, bias=n == m) for n in widths}) for m in widths}
        )
        self.heads = nn.ModuleDict({m: nn.Linear(width, classes) for m in widths})
        self.dropout = nn.Dropout(dropout)
        self.fusion_dropout = nn.Dropout(fusion_dropout)

    def forward(
        self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns logits and evidence of the modalities present in ``features``.

        Args:
            features: modality -> (B, T_m, D_m); padding may hold anything finite.
            masks: modality -> (B, T_m), 1 = valid, at least one valid position in each row.

        Returns:
            logits (B, C), free of any prior; modality -> evidence (B, C), centred over the classes.
        """
        present = [m for m in self.widths if m in features]
        pooled = {m: self.fusion_dropout(self._pooled(m, features[m], masks[m])) for m in present}
        scores: dict[str, Tensor] = {}
        for m in present:
            mixed = sum(
                (self.fusion[m][n](pooled[n]) for n in present if n != m), self.fusion[m][m](pooled[m])
            )
            scores[m] = self.heads[m](F.relu(mixed) + pooled[m])  # (B, C)
        logits = sum((scores[m] for m in present[1:]), scores[present[0]])
        evidence = {m: score - score.mean(dim=-1, keepdim=True) for m, score in scores.items()}
        return logits, evidence

    def _pooled(self, m: str, features: Tensor, mask: Tensor) -> Tensor:
        """Returns p_m, (B, d)."""
        bias = ((1.0 - mask) * PADDING_BIAS).unsqueeze(1).unsqueeze(1)  # (B, 1, 1, T)
        h = self.positions[m](self.dropout(self.inputs[m](features)))  # (B, T, d)
        for block in self.blocks[m]:
            h = block(h, bias)
        weights = mask / mask.sum(dim=1, keepdim=True).clamp(min=1.0)
        return torch.matmul(weights.unsqueeze(1), self.norms[m](h)).squeeze(1)


class Positions(nn.Module):
    """Adds fixed sinusoidal positions; the table is a buffer and is saved with the weights."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("table", sinusoids(length, width))

    def forward(self, h: Tensor) -> Tensor:
        """Returns h (B, T, d) plus the table (T, d)."""
        return h + self.table


def orthogonality_loss(parts: Mapping[str, Parts], masks: Mapping[str, Tensor]) -> Tensor:
    """Returns how much the common and the specific pairs of one subset say the same.

    ``mean over m and blocks of || R_mk^T R_m,common ||_F^2 / B^2`` with R (B, d) the masked mean over
    time of what a pair adds in the last MLP layer of a block (the paper's figure; the form is ours).

    Args:
        parts: recorded by `AdaptedTrunk.forward`.
        masks: modality -> (B, T_m) of the same call.
    """
    terms: list[Tensor] = []
    for name, part in parts.items():
        if not name.endswith(".fc2"):
            continue
        mask = masks[name.split(".")[1]]
        weights = (mask / mask.sum(dim=1, keepdim=True).clamp(min=1.0))[:, None, :]  # (B, 1, T)
        common = torch.matmul(weights, part.common)[:, 0]  # (B, d)
        specific = torch.matmul(weights, part.specific)[:, 0]
        terms.append((specific.T @ common).square().sum() / mask.shape[0] ** 2)
    return torch.stack(terms).mean()
