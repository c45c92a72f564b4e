"""A session with a camera and a microphone in a fresh process, watched for some seconds.

``python -m benchmarks.session.live`` with one argument, the task as JSON; prints what it found as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import Any

from benchmarks.session.detections import Detections
from benchmarks.session.tree import pss_bytes, tree_cpu_s
from edgeemo.bundle import Bundle
from edgeemo.session import EngineOptions, Reading, Session, Settings
from edgeemo.session.settings import settings_from_thresholds

_UNTIL_LIVE_S = 40.0
_SETTLE_S = 2.0
DEVICE = "pulse"


@dataclass(frozen=True)
class Task:
    """What to run.

    Attributes:
        bundle: its folder.
        variant: of stems and engines.
        url: of the camera; None for none.
        microphone: whether there is one.
        hop_s: seconds between readings; None for the bundle's.
        seconds: how long it is watched once everything is live.
        expected: modalities that must be live before that.
    """

    bundle: str
    variant: str
    url: str | None
    microphone: bool
    hop_s: float | None
    seconds: float
    expected: tuple[str, ...]


def can_set_hop() -> bool:
    """Whether this edgeemo lets an application choose how often it reads."""
    return "hop_s" in {field.name for field in fields(Settings)}


def run(task: Task) -> dict[str, Any]:
    """Runs the session and returns what it used.

    Raises:
        SystemExit: a sensor is not live in time; the message says how it is.
    """
    sensors: list[Any] = []
    if task.microphone:
        from edgeemo.sensors import Microphone

        sensors.append(Microphone(DEVICE))
    if task.url is not None:
        from edgeemo.sensors import Camera

        sensors.append(Camera(task.url))
    thresholds = dict(Bundle.open(task.bundle).manifest.thresholds)
    if task.hop_s is not None:
        thresholds["hop_s"] = task.hop_s
    settings = settings_from_thresholds(thresholds)
    own = os.getpid()
    with (
        Detections() as detections,
        Session(
            task.bundle, sensors=sensors, engines=EngineOptions(variant=task.variant), settings=settings
        ) as session,
    ):
        readings = iter(session)
        _wait_until_live(session, readings, task.expected)
        detections.reset()
        before = session.stats()
        subsets: Counter[str] = Counter()
        begun, begun_s, own_s = time.perf_counter(), tree_cpu_s(own), time.process_time()
        while time.perf_counter() - begun < task.seconds:
            subsets[next(readings).subset or "no signal"] += 1
        spent_s, own_s = time.perf_counter() - begun, time.process_time() - own_s
        cpu_s = tree_cpu_s(own) - begun_s
        after = session.stats()
        pss = pss_bytes(own)
    frames = after.sensors["video"].chunks - before.sensors["video"].chunks if task.url else 0
    return {
        "seconds": spent_s,
        "readings": sum(subsets.values()),
        "subsets": dict(subsets),
        "cpu_share": cpu_s / spent_s,
        "own_cpu_share": own_s / spent_s,
        "detection_cpu_share": detections.cpu_s / spent_s,
        "whole_searches": detections.whole.count,
        "near_searches": detections.near.count,
        "frames": frames,
        "processes": len(pss),
        "pss": {"whole": sum(pss.values()), "own": pss.get(own, 0)},
        "latency_ms": after.latency_ms,
        "late_hops": after.late_hops - before.late_hops,
        "drops": {name: status.drops for name, status in after.sensors.items()},
    }


def _wait_until_live(session: Session, readings: Any, expected: tuple[str, ...]) -> None:
    """Reads until the modalities are live, and a little longer, so that nothing is still starting."""
    until_s = session.now_s + _UNTIL_LIVE_S
    reading: Reading
    for reading in readings:
        if all(str(reading.states[name].state) == "live" for name in expected):
            break
        if session.now_s > until_s:
            states = {name: f"{status.state}: {status.why}" for name, status in reading.states.items()}
            raise SystemExit(f"not live after {_UNTIL_LIVE_S:g} s: {states}; {session.stats().sensors}")
    until_s = session.now_s + _SETTLE_S
    while session.now_s < until_s:
        next(readings)


def words_of(task: Task) -> list[str]:
    """Returns the command line that runs a task in a process of its own."""
    return [sys.executable, "-m", "benchmarks.session.live", json.dumps(asdict(task))]


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    given = json.loads(sys.argv[1])
    print(json.dumps(run(Task(**{**given, "expected": tuple(given["expected"])}))))
