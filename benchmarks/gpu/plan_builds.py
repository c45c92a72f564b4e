"""Plans of TensorRT for RTX built ahead of time for GPUs that are elsewhere: how long, how large."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.child import Found, not_measured
from edgeemo.bundle import Bundle
from edgeemo.errors import BackendError
from edgeemo.runtimes.backends import read_graph
from edgeemo.runtimes.plans.build import VARIANTS
from edgeemo.runtimes.plans.source import PlanSource
from edgeemo.runtimes.plans.store import PlanCache
from edgeemo.runtimes.trt_library import RTX, TITLES, Library, is_installed, load_library

GENERATIONS = ((8, 6), (8, 9), (12, 0))
_READS = 5


def measure(bundle: str, engines: list[str] | None = None) -> Found:
    """Returns a row for each engine and stem, variant and set of compute capabilities.

    Args:
        bundle: a folder.
        engines: which of its stems and engines; None for all.
    """
    if not is_installed(RTX):
        return not_measured(f"{TITLES[RTX]} is not installed: pip install 'edgeemo[rtx]'")
    opened = Bundle.open(bundle)
    library = load_library(RTX)
    rows = []
    for name, files in _files(opened):
        if engines is not None and name not in engines:
            continue
        for variant in VARIANTS:
            for capabilities in (*((each,) for each in GENERATIONS), GENERATIONS):
                row: dict[str, Any] = {
                    "engine": name,
                    "variant": variant,
                    "sm": ["{}{}".format(*each) for each in capabilities],
                }
                if variant in files:
                    row |= _build(library, opened, name, variant, capabilities)
                else:
                    row |= not_measured(f"the bundle has it in {', '.join(files)}")
                rows.append(row)
    return {"library": repr(library), "rows": rows}


def _build(
    library: Library, bundle: Bundle, name: str, variant: str, capabilities: tuple[tuple[int, int], ...]
) -> Found:
    source = PlanSource(
        library, read_graph(bundle, name, variant).self_contained(), name, variant, capabilities
    )
    begun, begun_cpu = time.perf_counter(), time.process_time()
    try:
        built = source.build()
    except BackendError as error:
        return not_measured(str(error))
    seconds, cpu_s = time.perf_counter() - begun, time.process_time() - begun_cpu
    with tempfile.TemporaryDirectory() as folder:
        cache = PlanCache(Path(folder), brought=())
        cache.find_or_build(source.key(), name, lambda: (built.plan, built.seconds))
        reads = []
        for _ in range(_READS):
            begun = time.perf_counter()
            found, why = cache.find(source.key())
            reads.append(time.perf_counter() - begun)
            if found is None:
                return not_measured(f"the cache does not give it back: {why}")
    return {
        "build_s": round(seconds, 3),
        "build_cpu_s": round(cpu_s, 3),
        "bytes": len(built.plan),
        "graph_bytes": len(source.model),
        "read_ms": round(sorted(reads)[_READS // 2] * 1e3, 2),
    }


def _files(bundle: Bundle) -> list[tuple[str, tuple[str, ...]]]:
    manifest = bundle.manifest
    stems = [(f"stem.{name}", tuple(manifest.stems[name])) for name in manifest.order]
    return stems + [(name, tuple(files)) for name, files in manifest.engines.items()]
