"""Durations of calls, taken in turns, and their percentiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

WARM_UP = 20
Call = Callable[[], object]


def percentiles(seconds: Sequence[float], scale: float) -> dict[str, float]:
    """Returns median and 99th percentile in the unit that ``scale`` gives for a second."""
    p50, p99 = np.percentile(np.asarray(seconds), (50, 99)) * scale
    return {"p50": round(float(p50), 4), "p99": round(float(p99), 4)}


def time_in_turns(calls: Mapping[str, Call], rounds: int) -> dict[str, list[float]]:
    """Returns the seconds that each call took, ``rounds`` times each.

    They take turns and each round begins with another one, so that whatever else happens on the machine
    meets all of them alike.
    """
    names = list(calls)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-WARM_UP, rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            begun = time.perf_counter()
            calls[name]()
            spent = time.perf_counter() - begun
            if turn >= 0:
                seconds[name].append(spent)
    return seconds


def overhead_us(own: Sequence[float], bare: Sequence[float]) -> float:
    """Returns by how many microseconds some durations exceed others, at the 10th percentile of each.

    That is what a call costs when nothing else runs: what a wrapper adds is there every time, while the
    medians on a busy machine differ by who was interrupted more often.
    """
    return round(float(np.percentile(own, 10) - np.percentile(bare, 10)) * 1e6, 2)
