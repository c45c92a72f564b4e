"""A tri-modal hop through the session: everything that half a second of sound, picture and words costs."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.report import Report, Table
from edgeemo.bundle import Bundle
from edgeemo.evaluation.speed import timing_from_seconds
from edgeemo.faces.finder import FaceFinder
from edgeemo.sensors import MediaFile
from edgeemo.sensors.base import Chunk
from edgeemo.session import EngineOptions, Session
from edgeemo.shipped import RECORDING

RATE_HZ = 16000


class Stopwatch:
    """Adds up the time spent in `FaceFinder.find` while it is entered."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._find = FaceFinder.find

    def __enter__(self) -> Stopwatch:
        original = self._find

        def timed(*args: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            try:
                return original(*args, **options)
            finally:
                self.seconds += time.perf_counter() - begun

        FaceFinder.find = timed  # type: ignore[method-assign]  # the point of a stopwatch
        return self

    def __exit__(self, *_: object) -> None:
        FaceFinder.find = self._find  # type: ignore[method-assign]  # as it was


def measure(bundle: Bundle, *, hops: int) -> Report:
    """Replays the demo recording, with sound made here, until enough hops used all three modalities.

    Args:
        bundle: what to measure.
        hops: tri-modal hops to time in each variant.
    """
    chunks = _recording()
    variants = sorted({variant for files in bundle.manifest.engines.values() for variant in files})
    figures = {variant: _measure_variant(bundle, chunks, variant, hops) for variant in variants}
    rows = []
    for variant, found in figures.items():
        for what in (
            "hop",
            "hop without detection",
            "detection",
            "read alone",
            "hop while no face is in view",
        ):
            timing = found[what]
            keys = ("mean_ms", "p50_ms", "p95_ms", "p99_ms", "mean_cpu_ms")
            cells = (f"{timing[key]:.2f}" if key in timing else "" for key in keys)
            rows.append((f"{what}, {variant}", *cells))
    note = (
        f"`push_audio` (0.5 s), `push_frame` (each frame of {RECORDING.name}), `push_text` and `read`, added "
        f"up hop by hop over {hops} hops whose reading came from audio+video+text; decoding is not in it. "
        "Faces are searched in the whole frame about once a second and followed in between, so the mean is "
        "the amortized cost and p95 a hop with a search; while no face is in view, every frame looked "
        "at is searched whole. CPU time counts all threads and not what else runs here. Budget on one core: "
        "5 ms without detection, 15 ms with it."
    )
    table = Table(
        "Time of one hop", note, ("what", "mean ms", "p50 ms", "p95 ms", "p99 ms", "mean CPU ms"), rows
    )
    return Report("hop", "A tri-modal hop", {"hops": hops, "variants": figures}, [table])


def _recording() -> list[list[Chunk]]:
    """Returns what arrives in each hop of the demo recording: frames and words from it, sound made here."""
    with MediaFile(RECORDING) as media:
        chunks = [chunk for chunk in media if chunk.modality != "audio"]
        duration_s = media.duration_s or max(chunk.time_s for chunk in chunks)
    hop_s = 0.5
    rng = np.random.default_rng(0)
    cuts: list[list[Chunk]] = []
    for number in range(int(duration_s / hop_s)):
        begin_s = number * hop_s
        count = int(RATE_HZ * hop_s)
        at_s = begin_s + np.arange(count) / RATE_HZ
        turns = 150 * at_s + 2 * np.sin(4 * at_s)  # of a voice that glides up and down
        tones = np.sum([np.sin(2 * np.pi * k * turns) / k for k in range(1, 15)], axis=0)
        syllables = np.clip(np.sin(2 * np.pi * 3 * at_s), 0, 1)
        sound = (0.1 * tones * syllables + 0.001 * rng.standard_normal(count)).astype(np.float32)
        here = [chunk for chunk in chunks if begin_s <= chunk.time_s < begin_s + hop_s]
        cuts.append([Chunk("audio", begin_s, sound, RATE_HZ), *here])
    return cuts


@dataclass(frozen=True)
class _Hop:
    """Seconds of one hop."""

    subset: str
    whole: float
    detection: float
    read: float
    cpu: float


def _measure_variant(bundle: Bundle, cuts: list[list[Chunk]], variant: str, hops: int) -> dict[str, Any]:
    complete = "+".join(bundle.manifest.order)
    without_face = "+".join(name for name in bundle.manifest.order if name != "video")
    done: list[_Hop] = []
    with Stopwatch() as watch, Session(bundle, engines=EngineOptions(variant=variant)) as session:
        while sum(hop.subset == complete for hop in done) < hops:
            session.reset()
            passed = [_one_hop(session, watch, number, cut) for number, cut in enumerate(cuts, start=1)]
            seen = Counter(hop.subset for hop in passed)
            if not seen[complete]:
                raise SystemExit(f"no hop of {RECORDING.name} used {complete}; there were: {dict(seen)}")
            done += passed
    live = [hop for hop in done if hop.subset == complete]
    faceless = [hop for hop in done if hop.subset == without_face]
    found = {
        "hop": _figures([hop.whole for hop in live], [hop.cpu for hop in live]),
        "hop without detection": _figures([hop.whole - hop.detection for hop in live]),
        "detection": _figures([hop.detection for hop in live]),
        "read alone": _figures([hop.read for hop in live]),
        "hop while no face is in view": _figures(
            [hop.whole for hop in faceless], [hop.cpu for hop in faceless]
        ),
    }
    return {**found, "subsets": dict(Counter(hop.subset for hop in done))}


def _one_hop(session: Session, watch: Stopwatch, number: int, cut: list[Chunk]) -> _Hop:
    found_s = watch.seconds
    begun, begun_cpu = time.perf_counter(), time.process_time()
    for chunk in cut:
        _push(session, chunk)
    pushed = time.perf_counter()
    reading = session.read(at_s=number * session.manifest.hop_s)
    ended, ended_cpu = time.perf_counter(), time.process_time()
    return _Hop(
        reading.subset or reading.label,
        ended - begun,
        watch.seconds - found_s,
        ended - pushed,
        ended_cpu - begun_cpu,
    )


def _push(session: Session, chunk: Chunk) -> None:
    if chunk.modality == "audio":
        session.push_audio(chunk.array, rate_hz=RATE_HZ, time_s=chunk.time_s)
    elif chunk.modality == "video":
        session.push_frame(chunk.array, time_s=chunk.time_s)
    else:
        session.push_text(chunk.text, time_s=chunk.time_s)


def _figures(seconds: list[float], cpu_seconds: list[float] | None = None) -> dict[str, float]:
    if not seconds:
        return {}
    timing = timing_from_seconds(seconds)
    figures = {
        "mean_ms": round(float(np.mean(seconds)) * 1e3, 4),
        "p50_ms": timing.p50_ms,
        "p95_ms": timing.p95_ms,
        "p99_ms": timing.p99_ms,
    }
    if cpu_seconds:
        figures["mean_cpu_ms"] = round(float(np.mean(cpu_seconds)) * 1e3, 4)
    return figures
