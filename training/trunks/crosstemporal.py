"""Bi-directional cross-attention over causal convolutions (arXiv 2603.11971, ABAW-10 EXPR).

For modality m with feature sequence x_m (B, T_m, D_m):

    h = Lin_m(x_m);  for dilations 1 2 4 8:  h = Skip(h) + Dropout(GELU(LN(CausalConv_5(h))))
    m' = LN_m(h + sum_n MHA_mn(q=h, k=h_n, v=h_n))         own weights for each direction
    p_m = masked mean over time of m', or m' itself with ``per_position``
    hid_m = GELU(sum_n W_mn LN_n(p_n) + b_m);  logits = sum_m (Head_m hid_m + c_m)

From the paper: frozen encoders, a temporal convolution network over fixed windows, symmetric
cross-attention of audio and video, a light head, text prompts in training only. Its code is not public;
the rest is ours. The temporal network is that of arXiv 1803.01271 with one convolution and LN a block
(LN needs no batch and folds into no weight; it holds at batch 1). Text joins as a third party. The
term of an absent partner is skipped, never fed with zeros. The head is ``Lin(GELU(Lin(LN(z))))`` on
``z = [p_a; p_v; p_t]``, written block by block, LN too, so that an absent modality has no weight.

A convolution is one Linear over the kernel's taps side by side: low-rank pairs then adapt it, and the
exporter merges and quantizes it, like any other Linear.

Time: a branch is causal. Cross-attention looks over the whole window of its partner, so with two or more
modalities a frame's logits also know what came later in the window; the last frame is always now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from edgeemo.errors import TrainingError
from edgeemo.training.answer import Answer, centred, cross_entropy
from edgeemo.training.lowrank import LowRankSpec
from edgeemo.training.trunks.frames import FrameGrids
from edgeemo.training.trunks.sequence import join_heads, masked_mean, padding_bias, split_heads

# Every Linear but query, key and value; the convolutions have most of the weights.
LOW_RANK = LowRankSpec(
    ranks=((r"^blocks\..*\.(conv|skip)$", 8), (r"^cross\..*\.out$", 8), (r"^(inputs|fusion|heads)\.", 4))
)
TEMPERATURE = 0.07  # of the contrastive loss, as CLIP's (arXiv 2103.00020) starts


class TemporalBlock(nn.Module):
    """One dilated convolution with LN, GELU and a residual connection (arXiv 1803.01271).

    Args:
        inputs: channels in.
        outputs: channels out; where they differ, the residual goes through a Linear without bias.
        kernel: taps.
        dilation: positions from one tap to the next.
        causal: look back only; otherwise the taps lie evenly on both sides.
        dropout: of what the convolution adds.
    """

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, dilation: int, causal: bool, dropout: float
    ) -> None:
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        reach = (kernel - 1) * dilation
        self.padding = (reach, 0) if causal else (reach - reach // 2, reach // 2)
        self.conv = nn.Linear(kernel * inputs, outputs)
        self.norm = nn.LayerNorm(outputs)
        self.skip = nn.Identity() if inputs == outputs else nn.Linear(inputs, outputs, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, valid: Tensor) -> Tensor:
        """Returns (B, T, outputs) of h (B, T, inputs); ``valid`` (B, T, 1) hides what padding holds."""
        length = h.shape[1]
        padded = F.pad(h * valid, (0, 0, *self.padding))
        taps = [padded[:, i * self.dilation : i * self.dilation + length] for i in range(self.kernel)]
        added = F.gelu(self.norm(self.conv(torch.cat(taps, dim=-1))))
        return self.skip(h) + self.dropout(added)


class CrossAttention(nn.Module):
    """One modality asks, another answers: multi-head attention with weights of its own."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, asking: Tensor, answering: Tensor, bias: Tensor) -> Tensor:
        """Returns (B, T, d) for asking (B, T, d), answering (B, S, d) and its padding bias (B, 1, 1, S)."""
        width = asking.shape[2]
        both = self.key_value(answering)
        key, value = split_heads(both[..., :width], self.heads), split_heads(both[..., width:], self.heads)
        query = split_heads(self.query(asking), self.heads) * (width // self.heads) ** -0.5
        weights = torch.softmax(torch.matmul(query, key.transpose(-1, -2)) + bias, dim=-1)
        mixed: Tensor = self.dropout(self.out(join_heads(torch.matmul(weights, value))))
        return mixed


class CrossTemporalTrunk(nn.Module):
    """Feature sequences of any non-empty subset of modalities in; logits, evidence and frame logits out.

    Args:
        widths: modality -> D_m, in canonical order.
        lengths: modality -> T_m, the fixed window length in positions.
        classes: number of labels C.
        channels: of the temporal blocks; block i has dilation 2 ** i. The last is the width d of what
            attends, divisible by ``heads``.
        kernel: taps of each convolution.
        causal: False lets the convolutions look ahead, for sequences that are complete.
        heads: of each cross-attention.
        dropout: after the input projections, in the blocks and of the cross-attention.
        fusion_dropout: on what the head is given.
        events: modalities whose positions are events and not points in time, such as words.
        per_position: give each position its own label; every modality then has the same length and mask.
        prompts: (C, E) embeddings of one sentence for each label (paper: "a person feeling {label}"), for
            the contrastive loss; only in training, and never saved.
        contrast: weight of the contrastive loss.
        frame_loss: weight of the cross entropy of the frame logits with the window's label (ours), which
            keeps them on the scale of the logits.

    Raises:
        TrainingError: no channels, a width that the heads do not divide, or prompts for other labels.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        lengths: Mapping[str, int],
        classes: int,
        *,
        channels: Sequence[int] = (256, 256, 128, 128),
        kernel: int = 5,
        causal: bool = True,
        heads: int = 4,
        dropout: float = 0.1,
        fusion_dropout: float = 0.2,
        events: Sequence[str] = ("text",),
        per_position: bool = False,
        prompts: Tensor | None = None,
        contrast: float = 0.2,
        frame_loss: float = 0.1,
    ) -> None:
        super().__init__()
        if not channels or channels[-1] % heads:
            raise TrainingError(
                f"channels are {list(channels)}; the last must be a multiple of heads = {heads}"
            )
        if prompts is not None and prompts.shape[0] != classes:
            raise TrainingError(f"{prompts.shape[0]} prompts were given for {classes} labels")
        self.widths, self.lengths, self.per_position = dict(widths), dict(lengths), per_position
        self.contrast_weight, self.frame_weight = contrast, frame_loss
        width = channels[-1]
        self.inputs = nn.ModuleDict({m: nn.Linear(size, channels[0]) for m, size in widths.items()})
        self.blocks = nn.ModuleDict(
            {
                m: nn.ModuleList(
                    TemporalBlock(
                        channels[max(i - 1, 0)],
                        size,
                        kernel=kernel,
                        dilation=2**i,
                        causal=causal,
                        dropout=dropout,
                    )
                    for i, size in enumerate(channels)
                )
                for m in widths
            }
        )
        self.cross = nn.ModuleDict(
            {
                m: nn.ModuleDict({n: CrossAttention(width, heads, dropout) for n in widths if n != m})
                for m in widths
            }
        )
        self.norms = nn.ModuleDict({m: nn.LayerNorm(width) for m in widths})
        self.fusion_norms = nn.ModuleDict({m: nn.LayerNorm(width) for m in widths})
        self.fusion = nn.ModuleDict(
            {m: nn.ModuleDict({n: nn.Linear(width, width, bias=n == m) for n in widths}) for m in widths}
        )
        self.heads = nn.ModuleDict({m: nn.Linear(width, classes) for m in widths})
        self.dropout = nn.Dropout(dropout)
        self.fusion_dropout = nn.Dropout(fusion_dropout)
        self.frames = FrameGrids(lengths, events=() if per_position else events)
        self.contrast: nn.ModuleDict | None = None
        if prompts is not None:
            self.register_buffer("prompts", F.normalize(prompts.float(), dim=-1), persistent=False)
            self.contrast = nn.ModuleDict({m: nn.Linear(width, prompts.shape[1]) for m in widths})

    training_only = ("contrast",)  # children that checkpoints leave out

    @property
    def temporal(self) -> bool:
        """Whether `answer` gives frame logits besides the window's."""
        return not self.per_position

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
        sequences = self._sequences(features, masks)
        pooled = self._pooled(sequences, masks)
        rows = self.frames(sequences, pooled, masks) if self.temporal else pooled
        dropped = {m: self.fusion_dropout(row) for m, row in rows.items()}
        scores = self._scores(dropped)
        frame_logits = None
        if self.temporal:  # (B, 1 + T, C), the window first
            frame_logits = _sum(scores)[:, 1:]
            scores = {m: score[:, 0] for m, score in scores.items()}
        training: dict[str, Tensor] = {}
        if self.contrast is not None and self.training:
            projected = _sum({m: self.contrast[m](row) for m, row in dropped.items()})
            training["contrast"] = projected[:, 0] if self.temporal else projected
        evidence = {m: centred(score) for m, score in scores.items()}
        return Answer(_sum(scores), evidence, frame_logits, training)

    def extra_losses(
        self, answer: Answer, targets: Tensor, log_prior: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Returns the contrastive loss (paper) and the loss of the frames (ours), weighted.

        ``CE(<normalise(P z), e_c> / 0.07)`` with e_c the normalised embedding of the prompt of label c.

        Args:
            answer: of `answer` in training mode.
            targets: (B,) or (B, T) labels, negative = none; or shares of each class with a last axis of C.
            log_prior: (C,) or (B, C), added to logits, where given.
        """
        losses: dict[str, Tensor] = {}
        if "contrast" in answer.training:
            similarity = F.normalize(answer.training["contrast"], dim=-1) @ self.prompts.T
            losses["contrast"] = self.contrast_weight * cross_entropy(similarity / TEMPERATURE, targets)
        if answer.frame_logits is not None and self.frame_weight > 0:
            frames = answer.frame_logits.shape[1]
            repeated = targets.unsqueeze(1).expand(-1, frames, *targets.shape[1:])
            if log_prior is not None and log_prior.ndim > 1:
                log_prior = log_prior.unsqueeze(-2)  # the same for every frame of a sample
            losses["frames"] = self.frame_weight * cross_entropy(answer.frame_logits, repeated, log_prior)
        return losses

    def _sequences(self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns modality -> m' (B, T_m, d) of the modalities present."""
        present = [m for m in self.widths if m in features]
        hidden: dict[str, Tensor] = {}
        for m in present:
            h = self.dropout(self.inputs[m](features[m]))
            for block in self.blocks[m]:
                h = block(h, masks[m].unsqueeze(-1))
            hidden[m] = h
        if len(present) == 1:
            return {m: self.norms[m](hidden[m]) for m in present}
        biases = {m: padding_bias(masks[m]) for m in present}
        return {
            m: self.norms[m](
                sum((self.cross[m][n](hidden[m], hidden[n], biases[n]) for n in present if n != m), hidden[m])
            )
            for m in present
        }

    def _pooled(self, sequences: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.per_position:
            return dict(sequences)
        return {m: masked_mean(sequence, masks[m]) for m, sequence in sequences.items()}

    def _scores(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns modality -> (..., C), which add up to the logits."""
        normed = {m: self.fusion_norms[m](row) for m, row in rows.items()}
        scores: dict[str, Tensor] = {}
        for m, own in normed.items():
            mixed = sum((self.fusion[m][n](normed[n]) for n in normed if n != m), self.fusion[m][m](own))
            scores[m] = self.heads[m](F.gelu(mixed))
        return scores


def _sum(terms: Mapping[str, Tensor]) -> Tensor:
    first, *others = terms.values()
    return sum(others, first)
