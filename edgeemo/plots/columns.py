"""A track as columns of a picture: as many as can be told apart, nothing that matters averaged away."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeemo.plots.track import NOTHING, Track

MOST_COLUMNS = 1500


@dataclass(frozen=True)
class Run:
    """A stretch in which nothing changes.

    Attributes:
        start_s: where it begins.
        end_s: where it ends.
        value: what holds in it.
    """

    start_s: float
    end_s: float
    value: int


def columns_from_track(track: Track, most: int = MOST_COLUMNS) -> tuple[Track, float]:
    """Returns the track with at most as many readings, and the seconds that each stands for.

    Probabilities, valence and arousal are means over a column, without the readings that have no signal.
    Of states it keeps the worst, so that no outage is lost; of emotion, mood and engine the one that held
    longest.

    Args:
        track: any number of readings.
        most: columns.
    """
    if len(track) <= most:
        return track, track.hop_s
    edges = np.linspace(track.time_s[0] - track.hop_s, track.time_s[-1], most + 1)
    place = np.clip(np.searchsorted(edges, track.time_s, side="left") - 1, 0, most - 1)
    used, first = np.unique(place, return_index=True)
    counts = np.diff([*first, len(track)])
    signal = track.probabilities.sum(axis=1) > 0
    heard = np.maximum(np.add.reduceat(signal.astype(np.int64), first), 1)[:, None]
    return (
        replace(
            track,
            time_s=edges[used + 1],
            session=track.session[first],
            probabilities=(np.add.reduceat(track.probabilities, first, axis=0) / heard).astype(np.float32),
            emotion=_longest(track.emotion, first, counts),
            mood=_longest(track.mood, first, counts),
            valence=_mean(track.valence, first),
            arousal=_mean(track.arousal, first),
            states=np.maximum.reduceat(track.states, first, axis=0),
            engine=_longest(track.engine, first, counts),
        ),
        float(edges[1] - edges[0]),
    )


def runs_of(time_s: NDArray[np.float64], values: NDArray[np.integer], step_s: float) -> list[Run]:
    """Returns the stretches in which values stay the same; a reading stands for the time before it.

    Args:
        time_s: (N,) ends of the columns.
        values: (N,), `NOTHING` where there is none.
        step_s: the most that a reading stands for; a longer gap between two stays empty.
    """
    runs: list[Run] = []
    for end_s, value in zip(time_s.tolist(), values.tolist(), strict=True):
        start_s = end_s - step_s
        if runs and runs[-1].value == value and start_s - runs[-1].end_s < 0.5 * step_s:
            runs[-1] = replace(runs[-1], end_s=end_s)
        else:
            if runs and 0 < start_s - runs[-1].end_s < 0.5 * step_s:
                start_s = runs[-1].end_s
            runs.append(Run(start_s, end_s, value))
    return [run for run in runs if run.value != NOTHING]


def _longest(
    values: NDArray[np.int16], first: NDArray[np.intp], counts: NDArray[np.integer]
) -> NDArray[np.int16]:
    found = [
        np.bincount(values[start : start + count] - NOTHING).argmax() + NOTHING
        for start, count in zip(first.tolist(), counts.tolist(), strict=True)
    ]
    return np.array(found, np.int16)


def _mean(values: NDArray[np.float32], first: NDArray[np.intp]) -> NDArray[np.float32]:
    known = ~np.isnan(values)
    total = np.add.reduceat(np.where(known, values, 0.0), first)
    count = np.add.reduceat(known.astype(np.int64), first)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
