"""One engine in one variant on one backend: its answers, and how long a call takes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.gpu.bare import bare_call
from benchmarks.gpu.child import Found, not_measured
from benchmarks.gpu.timing import Call, overhead_us, percentiles, time_in_turns
from edgeemo.bundle import Bundle
from edgeemo.errors import BackendError, BundleError
from edgeemo.runtimes.backends import CPU, Backend, backend_named, read_graph
from edgeemo.runtimes.base import Runner
from edgeemo.runtimes.choose import typical_feed
from edgeemo.runtimes.ort import OrtRunner
from edgeemo.runtimes.ort_bound import BoundOrtRunner
from edgeemo.runtimes.plans.opening import open_plan
from edgeemo.runtimes.reference import compare_with_reference, reference_windows
from edgeemo.runtimes.trt import TrtRunner


def measure(bundle: str, backend: str, name: str, variant: str, calls: int) -> Found:
    """Returns one row with a CUDA graph and one without, where there can be one.

    Args:
        bundle: a folder.
        backend: a name of `edgeemo.runtimes.open.BACKENDS`.
        name: a subset or ``stem.<modality>``.
        variant: one that the bundle has.
        calls: timed calls of each kind.
    """
    place = backend_named(backend)
    if why := place.why_not():
        return not_measured(why)
    opened = Bundle.open(bundle)
    rows = []
    for graph in (True,) if place.host else (True, False):
        try:
            rows.append(_row(opened, place, name, variant, graph=graph, calls=calls))
        except (BackendError, BundleError) as error:
            rows.append({"cuda_graph": graph, **not_measured(str(error))})
    return {"rows": rows}


def _row(
    bundle: Bundle, place: Backend, name: str, variant: str, *, graph: bool, calls: int
) -> dict[str, Any]:
    begun = time.perf_counter()
    runner = _open(bundle, place, name, variant, graph=graph)
    open_ms = (time.perf_counter() - begun) * 1e3
    if place.builds:  # the first opening may have built the plan: this one loads it
        runner.close()
        begun = time.perf_counter()
        runner = _open(bundle, place, name, variant, graph=graph)
    load_ms = (time.perf_counter() - begun) * 1e3 if place.builds else open_ms
    with runner:
        feed = typical_feed(runner.inputs)
        begun = time.perf_counter()
        runner.run(feed)
        first_ms = (time.perf_counter() - begun) * 1e3
        agreement = compare_with_reference(runner, bundle, name)
        ways: dict[str, Call] = {"with copies": lambda: runner.run(feed)}
        if isinstance(runner, (TrtRunner, BoundOrtRunner)):
            ways["without copies"] = runner.run_again
        ways["bare"] = bare_call(runner, feed)
        seconds = time_in_turns(ways, calls)
        own, bare = seconds["with copies"], seconds["bare"]
        return {
            "cuda_graph": bool(getattr(runner, "replays", False)),
            "why_no_graph": getattr(runner, "why_no_graph", ""),
            "backend": runner.backend,
            "placement": dict(getattr(runner, "placement", {})),
            "open_ms": round(open_ms, 2),
            "load_ms": round(load_ms, 2),
            "first_call_ms": round(first_ms, 3),
            "rms_error": round(agreement.rms_error, 6),
            "labels_changed": agreement.changed,
            "windows": agreement.windows,
            "agrees": agreement.agrees,
            "against_cpu": _against_cpu(bundle, runner, name, variant),
            "ms": {kind: percentiles(found, 1e3) for kind, found in seconds.items()},
            "overhead_us": overhead_us(own, bare),
        }


def _open(bundle: Bundle, place: Backend, name: str, variant: str, *, graph: bool) -> Runner:
    source = read_graph(bundle, name, variant)
    if place.builds:
        return open_plan(place.name, source, engine=name, variant=variant, build=True, cuda_graph=graph)
    if place.name == CPU:
        return OrtRunner(source, engine=name, variant=variant)
    return BoundOrtRunner(source, backend=place.name, engine=name, variant=variant, cuda_graph=graph)


def _against_cpu(bundle: Bundle, runner: Runner, name: str, variant: str) -> dict[str, Any]:
    """Returns how far the answers on the reference windows lie from the CPU's, in the same variant."""
    if runner.backend == CPU:
        return {}
    feeds, _ = reference_windows(bundle, name)
    with OrtRunner(read_graph(bundle, name, variant), engine=name, variant=variant) as cpu:
        pairs = [(runner.run(feed), cpu.run(feed)) for feed in feeds]
    key = next(iter(pairs[0][1]))
    found, right = (np.concatenate([pair[side][key] for pair in pairs]) for side in (0, 1))
    apart = np.abs(found.astype(np.float64) - right)
    scale = float(np.sqrt(np.mean(right.astype(np.float64) ** 2))) or 1.0
    return {
        "largest": float(f"{apart.max():.3g}"),
        "rms": float(f"{float(np.sqrt(np.mean(apart**2))) / scale:.3g}"),
        "same_label": bool((found.argmax(-1) == right.argmax(-1)).all()),
    }
