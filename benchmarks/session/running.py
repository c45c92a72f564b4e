"""Processor time, memory and latencies of whole sessions with a camera and a microphone."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from contextlib import ExitStack
from typing import Any

from benchmarks.report import Table
from benchmarks.session.live import Task, can_set_hop, words_of
from benchmarks.session.servers import FPS, HEIGHT, ROOT, SCENES, WIDTH, camera, microphone, why_no_microphone
from edgeemo.bundle import Bundle

HOP_S = 0.25
AIM_CPU, AIM_CPU_WITH_DETECTION, AIM_PSS = 0.15, 0.30, 220e6
_WORDS = {"recording": "a face in every picture", "pattern": "test pattern, no face"}
_EXPECTED = {"recording": ("audio", "video"), "pattern": ("audio",)}
_LATENCIES = ("p50", "p95", "p99")


def measure(
    bundle: Bundle, *, variant: str, rounds: int, seconds: float
) -> tuple[dict[str, Any], list[Table]]:
    """Returns figures and tables.

    Args:
        bundle: what the sessions open.
        variant: of stems and engines.
        rounds: of each scene, taking turns, each in a fresh process; medians count.
        seconds: that each is watched.
    """
    without = why_no_microphone()
    hop_s = HOP_S if can_set_hop() else None
    found: dict[str, list[dict[str, Any]]] = {scene: [] for scene in SCENES}
    with ExitStack() as opened:
        found_by = {} if without else opened.enter_context(microphone())
        urls = {scene: opened.enter_context(camera(scene)) for scene in SCENES}
        for _ in range(rounds):
            for scene, url in urls.items():
                expected = tuple(name for name in _EXPECTED[scene] if not (without and name == "audio"))
                task = Task(str(bundle.path), variant, url, not without, hop_s, seconds, expected)
                found[scene].append(_in_fresh_process(task, found_by))
    figures = {
        "hop_s": hop_s or bundle.manifest.hop_s,
        "without_microphone": without,
        "scenes": {scene: median_of(runs) for scene, runs in found.items()},
        "runs": found,
    }
    return figures, running_tables(figures, rounds=rounds, seconds=seconds)


def median_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the median of each figure over runs; of what is no figure, that of the last run."""
    joined: dict[str, Any] = {}
    for key, last in runs[-1].items():
        if isinstance(last, dict):
            joined[key] = median_of([{**dict.fromkeys(last), **run[key]} for run in runs])
        elif isinstance(last, int | float):
            joined[key] = statistics.median(run[key] for run in runs if run[key] is not None)
        else:
            joined[key] = last
    return joined


def running_tables(figures: dict[str, Any], *, rounds: int, seconds: float) -> list[Table]:
    """Returns the tables of `measure`."""
    rate = 1 / figures["hop_s"]
    heard = (
        f"no microphone ({figures['without_microphone']})"
        if figures["without_microphone"]
        else ("a microphone (PortAudio on a PulseAudio server of its own)")
    )
    note = (
        f"`Session` with a camera (MJPEG over HTTP from another process, {WIDTH}x{HEIGHT}, {FPS} frames a "
        f"second) and {heard}, {rate:g} readings a second, in a fresh process; median of {rounds} runs of "
        f"{seconds:g} s after everything is live. Processor time and PSS are those of the whole process "
        "tree without the servers; 100 % is one core. Without detection: the time inside the cascade taken "
        f"out. Aims: {AIM_CPU:.0%} without detection, {AIM_CPU_WITH_DETECTION:.0%} with it, "
        f"{AIM_PSS / 1e6:.0f} MB."
    )
    rows, latencies = [], []
    for scene, run in figures["scenes"].items():
        frames = max(run["frames"], 1)
        rows.append(
            (
                _WORDS[scene],
                f"{run['cpu_share']:.1%}",
                f"{run['cpu_share'] - run['detection_cpu_share']:.1%}",
                f"{run['own_cpu_share']:.1%}",
                f"{run['pss']['whole'] / 1e6:.0f}",
                f"{run['processes']:g}",
                f"{run['frames'] / run['seconds']:.1f}",
                f"{run['whole_searches'] / frames:.2f}",
                f"{run['near_searches'] / frames:.2f}",
            )
        )
        latencies.append(
            (
                _WORDS[scene],
                *(f"{run['latency_ms'][name]:.2f}" for name in _LATENCIES),
                f"{run['readings'] / run['seconds']:.2f}",
                f"{run['late_hops']:g}",
                f"{sum(run['drops'].values()):g}",
                ", ".join(f"{name} {count:g}" for name, count in run["subsets"].items()),
            )
        )
    columns = (
        "camera shows",
        "CPU",
        "without detection",
        "of the application's process",
        "PSS MB",
        "processes",
        "frames/s",
        "searches of a whole frame, a frame",
        "around the last face, a frame",
    )
    readings = (
        "camera shows",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "readings/s",
        "late hops",
        "chunks dropped",
        "subsets",
    )
    return [
        Table("A session with a camera and a microphone", note, columns, rows),
        Table("Its readings", "Time that a reading takes, from `session.stats()`.", readings, latencies),
    ]


def _in_fresh_process(task: Task, environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        words_of(task),
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"the watched session failed: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
