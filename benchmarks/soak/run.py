"""Runs the session for so many hops; watches memory, threads and files; digests what it says."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.soak.world import StridingClock, cheap_recording, soak_sensors
from edgeemo.bundle import Bundle
from edgeemo.evaluation.footprint import memory_of
from edgeemo.session import EngineOptions, Session
from edgeemo.session.settings import settings_from_thresholds

ENGINES = EngineOptions(variant="int8", backend="cpu")
"""Named, so that every run computes the same."""
HOP_S = 0.25
"""Half of what the model was made for: each reading looks at less that is new, and costs less."""
WARM_UP = 0.2
"""Part of the run after which memory must be flat."""
_FILES = Path("/proc/self/fd")


@dataclass(frozen=True)
class Sample:
    """The process at one moment.

    Attributes:
        hop: how many readings had been made.
        rss: bytes of memory in use.
        threads: how many there are.
        files: how many are open.
        digest: sha256 of all readings so far.
    """

    hop: int
    rss: int
    threads: int
    files: int
    digest: str


@dataclass(frozen=True)
class Soak:
    """What a run gave.

    Attributes:
        hops: readings made.
        simulated_s: how long that was for the session.
        took_s: how long for us.
        samples: the process through the run, the last at its end.
        subsets: subset, or ``no signal`` -> readings.
        late_hops: hops that were left out.
        reconnects: modality -> times that its device was opened again.
        most_events: the most events that were kept at once.
    """

    hops: int
    simulated_s: float
    took_s: float
    samples: tuple[Sample, ...]
    subsets: dict[str, int]
    late_hops: int
    reconnects: dict[str, int]
    most_events: int

    @property
    def digest(self) -> str:
        """The sha256 of the readings, each as one line of `Reading.to_json` with sorted keys.

        It covers everything that a reading says, numbers rounded to six digits: time, label, probabilities,
        emotion, mood, evidence, subset, age, engine, and every state with its sentence and its time.
        """
        return self.samples[-1].digest

    @property
    def steady(self) -> tuple[Sample, ...]:
        """The samples after the warm-up."""
        return tuple(sample for sample in self.samples if sample.hop >= WARM_UP * self.hops)

    @property
    def growth_per_hop(self) -> float:
        """Bytes of memory that a hop adds after the warm-up: the slope of a line through the samples."""
        hops = [sample.hop for sample in self.steady]
        return float(np.polyfit(hops, [sample.rss for sample in self.steady], 1)[0])

    def to_json(self) -> dict[str, Any]:
        """Returns plain data."""
        return {
            "hops": self.hops,
            "simulated_hours": round(self.simulated_s / 3600, 2),
            "took_s": round(self.took_s, 1),
            "digest": self.digest,
            "growth_bytes_per_hop": round(self.growth_per_hop, 2),
            "late_hops": self.late_hops,
            "subsets": self.subsets,
            "reconnects": self.reconnects,
            "most_events": self.most_events,
            "samples": [asdict(sample) for sample in self.samples],
        }


def soak(
    bundle: Bundle, *, hops: int, every: int, seed: int = 0, tell: Callable[[int], None] = lambda _: None
) -> Soak:
    """Runs a session for so many hops.

    Args:
        bundle: has an engine for every subset.
        hops: readings to make.
        every: hops between two looks at the process.
        seed: of the faults.
        tell: called with the number of readings made, at each look.
    """
    recording = cheap_recording()
    digest = hashlib.sha256()
    samples: list[Sample] = []
    subsets: Counter[str] = Counter()
    most_events = 0
    begun = time.perf_counter()
    sensors = soak_sensors(recording, seed=seed)
    settings = replace(settings_from_thresholds(bundle.manifest.thresholds), hop_s=HOP_S)
    with Session(
        bundle, sensors=sensors, engines=ENGINES, settings=settings, clock=StridingClock()
    ) as session:
        for hop, reading in enumerate(session, 1):
            digest.update(json.dumps(reading.to_json(), sort_keys=True).encode() + b"\n")
            subsets[reading.subset or reading.label] += 1
            if hop % every == 0 or hop == hops:
                samples.append(_look(hop, digest.hexdigest()))
                most_events = max(most_events, len(session.events()))
                tell(hop)
            if hop == hops:
                break
        stats, simulated_s = session.stats(), session.now_s
    return Soak(
        hops=hops,
        simulated_s=simulated_s,
        took_s=time.perf_counter() - begun,
        samples=tuple(samples),
        subsets=dict(subsets.most_common()),
        late_hops=stats.late_hops,
        reconnects={name: status.reconnects for name, status in stats.sensors.items()},
        most_events=most_events,
    )


def _look(hop: int, digest: str) -> Sample:
    files = len(os.listdir(_FILES)) if _FILES.is_dir() else 0
    memory = memory_of()
    return Sample(hop, memory.rss if memory else 0, threading.active_count(), files, digest)
