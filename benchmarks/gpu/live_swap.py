"""A live session that begins on the CPU and is moved to another backend while it makes readings."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.gpu.child import Found, not_measured
from benchmarks.gpu.stand_in import NAME, SecondCpu
from edgeemo.bundle import Bundle
from edgeemo.runtimes.backends import CPU, Backend, backend_named
from edgeemo.sensors import TextQueue
from edgeemo.sensors.media import MediaFile
from edgeemo.sensors.recordings.playing import play
from edgeemo.session import EngineOptions, Session
from edgeemo.session.engines.move_up import MoveUp
from edgeemo.session.events import Event, EventKind
from edgeemo.session.reading import Reading
from edgeemo.shipped import RECORDING

HOP_S = 0.1
_AFTER = 20  # readings after the last exchange
_WORDS = ("I am so happy to see you", "what a wonderful day", "oh no", "where did you go")


@dataclass(frozen=True)
class _Arrival:
    reading: Reading
    at_s: float


def measure(bundle: str, backend: str, limit_s: float, subsets: list[str] | None = None) -> Found:
    """Returns what the exchanges cost: readings lost, hops waited, the longest gap.

    The session listens to and looks at the recording that ships, at its own pace, and is told words all the
    time, so that some engine is always in use.

    Args:
        bundle: a folder.
        backend: what it moves to, or the name of the stand-in.
        limit_s: when it ends though not everything has moved.
        subsets: what it serves; None for everything.
    """
    with tempfile.TemporaryDirectory() as folder:
        place: Backend = SecondCpu(Path(folder)) if backend == NAME else backend_named(backend)
        if why := place.why_not():
            return not_measured(why)
        return _move(Bundle.open(bundle), place, limit_s, None if subsets is None else tuple(subsets))


def _move(bundle: Bundle, place: Backend, limit_s: float, subsets: tuple[str, ...] | None) -> Found:
    words = TextQueue()
    arrivals: list[_Arrival] = []
    with MediaFile(RECORDING) as media:
        used = set("+".join(subsets or bundle.manifest.engines).split("+"))
        sensors = [sensor for sensor in play(media) if sensor.modality in used - {"text"}]
        options = EngineOptions(subsets=subsets, backend=CPU, variant="int8")
        with Session(
            bundle, sensors=[*sensors, words], engines=options, settings={"hop_s": HOP_S}
        ) as session:
            names = set(session._pool.snapshot.names)
            moving = MoveUp(session._pool, [place], threads=1, tell=session._tell)
            begun = time.perf_counter()
            moving.start()
            left = _AFTER
            for reading in session:
                now = time.perf_counter()
                arrivals.append(_Arrival(reading, now))
                if len(arrivals) % 10 == 1:
                    words.push(_WORDS[len(arrivals) // 10 % len(_WORDS)])
                told = [each for each in session.events() if each.kind in _KINDS]
                left -= {each.detail["engine"] for each in told} >= names
                if left <= 0 or now - begun > limit_s:
                    break
            stats = session.stats()
            moving.stop()
            moving.join()
    return _summary(arrivals, told, stats.late_hops, stats.pool.swap_ms, len(names))


_KINDS = (EventKind.ENGINE_CHANGED, EventKind.MOVE_FAILED)


def _summary(
    arrivals: list[_Arrival], told: list[Event], late_hops: int, swap_ms: float | None, parts: int
) -> Found:
    changed = [each for each in told if each.kind is EventKind.ENGINE_CHANGED]
    failed = [each for each in told if each.kind is EventKind.MOVE_FAILED]
    if not changed:
        why = failed[0].message if failed else "nothing was ready in time"
        return not_measured(why)
    gaps = [(after.at_s - before.at_s) / HOP_S for before, after in pairwise(arrivals)]
    return {
        "hop_s": HOP_S,
        "parts": parts,
        "moved": len(changed),
        "failed": [each.message for each in failed],
        "moves": [_one_move(each, arrivals) for each in changed],
        "readings": len(arrivals),
        "late_hops": late_hops,
        "longest_gap_hops": round(max(gaps), 2),
        "longest_hold_ms": swap_ms,
        "signal_share": round(sum(each.reading.has_signal for each in arrivals) / len(arrivals), 3),
        "backends": sorted({each.reading.backend for each in arrivals if each.reading.backend}),
    }


def _one_move(event: Event, arrivals: list[_Arrival]) -> dict[str, Any]:
    """Returns how many readings its engine still made on the old backend, and the gap around the exchange."""
    engine, backend = event.detail["engine"], event.detail["backend"]
    uses = [each.reading for each in arrivals if each.reading.subset == engine]
    around = [
        (_hop(after.reading) - _hop(before.reading), (after.at_s - before.at_s) / HOP_S)
        for before, after in pairwise(arrivals)
        if before.reading.time_s <= event.time_s < after.reading.time_s
    ]
    later = [reading for reading in uses if reading.time_s > event.time_s]
    stale = 0
    for reading in later:
        if reading.backend == backend:
            break
        stale += 1
    return {
        "engine": engine,
        "at_s": round(event.time_s, 2),
        "used_before": len(uses) - len(later),
        "used_after": len(later),
        "stale_readings": stale,
        "readings_lost": sum(max(0, hops - 1) for hops, _ in around),
        "gap_hops": round(max((gap for _, gap in around), default=0.0), 2),
    }


def _hop(reading: Reading) -> int:
    """Returns the number of a reading's hop; one that was made a little late still is that hop's."""
    return math.floor(reading.time_s / HOP_S + 1e-6)
