"""One row, in a process of its own: what crashes or hangs takes nothing else with it.

``python -m benchmarks.gpu.one JSON`` prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgeemo.bundle import Bundle
from edgeemo.errors import EdgeEmoError
from edgeemo.runtimes.backends import backend_named, read_graph
from edgeemo.runtimes.base import Runner
from edgeemo.runtimes.choose import typical_feed
from edgeemo.runtimes.ort_bound import BoundOrtRunner
from edgeemo.runtimes.plans.opening import open_plan
from edgeemo.runtimes.reference import compare_with_reference
from edgeemo.runtimes.trt import TrtRunner

_WARM_UP = 50


def measure_memory_path(package: str, calls: int) -> dict[str, Any]:
    """Returns how long 41 kB (a tri-modal window) take there and back, with and without a graph."""
    from edgeemo.runtimes.gpu import Gpu, PairedBuffer

    gpu = Gpu()
    if gpu.cuda.name != package:
        return {"why_not": f"{package} is not installed"}
    with gpu:
        buffer = PairedBuffer(gpu, (88, 116), np.dtype(np.float32))
        _, stream = gpu.cuda.stream()
        wanted = np.random.default_rng(0).standard_normal(buffer.host.shape).astype(np.float32)

        def copies() -> None:
            buffer.send(stream)
            buffer.fetch(stream)

        def there_and_back() -> None:
            copies()
            gpu.cuda.synchronize(stream)

        buffer.host[...] = wanted
        there_and_back()
        row: dict[str, Any] = {
            "gpu": str(gpu.facts),
            "right": bool(np.array_equal(buffer.host, wanted)),
            "copies_us": _percentiles(there_and_back, calls, 1e6),
        }
        if gpu.cuda.captures:
            gpu.cuda.begin_capture(stream)
            copies()
            graph = gpu.cuda.end_capture(stream)

            def replay() -> None:
                gpu.cuda.launch(graph, stream)
                gpu.cuda.synchronize(stream)

            row["replayed_us"] = _percentiles(replay, calls, 1e6)
        return row


def measure_engine(
    bundle: Path, backend: str, name: str, variant: str, *, graph: bool, calls: int
) -> dict[str, Any]:
    """Returns times, agreement with the bundle's answers, and GPU memory of one engine on one backend."""
    opened = Bundle.open(bundle)
    if why := backend_named(backend).why_not():
        return {"why_not": why}
    free = _free_bytes()
    begun = time.perf_counter()
    runner = _open(opened, backend, name, variant, graph=graph)
    open_ms = (time.perf_counter() - begun) * 1e3
    if isinstance(runner, TrtRunner):  # the first opening built the plan: a second one only loads it
        runner.close()
        begun = time.perf_counter()
        runner = _open(opened, backend, name, variant, graph=graph)
        load_ms: float | None = (time.perf_counter() - begun) * 1e3
    else:
        load_ms = None
    with runner:
        agreement = compare_with_reference(runner, opened, name)
        feed = typical_feed(runner.inputs)
        times = _percentiles(lambda: runner.run(feed), calls, 1e3)
        used = None if free is None else free - (_free_bytes() or 0)
        row: dict[str, Any] = {
            "backend": runner.backend,
            "agrees": agreement.agrees,
            "rms_error": agreement.rms_error,
            "open_ms": open_ms,
            "load_ms": load_ms,
            "with_copies_ms": times,
        }
        if isinstance(runner, (TrtRunner, BoundOrtRunner)):
            row["without_copies_ms"] = _percentiles(runner.run_again, calls, 1e3)
            row["replays"], row["why_no_graph"] = runner.replays, runner.why_no_graph
            row["gpu_mb"] = None if used is None else used / 1e6
        return row


def _open(bundle: Bundle, backend: str, name: str, variant: str, *, graph: bool) -> Runner:
    if graph:
        return backend_named(backend).open(bundle, name, variant, build=True)
    source = read_graph(bundle, name, variant)
    if backend_named(backend).builds:
        runner = open_plan(backend, source, engine=name, variant=variant, build=True)
        runner.close()
        return open_plan(backend, source, engine=name, variant=variant, build=False, cuda_graph=False)
    return BoundOrtRunner(source, backend=backend, engine=name, variant=variant, cuda_graph=False)


def _free_bytes() -> int | None:
    """Returns what is free on the GPU; None where nobody can tell."""
    from edgeemo.runtimes.gpu import Gpu

    try:
        gpu = Gpu()
    except EdgeEmoError:
        return None
    with gpu:
        free = gpu.cuda.memory()[0]
    gpu.close()
    return free


def _percentiles(action: Callable[[], object], calls: int, scale: float) -> dict[str, float]:
    times = []
    for turn in range(-_WARM_UP, calls):
        begun = time.perf_counter()
        action()
        if turn >= 0:
            times.append(time.perf_counter() - begun)
    p50, p99 = np.percentile(times, [50, 99]) * scale
    return {"p50": float(p50), "p99": float(p99)}


def main() -> int:
    """Measures what the one argument asks for."""
    task = json.loads(sys.argv[1])
    try:
        if "package" in task:
            row = measure_memory_path(task["package"], task["calls"])
        else:
            task["bundle"] = Path(task["bundle"])
            row = measure_engine(**task)
    except EdgeEmoError as error:
        row = {"why_not": str(error)}
    print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
