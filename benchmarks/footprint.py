"""What seven engines cost: bytes in the bundle, and memory of a process that has them all open."""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.report import Report, Table
from edgeemo.bundle import Bundle, GraphFile
from edgeemo.bundle.sizes import ENGINE, BundleSizes, measure_sizes, together
from edgeemo.evaluation.footprint import Memory, memory_of

WAYS = {
    "alone": "each with all its tensors inside, as if nothing were shared",
    "bundle": "as the bundle holds them (the default)",
    "shared": "shared tensors left in one copy (`share_weights=True`)",
}
CALLS = 40


def measure(bundle: Bundle, *, rounds: int = 3) -> Report:
    """Counts the bytes and runs each way of opening in processes of their own.

    Args:
        bundle: whose engines are opened.
        rounds: processes for each way; the median counts.
    """
    sizes = measure_sizes(bundle)
    variants = sorted({graph.variant for graph in sizes.graphs if graph.kind == ENGINE})
    memory: dict[str, Any] = {}
    rows = []
    base = _median([_in_fresh_process(bundle, "none", "", "bundle") for _ in range(rounds)])
    rows.append(("Python, numpy, onnxruntime", *_cells(base, None)))
    for variant in variants:
        for count in ("one", "all"):
            for way, title in WAYS.items():
                if count == "one" and way != "bundle":
                    continue
                found = _median([_in_fresh_process(bundle, count, variant, way) for _ in range(rounds)])
                memory.setdefault(variant, {})[f"{count}, {way}"] = found
                name = "one engine" if count == "one" else f"{len(bundle.manifest.engines)} engines, {title}"
                rows.append((f"{variant}: {name}", *_cells(found, base)))
    note = (
        f"Engines alone, without stems and sensors, each called once with one window. Median of {rounds} "
        "processes, from `/proc/self/smaps_rollup`. PSS counts pages that other processes share in parts, so "
        "it moves with what else runs; private pages do not. The last column is the median time of one call "
        f"of the largest engine, over {CALLS} calls."
    )
    titles = ("process", "PSS MB", "private MB", "more than nothing open, MB", "one call, ms")
    tables = [_size_table(sizes, bundle, variants), Table("Memory of open engines", note, titles, rows)]
    figures = {"sizes": _size_figures(sizes, bundle, variants), "base": base, "memory": memory}
    return Report("footprint", "Size and memory of seven engines", figures, tables)


def _size_figures(sizes: BundleSizes, bundle: Bundle, variants: list[str]) -> dict[str, Any]:
    found = {variant: together(sizes, bundle, variant) for variant in variants}
    return {
        "listed_bytes": sizes.listed,
        "variants": {
            variant: {"together": pair[0], "largest_alone": pair[1], "ratio": pair[0] / pair[1]}
            for variant, pair in found.items()
            if pair is not None
        },
    }


def _size_table(sizes: BundleSizes, bundle: Bundle, variants: list[str]) -> Table:
    rows = []
    for variant in variants:
        pair = together(sizes, bundle, variant)
        graphs = [graph for graph in sizes.graphs if (graph.kind, graph.variant) == (ENGINE, variant)]
        if pair is None:
            continue
        alone = sum(graph.alone for graph in graphs)
        structure = sum(graph.structure for graph in graphs)
        figures = (alone, pair[0], structure, pair[1])
        rows.append((variant, *(f"{size / 1e3:.0f}" for size in figures), f"{pair[0] / pair[1]:.2f}"))
    note = (
        "Tensors that several engines share lie once under `graphs/weights/`; numbers never change by that. "
        f"All files that the manifest lists: {sizes.listed / 1e6:.2f} MB. "
        "`edgeemo inspect` shows where every byte goes."
    )
    titles = (
        "variant",
        "seven engines without sharing, kB",
        "with sharing, kB",
        "of which operators and names, kB",
        "the largest engine alone, kB",
        "seven over largest",
    )
    return Table("Size", note, titles, rows)


def _cells(found: dict[str, float], base: dict[str, float] | None) -> tuple[str, ...]:
    more = f"{(found['private'] - base['private']) / 1e6:.1f}" if base else "-"
    call = f"{found['call_ms']:.2f}" if found["call_ms"] else "-"
    return (f"{found['pss'] / 1e6:.1f}", f"{found['private'] / 1e6:.1f}", more, call)


def _median(found: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(one[key] for one in found) for key in found[0]}


def _in_fresh_process(bundle: Bundle, count: str, variant: str, way: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "memory.json"
        words = ["-m", "benchmarks.footprint", str(bundle.path), count, variant, way, str(out)]
        root = Path(__file__).resolve().parent.parent
        subprocess.run([sys.executable, *words], check=True, cwd=root)
        found: dict[str, float] = json.loads(out.read_text())
        return found


def child(path: str, count: str, variant: str, way: str) -> dict[str, float]:
    """Opens no engine, the largest one or all of them; returns the memory of this process."""
    from edgeemo.runtimes import OrtRunner
    from edgeemo.runtimes.choose import typical_feed
    from edgeemo.runtimes.ort import load_onnxruntime

    load_onnxruntime()
    bundle = Bundle.open(path)
    subsets = list(bundle.manifest.engines)
    runners = []
    call_ms = 0.0
    for subset in {"none": [], "one": subsets[-1:], "all": subsets}[count]:
        graph = bundle.read_engine(subset, variant)
        if way == "alone":
            graph = GraphFile(graph.name, graph.self_contained())
        runner = OrtRunner(graph, engine=subset, variant=variant, share_weights=way == "shared")
        del graph
        feed = typical_feed(runner.inputs)
        runner.run(feed)
        runners.append(runner)
    gc.collect()
    memory = memory_of()
    if memory is None:
        raise SystemExit("this system does not tell the memory of a process (no /proc/self/smaps_rollup)")
    if runners:
        times = []
        for _ in range(CALLS):
            begun = time.perf_counter()
            runners[-1].run(feed)
            times.append(time.perf_counter() - begun)
        call_ms = statistics.median(times) * 1e3
    return {**_floats(memory), "call_ms": call_ms}


def _floats(memory: Memory) -> dict[str, float]:
    return {key: float(value) for key, value in asdict(memory).items()}


if __name__ == "__main__":
    Path(sys.argv[5]).write_text(json.dumps(child(*sys.argv[1:5])))
