"""``benchmarks/gpu/run.sh``: accelerators against the CPU; writes ``benchmarks/gpu/gpu.{json,md}``."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from benchmarks.report import Report, Table, write_report
from edgeemo.bundle import Bundle
from edgeemo.errors import EdgeEmoError
from edgeemo.evaluation.footprint import measure_footprint
from edgeemo.runtimes.backends import CHAIN, read_graph
from edgeemo.runtimes.plans.source import PlanSource
from edgeemo.runtimes.trt_library import RTX, load_library
from edgeemo.session.session import DEFAULT_BUNDLE

HERE = Path(__file__).resolve().parent
LAPTOPS = ((8, 6), (8, 9), (12, 0))
LIMIT_S = 1800
NOT_HERE = "-"


def run_one(task: dict[str, Any], **environment: str) -> dict[str, Any]:
    """Returns one row, or why there is none."""
    command = [sys.executable, "-m", "benchmarks.gpu.one", json.dumps(task)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            env={**os.environ, **environment},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"why_not": f"no answer within {LIMIT_S} s"}
    try:
        row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        row = {"why_not": f"ended with {done.returncode}: {last}"}
    return row


def plans(bundle: Bundle) -> list[dict[str, Any]]:
    """Builds every engine's fp16 plan for three generations of laptop GPUs; needs no GPU."""
    library = load_library(RTX)
    rows = []
    for name in (*(f"stem.{m}" for m in bundle.manifest.order), *bundle.manifest.engines):
        source = PlanSource(library, read_graph(bundle, name, "fp16").self_contained(), name, "fp16", LAPTOPS)
        built = source.build()
        rows.append({"name": name, "seconds": built.seconds, "bytes": len(built.plan)})
    return rows


def main() -> int:
    """Runs everything that can run."""
    parser = argparse.ArgumentParser(prog="benchmarks/gpu/run.sh", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="default: the one that ships")
    parser.add_argument("--calls", type=int, default=1000, metavar="N")
    parser.add_argument("--out", type=Path, default=HERE, help="default: benchmarks/gpu")
    args = parser.parse_args()
    bundle = Bundle.open(args.bundle)
    names = ("audio", "audio+video+text", "stem.audio")
    tasks = [
        {"backend": place.name, "name": name, "variant": variant, "graph": graph}
        for place in CHAIN
        for name in (names if not place.why_not() else names[1:2])  # one row says why there are none
        for variant in _variants(bundle, name)
        if variant in place.variants
        for graph in ((True,) if place.host or place.why_not() else (True, False))
    ]
    with Progress(console=Console(stderr=True)) as bar:
        paths = {
            package: run_one({"package": package, "calls": args.calls}, EDGEEMO_CUDA=package)
            for package in bar.track(("cuda-python", "pycuda"), description="memory paths")
        }
        engines = [
            {**task, **run_one({**task, "bundle": str(args.bundle), "calls": args.calls})}
            for task in bar.track(tasks, description="engines")
        ]
        first = {
            place.name: _first_reading(args.bundle, place.name)
            for place in bar.track(CHAIN, description="first readings")
        }
        try:
            built: list[dict[str, Any]] = plans(bundle)
            no_plans = ""
        except EdgeEmoError as error:
            built, no_plans = [], str(error)
    figures = {
        "paths": paths,
        "engines": engines,
        "first_reading": first,
        "plans": built,
        "no_plans": no_plans,
    }
    tables = [
        _paths_table(paths),
        _engines_table(engines),
        _first_table(first),
        _plans_table(built, no_plans),
    ]
    report = Report("gpu", "Accelerators", figures, tables, "benchmarks/gpu/run.sh")
    write_report(report, bundle, folder=args.out)
    print((args.out / "gpu.md").read_text(encoding="utf-8"))
    return 0


def _variants(bundle: Bundle, name: str) -> tuple[str, ...]:
    files = bundle.manifest.stems[name[5:]] if name.startswith("stem.") else bundle.manifest.engines[name]
    return tuple(files)


def _first_reading(bundle: Path, backend: str) -> dict[str, Any]:
    try:
        found = measure_footprint(bundle, backend=backend)
    except EdgeEmoError as error:
        return {"why_not": str(error)}
    return {"open_ms": found.open_ms, "reading_ms": found.reading_ms, "process_ms": found.process_ms}


def _cell(row: dict[str, Any], key: str, *, digits: int = 3) -> str:
    value = row.get(key)
    if isinstance(value, dict):
        return f"{value['p50']:.{digits}f} / {value['p99']:.{digits}f}"
    return NOT_HERE if value is None else f"{value:.{digits}f}"


def _why(row: dict[str, Any]) -> str:
    return f"not measured: {row['why_not']}" if "why_not" in row else ""


def _paths_table(paths: dict[str, dict[str, Any]]) -> Table:
    rows = [
        (
            f"`{name}`",
            _cell(row, "copies_us", digits=1),
            _cell(row, "replayed_us", digits=1),
            _why(row) or str(row["gpu"]),
        )
        for name, row in paths.items()
    ]
    note = "41 kB to the GPU and back from page-locked memory, p50 / p99 in microseconds."
    return Table(
        "Memory paths", note, ("package", "copies", "as a recorded graph", "where, or why not"), rows
    )


def _engines_table(engines: list[dict[str, Any]]) -> Table:
    rows = []
    for row in engines:
        said = _why(row) or ("agrees with the bundle" if row["agrees"] else "DOES NOT AGREE with the bundle")
        if row["graph"] and row.get("why_no_graph") and row["backend"] != "openvino":
            said += f"; no CUDA graph: {row['why_no_graph']}"
        rows.append(
            (
                f"`{row['name']}.{row['variant']}`",
                row["backend"],
                NOT_HERE if "why_no_graph" not in row else "on" if row["replays"] else "off",
                _cell(row, "with_copies_ms"),
                _cell(row, "without_copies_ms"),
                _cell(row, "load_ms", digits=0),
                _cell(row, "gpu_mb", digits=0),
                said,
            )
        )
    columns = ("engine", "backend", "graph", "with copies", "without", "load ms", "GPU MB", "remark")
    return Table("Engines", "One call at batch 1, p50 / p99 in milliseconds.", columns, rows)


def _first_table(first: dict[str, dict[str, Any]]) -> Table:
    rows = [
        (f"`{name}`", _cell(row, "open_ms", digits=0), _cell(row, "process_ms", digits=0), _why(row))
        for name, row in first.items()
    ]
    note = "A fresh process with all engines: opening them, and from its start to the first reading, in ms."
    return Table("Time to the first reading", note, ("backend", "open", "first reading", "remark"), rows)


def _plans_table(built: list[dict[str, Any]], why_not: str) -> Table:
    rows = [(f"`{row['name']}`", f"{row['seconds']:.1f}", f"{row['bytes'] / 1e6:.1f}") for row in built]
    note = "TensorRT for RTX, fp16, one plan for sm_86, sm_89 and sm_120, built on this machine."
    return Table("Plans built ahead", f"{note} {why_not}".strip(), ("engine", "s", "MB"), rows)


if __name__ == "__main__":
    sys.exit(main())
