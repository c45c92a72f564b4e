"""New adapters on the device: time of each engine that is made anew, and what a running session notices."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Report, Table
from edgeemo.bundle import Bundle, bytes_from_tensors, read_tensors
from edgeemo.export import export_bundle
from edgeemo.export.update.bundle import update_bundle
from edgeemo.sensors import TextQueue
from edgeemo.session import EventKind, Session

CHECKPOINT = Path(__file__).resolve().parents[1] / "samples" / "checkpoints" / "live"
BUDGET_S = 1.0


def measure(checkpoint: Path = CHECKPOINT, *, rounds: int, hops: int) -> Report:
    """Exports a checkpoint, then updates that bundle again and again.

    Args:
        checkpoint: what adapters are merged over.
        rounds: updates of each engine, each with other numbers.
        hops: readings of a session while another process goes on updating; more until one was seen.
    """
    with tempfile.TemporaryDirectory(prefix="edgeemo-") as folder:
        bundle = Path(folder) / "bundle"
        export_bundle(checkpoint, bundle)
        variants = ", ".join(next(iter(Bundle.open(bundle).manifest.engines.values())))
        engines = {
            subset: _engine_times(bundle, checkpoint, Path(folder), subset, rounds)
            for subset in Bundle.open(bundle).manifest.engines
        }
        watched = _watched(bundle, checkpoint, Path(folder), hops)
    times = Table(
        "One adapter merged anew",
        f"Medians of {rounds} updates of one engine each in {variants}: merge, graph passes, all variants, "
        "the unmerged network as the reference, and the gate. Wall clock on this machine under its load, "
        f"and the time of the process on a core. Whole: with reading base and bundle, hashes and commit. "
        f"Budget: {BUDGET_S:g} s for an engine.",
        ("engine", "adapter kB", "wall s", "core s", "whole update, core s"),
        [
            (
                f"`{subset}`",
                f"{found['adapter_kb']:.0f}",
                f"{found['wall_s']:.2f}",
                f"{found['core_s']:.2f}",
                f"{found['update_core_s']:.2f}",
            )
            for subset, found in engines.items()
        ],
    )
    session = Table(
        "A session meanwhile",
        "It reads on its own clock and watches the bundle, while `edgeemo update` in another process "
        "merges one adapter after the other. Exchange: how long hops could not run. Opening: engines "
        "read, opened and warmed beside the hops.",
        ("", "figure"),
        [
            ("readings made", str(watched["hops"])),
            ("readings lost", str(watched["lost"])),
            ("hops that came late", str(watched["late_hops"])),
            ("bundles taken over", str(watched["reloads"])),
            ("reloads that failed", str(watched["failed"])),
            ("exchange, ms, median", f"{watched['swap_ms']['median']:.4f}"),
            ("exchange, ms, largest", f"{watched['swap_ms']['max']:.4f}"),
            ("opening, s, median", f"{watched['open_s']['median']:.3f}"),
            ("a reading, ms, p50", f"{watched['latency_ms']['p50']:.2f}"),
            ("a reading, ms, p99", f"{watched['latency_ms']['p99']:.2f}"),
        ],
    )
    return Report(
        "update", "New adapters on the device", {"engines": engines, "session": watched}, [times, session]
    )


def _engine_times(bundle: Path, checkpoint: Path, folder: Path, subset: str, rounds: int) -> dict[str, float]:
    wall: list[float] = []
    core: list[float] = []
    whole: list[float] = []
    for number in range(-1, rounds):
        adapter = _new_adapter(checkpoint, folder / "adapter", subset, seed=number + 1)
        begun = time.process_time()
        report = update_bundle(bundle, checkpoint, {subset: adapter})
        seconds = time.process_time() - begun
        if number >= 0:  # the first one loads packages
            wall.append(report.engines[0].seconds)
            core.append(report.engines[0].core_seconds)
            whole.append(seconds)
    size = (folder / "adapter" / "adapter_model.safetensors").stat().st_size
    return {
        "adapter_kb": size / 1e3,
        "wall_s": round(statistics.median(wall), 3),
        "core_s": round(statistics.median(core), 3),
        "update_core_s": round(statistics.median(whole), 3),
    }


def _new_adapter(checkpoint: Path, folder: Path, subset: str, *, seed: int) -> Path:
    """Writes an adapter of the same shape with slightly other numbers."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(checkpoint / "adapters" / subset, folder)
    place = folder / "adapter_model.safetensors"
    rng = np.random.default_rng(seed)
    tensors = {
        name: (array + 0.01 * array.std() * rng.standard_normal(array.shape)).astype(np.float32)
        for name, array in read_tensors(place).items()
    }
    place.write_bytes(bytes_from_tensors(tensors))
    return folder


_UPDATER = """
import sys
from pathlib import Path
from benchmarks.update import _new_adapter
from edgeemo.export.update.bundle import update_bundle
bundle, checkpoint, folder = map(Path, sys.argv[1:])
seed = 100
print("ready", flush=True)
while True:
    adapter = _new_adapter(checkpoint, folder, "text", seed=seed)
    update_bundle(bundle, checkpoint, {"text": adapter})
    seed += 1
"""


def _watched(bundle: Path, checkpoint: Path, folder: Path, hops: int) -> dict[str, Any]:
    """Reads words on the session's own clock while another process updates the text engine for ever."""
    words = TextQueue()
    command = [sys.executable, "-c", _UPDATER, str(bundle), str(checkpoint), str(folder / "watched")]
    root = Path(__file__).resolve().parents[1]
    swaps: list[float] = []
    opens: list[float] = []
    times: list[float] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as updater:
        if updater.stdout is not None:
            updater.stdout.readline()  # it has loaded its packages
        try:
            with Session(bundle, sensors=[words]) as session:
                session.watch(every_s=0.1)
                hop_s = session.manifest.hop_s
                for reading in session:
                    words.push("I am so happy that you came")
                    times.append(reading.time_s)
                    done = session.stats().reloads
                    if done.reloads > len(swaps) and done.swap_ms is not None and done.open_s is not None:
                        swaps.append(done.swap_ms)
                        opens.append(done.open_s)
                    if len(times) >= hops and swaps:
                        break
                stats = session.stats()
                failed = len([e for e in session.events() if e.kind is EventKind.RELOAD_FAILED])
        finally:
            updater.kill()
    expected = round((times[-1] - times[0]) / hop_s) + 1
    return {
        "hops": len(times),
        "lost": expected - len(times),
        "late_hops": stats.late_hops,
        "reloads": stats.reloads.reloads,
        "failed": failed,
        "swap_ms": {"median": statistics.median(swaps), "max": max(swaps)},
        "open_s": {"median": statistics.median(opens), "max": max(opens)},
        "latency_ms": stats.latency_ms,
    }
