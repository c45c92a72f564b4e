"""The MCULoRA trunk: temporal modelling of each modality and block-wise fusion (arXiv 2507.11202).

For modality m with feature sequence x_m (B, T_m, D_m):

    h = Dropout(Lin_m(x_m)) + positions                 positions: ours, fixed sinusoids
    A = SelfAttention(LN(h));  f = A + MLP(LN(A));  h = h + f       LN: ours, the rest as published
    p_m = masked mean over time of LN(h)                               ours, one label a window
    p_m = LN(h) where each position gets a label (``per_position``)    as published, for utterances
    hid_m = ReLU(sum_n W_mn p_n + b_m) + p_m
    logits = sum_m (Head_m hid_m + c_m)

The fusion is the published ``ReLU(proj1(z)) + z`` and ``head`` on ``z = [p_a; p_v; p_t]``, written block
by block, so that a modality that is absent has no weight, no bias and no input: the rows and columns
that it would have fed do not exist in the sub-network of the subset.

Evidence of modality m is ``Head_m hid_m + c_m`` minus its mean over the classes, so the evidence of
all present modalities adds up to the logits minus their mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from edgeemo.training.answer import Answer, centred
from edgeemo.training.lowrank import LowRankSpec
from edgeemo.training.trunks.sequence import Positions, padding_bias, valid_weights

# Every Linear but Q, K, V: rank 8 inside the blocks, 4 elsewhere.
LOW_RANK = LowRankSpec(ranks=((r"\.(out|fc1|fc2)$", 8), (r"^(inputs|fusion|heads)\.", 4)))


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
            bias: (B, 1, 1, T), 0 for valid positions and a large negative number for padding.
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
        per_position: give each position its own label instead of pooling over time; every modality then
            has the same length and the same mask.
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
        per_position: bool = False,
    ) -> None:
        super().__init__()
        self.per_position = per_position
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
        """Returns logits and evidence of the modalities present in ``features``, as `answer` has them."""
        answer = self.answer(features, masks)
        return answer.logits, answer.evidence

    def answer(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Answer:
        """Returns all that the trunk says about the modalities present in ``features``.

        Args:
            features: modality -> (B, T_m, D_m); padding may hold anything finite.
            masks: modality -> (B, T_m), 1 = valid, at least one valid position in each row.
        """
        present = [m for m in self.widths if m in features]
        pooled = {m: self.fusion_dropout(self._pooled(m, features[m], masks[m])) for m in present}
        scores: dict[str, Tensor] = {}
        for m in present:
            mixed = sum(
                (self.fusion[m][n](pooled[n]) for n in present if n != m), self.fusion[m][m](pooled[m])
            )
            scores[m] = self.heads[m](F.relu(mixed) + pooled[m])  # (B, C) or (B, T, C)
        logits = sum((scores[m] for m in present[1:]), scores[present[0]])
        return Answer(logits, {m: centred(score) for m, score in scores.items()}, None, {})

    def extra_losses(
        self, answer: Answer, targets: Tensor, log_prior: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Returns the loss terms that are this family's own: none."""
        del answer, targets, log_prior
        return {}

    def _pooled(self, m: str, features: Tensor, mask: Tensor) -> Tensor:
        """Returns p_m, (B, d), or (B, T, d) with ``per_position``."""
        bias = padding_bias(mask)
        h = self.positions[m](self.dropout(self.inputs[m](features)))  # (B, T, d)
        for block in self.blocks[m]:
            h = block(h, bias)
        if self.per_position:
            return self.norms[m](h)
        weights = valid_weights(mask)
        return torch.matmul(weights, self.norms[m](h)).squeeze(1)
