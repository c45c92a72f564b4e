"""What one engine and what all seven take, on the host and on the GPU, over their weights."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from benchmarks.gpu.child import Found, not_measured
from edgeemo.bundle import Bundle
from edgeemo.errors import EdgeEmoError
from edgeemo.evaluation.footprint import memory_of
from edgeemo.runtimes.backends import backend_named, read_graph
from edgeemo.runtimes.choose import typical_feed
from edgeemo.runtimes.gpu import Gpu

_RUNS = 5


def measure(bundle: str, backend: str, variant: str) -> Found:
    """Returns megabytes before anything is open, with the largest engine, and with all.

    Args:
        bundle: a folder.
        backend: a name of `edgeemo.runtimes.open.BACKENDS`.
        variant: of every engine.
    """
    place = backend_named(backend)
    if why := place.why_not():
        return not_measured(why)
    opened = Bundle.open(bundle)
    engines = sorted(opened.manifest.engines, key=lambda name: -name.count("+"))
    weights = {name: len(read_graph(opened, name, variant).self_contained()) for name in engines}
    gpu = None if place.host else _gpu()
    steps: dict[str, dict[str, float | None]] = {}

    def look(step: str) -> None:
        memory = memory_of()
        steps[step] = {
            "host": None if memory is None else round(memory.private / 1e6, 2),
            "gpu": None if gpu is None else round(_used(gpu) / 1e6, 2),
        }

    with ExitStack() as running:
        if place.builds:  # into the cache, so that no builder's memory is counted
            for name in engines:
                place.open(opened, name, variant, build=True).close()
        look("nothing")
        for number, name in enumerate(engines):
            runner = running.enter_context(place.open(opened, name, variant))
            feed = typical_feed(runner.inputs)
            for _ in range(_RUNS):
                runner.run(feed)
            if number == 0:
                look("one")
        look("all")
    others_mb = sum(weights[name] for name in engines[1:]) / 1e6
    return {
        "first": engines[0],
        "engines": len(engines),
        "weights_mb": {name: round(size / 1e6, 3) for name, size in weights.items()},
        "mb": steps,
        "ratios": {kind: _ratios(steps, kind, others_mb) for kind in ("host", "gpu")},
    }


def _ratios(steps: dict[str, Any], kind: str, others_mb: float) -> dict[str, float] | None:
    """Returns all engines over one plus the weights of the others: of the whole, and of what was added."""
    nothing, one, everything = (steps[step][kind] for step in ("nothing", "one", "all"))
    if nothing is None:
        return None
    return {
        "whole": round(everything / (one + others_mb), 3),
        "added": round((everything - nothing) / (one - nothing + others_mb), 3),
    }


def _gpu() -> Gpu | None:
    try:
        return Gpu()
    except EdgeEmoError:
        return None


def _used(gpu: Gpu) -> int:
    with gpu:
        free, total = gpu.cuda.memory()
    return total - free
