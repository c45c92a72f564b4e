"""A swap to an engine that is not open, because the memory budget had no room for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.report import Table
from benchmarks.swap.rehearsal import MUTE, Rehearsal
from benchmarks.swap.scene import read_scene
from edgeemo.bundle import Bundle
from edgeemo.errors import EdgeEmoError
from edgeemo.modality import subset_members
from edgeemo.session import EngineOptions, Session

_SPARE_MB = 0.1


def measure(bundle: Bundle, *, variant: str, rounds: int) -> tuple[Any, list[Table]]:
    """Returns figures and tables.

    Args:
        bundle: what the session opens.
        variant: of stems and engines.
        rounds: drops of each modality, in real time.
    """
    budget_mb = budget_for_singles_and_largest(bundle, variant)
    options = EngineOptions(variant=variant, memory_budget_mb=budget_mb)
    gaps_s: list[float] = []
    between: list[int] = []
    stale = 0
    with Rehearsal(bundle, read_scene(), options) as rehearsal:
        for _ in range(rounds):
            for modality in bundle.manifest.order:
                rehearsal.wait()
                at_s, watched = rehearsal.drop(modality, MUTE)
                if watched[-1][1] != rehearsal.rest(modality):
                    raise EdgeEmoError(f"{rehearsal.rest(modality)} never served; there were: {watched}")
                gaps_s.append(watched[-1][0] - at_s)
                between.append(len(watched) - 1)
                stale += sum(modality in subset_members(subset or "") for _, subset in watched)
                rehearsal.bring_back(modality, MUTE)
        pool = rehearsal.session.stats().pool
    figures = {
        "budget_mb": budget_mb,
        "gap_s": [round(gap_s, 4) for gap_s in gaps_s],
        "between": between,
        "stale": stale,
        "opened": pool.opened,
        "evicted": pool.evicted,
        "exchange_ms": pool.swap_ms,
    }
    return figures, [_table(figures, bundle.manifest.hop_s)]


def budget_for_singles_and_largest(bundle: Bundle, variant: str) -> float:
    """Returns megabytes for the stems, the engines of single modalities and the largest one, and no more."""
    complete = "+".join(bundle.manifest.order)
    with Session(bundle, engines=EngineOptions(variant=variant)) as session:
        parts = session.stats().pool.parts
    kept = (name for name in parts if "+" not in name or name == complete)
    return round(sum(parts[name].memory_mb for name in kept) + _SPARE_MB, 2)


def _table(figures: dict[str, Any], hop_s: float) -> Table:
    exchange = "" if figures["exchange_ms"] is None else f"{figures['exchange_ms']:.3f}"
    row = (
        "to a cold subset",
        str(len(figures["gap_s"])),
        f"{np.median(figures['gap_s']):.2f}",
        f"{max(figures['gap_s']):.2f}",
        str(max(figures["between"])),
        str(figures["stale"]),
        str(figures["opened"]),
        str(figures["evicted"]),
        exchange,
    )
    return Table(
        "A swap to a cold engine",
        f"A budget of {figures['budget_mb']:g} MB has room for the stems, the single engines and the "
        "tri-modal one; a modality is muted, and the engine of the other two is opened in the background "
        f"while a warm smaller one answers. Real time, hops {hop_s:g} s apart. Gap: until the right engine "
        "serves. Between: readings of a smaller part of what lives, none of them of what was muted (stale). "
        "Exchange: how long the longest exchange of engines kept a hop from running. Aim: 1 ms.",
        (
            "swap",
            "n",
            "gap s, p50",
            "most",
            "readings between, most",
            "stale",
            "opened",
            "closed for the budget",
            "exchange ms",
        ),
        [row],
    )
