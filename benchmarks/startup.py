"""Starting: ``import edgeemo`` beside ``import numpy``, and a fresh process up to its first reading."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from unittest.mock import patch

from benchmarks.report import Report, Table
from edgeemo.bundle import Bundle
from edgeemo.evaluation.footprint import Footprint, measure_footprint

IMPORTS = ("import numpy", "import edgeemo", "from edgeemo import Session")


def measure(bundle: Bundle, *, rounds: int) -> Report:
    """Starts fresh processes in turns.

    Args:
        bundle: what the session opens.
        rounds: processes of each kind.
    """
    variants = sorted({variant for files in bundle.manifest.engines.values() for variant in files})
    cold: dict[str, Footprint] = {}
    with tempfile.TemporaryDirectory() as empty, patch.dict(os.environ):
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled once, as wherever a package is installed
        imports = _import_times(rounds)
        for variant in variants:
            cold[variant] = _median([measure_footprint(bundle.path, variant=variant) for _ in range(rounds)])
        with patch.dict(os.environ, EDGEEMO_CACHE=empty):
            cold["auto, nothing cached"] = measure_footprint(bundle.path)
            cold["auto, choice cached"] = _median([measure_footprint(bundle.path) for _ in range(rounds)])
    numpy_ms = imports["import numpy"]
    ratio = imports["import edgeemo"] / numpy_ms
    import_table = Table(
        "Imports",
        f"Medians of {rounds} fresh processes each, in turns; the start of Python is taken off. Budget: "
        "`import edgeemo` takes at most 1.2 times `import numpy`.",
        ("statement", "ms", "times numpy"),
        [(f"`{name}`", f"{ms:.1f}", f"{ms / numpy_ms:.2f}") for name, ms in imports.items()],
    )
    cold_table = Table(
        "From a fresh process to the first reading",
        f"Medians of {rounds} processes (one where nothing is cached): import, opening three stems and seven "
        "engines, pushing sound and words, reading until there is a signal, with Python's compiled files in "
        "place. Sound is pushed at once, so the time that a sensor needs to fill its window comes on top. "
        "Budget: 1 s.",
        ("variant", "import ms", "open ms", "reading ms", "whole process ms"),
        [
            (
                name,
                f"{found.import_ms:.0f}",
                f"{found.open_ms:.0f}",
                f"{found.reading_ms:.0f}",
                f"{found.process_ms:.0f}",
            )
            for name, found in cold.items()
        ],
    )
    figures = {
        "import_ms": imports,
        "edgeemo_over_numpy": round(ratio, 3),
        "cold_start": {name: asdict(found) for name, found in cold.items()},
    }
    return Report("startup", "Starting", figures, [import_table, cold_table])


def _import_times(rounds: int) -> dict[str, float]:
    """Returns the median time of each statement in a fresh process, in milliseconds."""
    times: dict[str, list[float]] = {statement: [] for statement in IMPORTS}
    for turn in range(-1, rounds):
        for place in range(len(IMPORTS)):
            statement = IMPORTS[(place + turn) % len(IMPORTS)]
            code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            if turn >= 0:  # the first turn fills the disk cache and writes bytecode
                times[statement].append(float(done.stdout) * 1e3)
    return {statement: round(statistics.median(found), 2) for statement, found in times.items()}


def _median(found: list[Footprint]) -> Footprint:
    """Returns the footprint whose whole time is the median."""
    return sorted(found, key=lambda footprint: footprint.process_ms)[len(found) // 2]
