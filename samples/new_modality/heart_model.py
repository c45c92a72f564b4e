"""A network over a heart rate, words, or both: what goes in, and what is fitted. Put yours in its place."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from edgeemo.features.series import SeriesSpec
from edgeemo.features.text import TextSpec
from edgeemo.training import ModalityPart

LABELS = ("calm", "excited")
WIDTH, POSITIONS = 4, 8

HEART = SeriesSpec(
    rate_hz=1.0,  # one item a second, as a chest strap gives
    mean=(90.0,), std=(20.0,),  # what the stem sees is scaled by them
    low=(30.0,), high=(220.0,),  # a strap that is not worn says 0: the session then calls it poor
    deadline_s=3.0,  # silent for longer, and it is lost
)  # fmt: skip
WORDS = TextSpec(max_words=POSITIONS, ids_per_word=1, word_buckets=255, pair_buckets=0, ngram_buckets=0)


class Trunk(nn.ModuleDict):  # type: ignore[misc]  # torch may be absent where types are checked
    """A head for each modality; the logits (B, 2) are the sum over those that are there."""

    def forward(self, features: dict[str, Any], masks: dict[str, Any]) -> Any:
        """Returns logits of features (B, 8, 4) and masks (B, 8) of some of the modalities."""
        valid = {m: masks[m][..., None] for m in features}
        return sum(self[m]((x * valid[m]).sum(1) / valid[m].sum(1)) for m, x in features.items())


def make_network() -> tuple[dict[str, Any], Trunk]:
    """Returns the frozen stems, items (B, n, 1) to features (B, n, 4), and the trunk behind them."""
    torch.manual_seed(0)
    heart = nn.Sequential(nn.Linear(1, WIDTH), nn.Tanh())
    words = nn.Sequential(nn.Embedding(WORDS.rows, WIDTH), nn.Flatten(2))
    stems = {"heart_rate": heart, "text": words}
    return stems, Trunk({name: nn.Linear(WIDTH, len(LABELS)) for name in stems})


def describe(stems: dict[str, Any], items: dict[str, np.ndarray[Any, Any]]) -> list[ModalityPart]:
    """Returns the two modalities as a checkpoint describes them; `items` calibrate int8."""
    shape: dict[str, Any] = {"width": WIDTH, "length": POSITIONS, "item_shape": (1,)}
    seconds, ids = items["heart_rate"][:, :1], items["text"]
    return [
        ModalityPart("heart_rate", HEART.to_json(), stems["heart_rate"], period_s=1.0, window_s=8.0,
                     examples=seconds[:4], calibration=seconds, **shape),
        ModalityPart("text", WORDS.to_json(), stems["text"], period_s=0.0, window_s=10.0, scope="window",
                     block=POSITIONS, examples=ids[:4], calibration=ids, **shape),
    ]  # fmt: skip
