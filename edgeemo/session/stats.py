"""What a session has done so far, in numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgeemo.sensors.base import SensorStatus
from edgeemo.session.engines.reload import ReloadStats
from edgeemo.session.engines.stats import PoolStats


@dataclass(frozen=True)
class SessionStats:
    """What a session has done so far.

    Attributes:
        hops: readings made.
        late_hops: hops without a reading because the machine, or the application that takes the
            readings, was busy past them.
        missed_by_callbacks: readings that were dropped because the function given to `Session.start` was
            busy.
        face_searches: times that a whole frame was searched for faces; in between the face is followed.
        swaps: times that the subset changed between two readings.
        rejected: modality -> pieces of data from sensors that could not be used.
        latency_ms: ``p50``, ``p95``, ``p99`` of the time that a reading takes, over the last 1000.
        sensors: modality -> status of its sensor or recording.
        engines: subset or ``stem.<modality>`` -> which variant runs and why, in words.
        pool: which engines and stems are open, cold or set aside, and what they take.
        manifest_sha256: the state of the bundle that is in use.
        reloads: what taking over newer states of it has cost.
    """

    hops: int
    late_hops: int
    missed_by_callbacks: int
    face_searches: int
    swaps: int
    rejected: dict[str, int]
    latency_ms: dict[str, float]
    sensors: dict[str, SensorStatus]
    engines: dict[str, str]
    pool: PoolStats
    manifest_sha256: str
    reloads: ReloadStats


def latency_percentiles(latencies_ms: Iterable[float]) -> dict[str, float]:
    """Returns ``p50``, ``p95`` and ``p99``; zeros where nothing was measured."""
    values = list(latencies_ms) or [0.0]
    return {f"p{q}": float(np.percentile(values, q)) for q in (50, 95, 99)}
