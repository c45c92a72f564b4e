"""Networks that are none of ours: how others write gates, low-rank layers and missing modalities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from live_like import LABELS, MODALITIES, TEXT_SPEC
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeemo.training import CheckpointInfo, LowRank, ModalityPart, Windows

WIDTH = 4  # of the features
HIDDEN = 6
RANK = 2
SCALE = 1.5
SUBSETS = ("audio", "text", "audio+text")
PARTS = tuple(spec for spec in MODALITIES if spec.name in ("audio", "text"))


class ThinLayer(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A low-rank layer of somebody's own: one pair for all, one for each subset, A stored as (in, r)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.core = nn.Linear(inputs, outputs)
        self.down = nn.ParameterDict({k: torch.randn(inputs, RANK) for k in (*SUBSETS, "all")})
        self.up = nn.ParameterDict({k: torch.randn(outputs, RANK) for k in (*SUBSETS, "all")})

    def forward(self, x: Tensor, subset: str) -> Tensor:
        """Takes the subset beside x, as no Linear does."""
        y: Tensor = self.core(x)
        for key in ("all", subset):
            y = y + SCALE * (x @ self.down[key]) @ self.up[key].T
        return y


class Gated(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """The largest feature of each modality, gated by a softmax over those that are there."""

    def __init__(self, *, thin: bool = False) -> None:
        super().__init__()
        self.enter = nn.ModuleDict({m: nn.Linear(WIDTH, HIDDEN) for m in ("audio", "text")})
        self.gate = nn.Linear(HIDDEN, 1)
        self.fuse = ThinLayer(HIDDEN, HIDDEN) if thin else nn.Linear(HIDDEN, HIDDEN)
        self.out = nn.Linear(HIDDEN, len(LABELS))
        self.unused = nn.Linear(3, 3)  # such as a head of a task that only training had
        self.register_buffer("order", torch.arange(HIDDEN).flip(0))

    def forward(self, features: dict[str, Tensor], masks: dict[str, Tensor]) -> Tensor:
        pooled = []
        for m, x in features.items():
            h = torch.relu(self.enter[m](x)) * masks[m].unsqueeze(-1)  # (B, T, HIDDEN)
            pooled.append(h.amax(dim=1))
        stack = torch.stack(pooled, dim=1)  # (B, modalities, HIDDEN)
        mixed = (stack * torch.softmax(self.gate(stack), dim=1)).sum(dim=1)[:, self.order]
        hidden = (
            self.fuse(mixed, "+".join(features)) if isinstance(self.fuse, ThinLayer) else self.fuse(mixed)
        )
        logits: Tensor = self.out(torch.tanh(hidden))
        return logits


THIN = [
    LowRank(
        "fuse", a=f"fuse.down.{key}", b=f"fuse.up.{key}", scale=SCALE, subset=None if key == "all" else key
    )
    for key in (*SUBSETS, "all")
]


class Additive(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Adds one part for each modality, and says which."""

    def __init__(self, wrong_by: float = 0.0) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({m: nn.Linear(WIDTH, len(LABELS)) for m in ("audio", "text")})
        self.wrong_by = wrong_by

    def forward(
        self, features: dict[str, Tensor], masks: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        scores = {m: self.heads[m](x).amax(dim=1) for m, x in features.items()}
        bent = {m: score * (1 + self.wrong_by) for m, score in scores.items()}
        return torch.stack(list(scores.values())).sum(dim=0), bent


class StandIn(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Concatenates, with something in the place of what is absent.

    Args:
        kind: ``"branch"`` runs an absent modality's branch on zeros, ``"fusion"`` feeds zeros to the
            fusion, ``"token"`` feeds it a learned vector.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.enter = nn.ModuleDict({m: nn.Linear(WIDTH, HIDDEN) for m in ("audio", "text")})
        self.token = nn.ParameterDict({m: torch.randn(HIDDEN) for m in ("audio", "text")})
        self.out = nn.Linear(2 * HIDDEN, len(LABELS))

    def forward(self, features: dict[str, Tensor], masks: dict[str, Tensor]) -> Tensor:
        batch = next(iter(features.values())).shape[0]
        pooled = []
        for m in ("audio", "text"):
            if m in features:
                pooled.append(self.enter[m](features[m]).amax(dim=1))
            elif self.kind == "branch":
                pooled.append(self.enter[m](torch.zeros(batch, WIDTH)))
            elif self.kind == "fusion":
                pooled.append(torch.zeros(batch, HIDDEN))
            else:
                pooled.append(self.token[m].expand(batch, HIDDEN))
        logits: Tensor = self.out(torch.cat(pooled, dim=1))
        return logits


class NeedsBoth(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Takes for granted that everything is there."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(2 * WIDTH, len(LABELS))

    def forward(self, features: dict[str, Tensor], masks: dict[str, Tensor]) -> Tensor:
        both = torch.cat([features["audio"].amax(dim=1), features["text"].amax(dim=1)], dim=1)
        logits: Tensor = self.out(both)
        return logits


class GroupStem(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """(B, context + n stride, *item) -> (B, n, WIDTH): each group of new items through one Linear."""

    def __init__(self, item: int, stride: int, context: int) -> None:
        super().__init__()
        self.stride, self.context = stride, context
        self.out = nn.Linear(item * stride, WIDTH)

    def forward(self, items: Tensor) -> Tensor:
        new = items[:, self.context :]
        features: Tensor = self.out(new.reshape(-1, new.shape[1] // self.stride, self.out.in_features))
        return features


class WordStem(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """(B, 32, K) ids -> (B, 32, WIDTH): the sum of a word's rows."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(TEXT_SPEC.rows, WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        features: Tensor = self.table(ids).sum(dim=2)
        return features


def foreign_parts() -> list[ModalityPart]:
    """Voice and text with the real front-ends and the smallest stems."""
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    made = []
    for spec in PARTS:
        stem, shape = spec.stem, (4, spec.stem.left_context + spec.stem.block, *spec.stem.item_shape)
        words = spec.name == "text"
        items: NDArray[Any] = rng.integers(0, TEXT_SPEC.rows, shape) if words else rng.normal(size=shape)
        items = items if words else items.astype(np.float32)
        made.append(
            ModalityPart(
                name=spec.name,
                front_end=spec.front_end,
                stem=WordStem() if words else GroupStem(64, stem.stride, stem.left_context),
                width=WIDTH,
                length=spec.window.length,
                period_s=spec.window.period_s,
                window_s=spec.window.window_s,
                stride=stem.stride,
                left_context=stem.left_context,
                block=stem.block,
                scope=stem.scope,
                item_shape=stem.item_shape,
                examples=items,
                calibration=items,
            )
        )
    return made


def foreign_windows(count: int = 256) -> Windows:
    """Random feature windows with some positions masked."""
    rng = np.random.default_rng(4)
    features, masks = {}, {}
    for spec in PARTS:
        mask = (rng.random((count, spec.window.length)) < 0.8).astype(np.float32)
        mask[:, 0] = 1.0
        masks[spec.name] = mask
        features[spec.name] = rng.normal(size=(*mask.shape, WIDTH)).astype(np.float32)
    return Windows(features, masks)


def foreign_info() -> CheckpointInfo:
    """The least that a checkpoint must say."""
    return CheckpointInfo(
        model_id="foreign",
        family="gated",
        labels=LABELS,
        hop_s=0.5,
        data=[{"name": "random numbers", "licence": "none", "use": "none"}],
        licence={"weights": "CC0-1.0", "non_commercial": False, "notice": "random weights for tests"},
    )


def tensors(windows: Windows, members: Iterable[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The windows of a subset as a network takes them."""

    def chosen(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
        return {m: torch.from_numpy(arrays[m]) for m in members}

    return chosen(windows.features), chosen(windows.masks)
