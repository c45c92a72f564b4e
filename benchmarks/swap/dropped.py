"""What readings did after a modality dropped, and what fading weights would have done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeemo.errors import EdgeEmoError

FORGOTTEN = 0.01
"""Share of the weight below which a dead modality counts as out."""


@dataclass(frozen=True)
class Drop:
    """What readings did after one modality dropped.

    Attributes:
        gap_s: from the drop to the first reading that does not use it.
        hops: readings that still used it.
        stale: readings that used it later than one hop and the deadline after the drop.
        wrong: readings of another subset than one of the two that may be.
        readings: that were watched.
    """

    gap_s: float
    hops: int
    stale: int
    wrong: int
    readings: int


def judge_drop(
    readings: Sequence[tuple[float, str | None]],
    *,
    at_s: float,
    before: str,
    after: str | None,
    limit_s: float,
) -> Drop:
    """Returns what readings did after a drop.

    Args:
        readings: (time, subset) of each reading after the drop, oldest first.
        at_s: when it dropped.
        before: the subset until then.
        after: the subset that is right from then on.
        limit_s: how long a reading may still use what had arrived before the drop.

    Raises:
        EdgeEmoError: no reading was right again.
    """
    right = [time_s for time_s, subset in readings if subset == after]
    if not right:
        raise EdgeEmoError(f"no reading went over from {before} to {after}; there were: {readings}")
    used = [time_s for time_s, subset in readings if subset == before]
    return Drop(
        gap_s=right[0] - at_s,
        hops=len(used),
        stale=sum(time_s > at_s + limit_s + 1e-9 for time_s in used),
        wrong=sum(subset not in (before, after) for _, subset in readings),
        readings=len(readings),
    )


def half_life_readings(readings: int, hop_s: float, gap_s: float, *, others: int, half_life_s: float) -> int:
    """Returns how many readings use a dead modality by more than `FORGOTTEN` where weights only fade.

    Args:
        readings: that were watched after it died.
        hop_s: seconds between them.
        gap_s: from its death to the first of them.
        others: modalities that live, each with full weight.
        half_life_s: of the weights.
    """
    ages_s = gap_s + hop_s * np.arange(readings)
    weights = 2.0 ** (-ages_s / half_life_s)
    shares = weights / (weights + others)
    return int(np.sum(shares > FORGOTTEN))


def summary(drops: list[Drop]) -> dict[str, Any]:
    """Returns the figures of several drops of one kind."""
    return {
        "n": len(drops),
        "gap_s": [round(drop.gap_s, 4) for drop in drops],
        "hops": [drop.hops for drop in drops],
        "stale": sum(drop.stale for drop in drops),
        "wrong": sum(drop.wrong for drop in drops),
        "readings": sum(drop.readings for drop in drops),
    }
