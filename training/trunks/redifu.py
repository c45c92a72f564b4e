"""Relation graph, differential denoising and gated mutual attention (ReDiFu, arXiv 2603.25752).

For modality m with feature sequence x_m (B, T_m, D_m), PE = positions:

    h = PE(Lin_m(x_m))
    noisy m (audio, video):  h = delta(h);  layers of h = h + Out(DiffAttention(LN h)), h = h + MLP(LN h)
    guide m (text):          layers of h = h + Out(RelationAttention(LN h)), h = h + MLP(LN h)
    noisy m:                 h = h sigmoid(W h)                            filter gate (code)
    c_mn = Proj(softmax(Q_m K_n^T / sqrt(d_h)) V_n)                        mutual attention (code)
    G = sigmoid(W [h_m; sum_n c_mn]);  h_m' = h_m + MLP(G h_m + (1 - G) sum_n c_mn)
    logits = sum_m w_m (Head_m p_m + b_m),  p_m = masked mean over time of LN(h_m')

The published name for the fusion is "diffusion attention"; there are no diffusion steps. From the code:
delta, gates, relations on text alone, mutual attention, logits weighted by modality. Ours: the weights
``w_m = exp(s_m)`` are learned; MLPs have 2 layers of ratio 1 (4 in the code, most of its 45.6 M
parameters); LN in front of each part; with no partner ``h_m' = h_m + MLP(h_m)``: neither gate nor
attention is there, so an absent modality has no weight, no bias and no input.

Loss: the harness's cross entropy plus ``sum_m NLL_m^2 / 10`` (code) from `ReDiFuTrunk.extra_losses`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from edgeemo.errors import TrainingError
from edgeemo.training.answer import Answer, centred, cross_entropy
from edgeemo.training.lowrank import LowRankSpec
from edgeemo.training.trunks.crosstemporal import CrossAttention
from edgeemo.training.trunks.denoise import DifferenceAttention, DualAttention, GatedDelta, RelationAttention
from edgeemo.training.trunks.sequence import Positions, masked_mean, padding_bias

DENOISE = ("difference", "dual")
# Every Linear but query, key and value: rank 8 inside branches and fusion, 4 elsewhere.
LOW_RANK = LowRankSpec(
    ranks=(
        (r"^(blocks|cross|fuse)\..*\.(out|fc1|fc2|gate)$", 8),
        (r"^(inputs|delta|filters|heads)\.", 4),
    )
)


class Mlp(nn.Module):
    """Two layers of ratio 1 with GELU."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        """Returns (..., d)."""
        out: Tensor = self.dropout(self.fc2(self.dropout(F.gelu(self.fc1(h)))))
        return out


class Layer(nn.Module):
    """``h = h + Out(attention(LN h)); h = h + MLP(LN h)`` around any of the attentions."""

    def __init__(self, attention: nn.Module, width: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = attention
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = Mlp(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, *context: Tensor | None) -> Tensor:
        """Returns (B, T, d); ``context`` is what the attention takes after the sequence."""
        h = h + self.dropout(self.out(self.attention(self.norm_attention(h), *context)))
        h = h + self.mlp(self.norm_mlp(h))
        return h


class Fusion(nn.Module):
    """``G = sigmoid(W [h; c]); h + MLP(G h + (1 - G) c)`` of one modality, c = what its partners say."""

    def __init__(self, width: int, dropout: float, *, partners: bool) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * width, width) if partners else None
        self.mlp = Mlp(width, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, h: Tensor, said: Tensor | None) -> Tensor:
        """Returns LN(h') (B, T, d); ``said`` (B, T, d) is None where there is no partner."""
        mixed = h
        if said is not None and self.gate is not None:
            gate = torch.sigmoid(self.gate(torch.cat((h, said), dim=-1)))
            mixed = said + gate * (h - said)
        out: Tensor = self.norm(h + self.mlp(mixed))
        return out


class ReDiFuTrunk(nn.Module):
    """Feature sequences of any non-empty subset of modalities in, logits and evidence out.

    Args:
        widths: modality -> D_m, in canonical order.
        lengths: modality -> T_m, the fixed window length in positions.
        classes: number of labels C.
        width: d, divisible by twice the ``heads``.
        heads: of every attention.
        layers: for each modality.
        denoise: ``"difference"`` or ``"dual"``, see `edgeemo.training.trunks.denoise`.
        guides: modalities that are trusted and get relations in place of denoising.
        reach: positions that a relation goes back and ahead.
        dropout: after the input projections, inside the layers and of the mutual attention.
        fusion_dropout: on the pooled vectors.
        per_position: give each position its own label; every modality then has the same length and mask.

    Raises:
        TrainingError: an unknown ``denoise``, or a width that the heads do not divide.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        lengths: Mapping[str, int],
        classes: int,
        *,
        width: int = 128,
        heads: int = 4,
        layers: int = 1,
        denoise: str = "difference",
        guides: Sequence[str] = ("text",),
        reach: int = 10,
        dropout: float = 0.1,
        fusion_dropout: float = 0.2,
        per_position: bool = False,
    ) -> None:
        super().__init__()
        if denoise not in DENOISE:
            raise TrainingError(f"denoise is {denoise!r}; it can be: {', '.join(DENOISE)}")
        if width % (2 * heads):
            raise TrainingError(f"width is {width}; it must be a multiple of twice the {heads} heads")
        self.widths, self.lengths, self.per_position = dict(widths), dict(lengths), per_position
        self.guides = tuple(guides)
        noisy = [m for m in widths if m not in self.guides]
        kind = DifferenceAttention if denoise == "difference" else DualAttention

        def attention(m: str, depth: int) -> nn.Module:
            if m in self.guides:
                return RelationAttention(width, heads, lengths[m], reach)
            return kind(width, heads, depth)

        self.inputs = nn.ModuleDict({m: nn.Linear(size, width) for m, size in widths.items()})
        self.positions = nn.ModuleDict({m: Positions(lengths[m], width) for m in widths})
        self.delta = nn.ModuleDict({m: GatedDelta(width) for m in noisy})
        self.blocks = nn.ModuleDict(
            {
                m: nn.ModuleList(Layer(attention(m, depth), width, dropout) for depth in range(layers))
                for m in widths
            }
        )
        self.filters = nn.ModuleDict({m: nn.Linear(width, width) for m in noisy})
        self.cross = nn.ModuleDict(
            {
                m: nn.ModuleDict({n: CrossAttention(width, heads, dropout) for n in widths if n != m})
                for m in widths
            }
        )
        self.fuse = nn.ModuleDict({m: Fusion(width, dropout, partners=len(widths) > 1) for m in widths})
        self.heads = nn.ModuleDict({m: nn.Linear(width, classes) for m in widths})
        self.importance = nn.ParameterDict({m: nn.Parameter(torch.zeros(1)) for m in widths})
        self.dropout = nn.Dropout(dropout)
        self.fusion_dropout = nn.Dropout(fusion_dropout)

    def forward(
        self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns logits and evidence of the modalities present in ``features``, as `answer` has them."""
        answer = self.answer(features, masks)
        return answer.logits, answer.evidence

    def answer(
        self,
        features: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        speakers: Tensor | None = None,
    ) -> Answer:
        """Returns all that the trunk says about the modalities present in ``features``.

        Args:
            features: modality -> (B, T_m, D_m); padding may hold anything finite.
            masks: modality -> (B, T_m), 1 = valid, at least one valid position in each row.
            speakers: (B, T) numbers of who speaks, for the relations of the guides; a monologue without.
        """
        present = [m for m in self.widths if m in features]
        hidden = {m: self._branch(m, features[m], masks[m], speakers) for m in present}
        biases = {m: padding_bias(masks[m]) for m in present} if len(present) > 1 else {}
        scores: dict[str, Tensor] = {}
        training: dict[str, Tensor] = {}
        for m in present:
            said = [self.cross[m][n](hidden[m], hidden[n], biases[n]) for n in present if n != m]
            h = self.fuse[m](hidden[m], sum(said[1:], said[0]) if said else None)
            pooled = h if self.per_position else masked_mean(h, masks[m])
            own = self.heads[m](self.fusion_dropout(pooled))
            scores[m] = torch.exp(self.importance[m]) * own
            if self.training:
                training[m] = own
        logits = sum((scores[m] for m in present[1:]), scores[present[0]])
        return Answer(logits, {m: centred(score) for m, score in scores.items()}, None, training)

    def extra_losses(
        self, answer: Answer, targets: Tensor, log_prior: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Returns ``sum_m NLL_m^2 / 10`` (code), each modality judged by its unweighted logits.

        Args:
            answer: of `answer` in training mode.
            targets: (B,) or (B, T) labels, negative = none; or shares of each class with a last axis of C.
            log_prior: (C,) or (B, C), added to logits, where given.
        """
        if not answer.training:
            return {}
        each = [cross_entropy(own, targets, log_prior).square() for own in answer.training.values()]
        return {"modalities": torch.stack(each).sum() / 10}

    def _branch(self, m: str, features: Tensor, mask: Tensor, speakers: Tensor | None) -> Tensor:
        """Returns h_m (B, T, d), denoised or related."""
        h: Tensor = self.positions[m](self.dropout(self.inputs[m](features)))
        if m in self.guides:
            for layer in self.blocks[m]:
                h = layer(h, mask, speakers)
            return h
        h = self.delta[m](h, mask)
        for layer in self.blocks[m]:
            h = layer(h, mask)
        return h * torch.sigmoid(self.filters[m](h))
