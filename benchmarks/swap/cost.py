"""What the three ways cost: memory of the open engines in fresh processes, processor time of a hop."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Table
from benchmarks.swap.accuracy_tables import LATE, MASKED, NAMES, OWN
from benchmarks.swap.pooling import pooled_shares
from edgeemo.bundle import Bundle, probabilities_from_logits
from edgeemo.evaluation.footprint import Memory, memory_of
from edgeemo.modality import subset_members
from edgeemo.runtimes import Runner, open_engine, open_stem
from edgeemo.runtimes.choose import typical_feed

ROOT = Path(__file__).resolve().parents[2]
METHODS = (OWN, LATE, MASKED)
_WARM_UP = 20


def engines_of(method: str, bundle: Bundle) -> tuple[str, ...]:
    """Returns the engines that a method keeps open."""
    order = bundle.manifest.order
    return {OWN: tuple(bundle.manifest.engines), LATE: order, MASKED: ("+".join(order),)}[method]


def measure(bundle: Bundle, *, variant: str, rounds: int, processes: int) -> tuple[Any, list[Table]]:
    """Returns figures and tables.

    Args:
        bundle: what is opened.
        variant: of stems and engines.
        rounds: hops of each method and subset, taking turns.
        processes: fresh processes of each method, taking turns; the median counts.
    """
    found: dict[str, list[Memory]] = {method: [] for method in METHODS}
    for _ in range(processes):
        for method in METHODS:
            found[method].append(_in_fresh_process(bundle, method, variant))
    memory = {
        method: asdict(sorted(weighed, key=lambda one: one.pss)[len(weighed) // 2])
        for method, weighed in found.items()
    }
    cpu = _cpu(bundle, variant, rounds)
    subsets = tuple(bundle.manifest.engines)
    rows = [
        (
            NAMES[method],
            str(len(engines_of(method, bundle))),
            f"{memory[method]['pss'] / 1e6:.1f}",
            f"{memory[method]['private'] / 1e6:.1f}",
            *(f"{cpu[method][subset]:.3f}" for subset in subsets),
        )
        for method in METHODS
    ]
    note = (
        f"Memory: a fresh process with numpy, onnxruntime, the three stems and the engines open, each run "
        f"once, {variant}; median of {processes} processes that take turns. Processor time: from features "
        f"to probabilities, median of {rounds} hops that take turns, milliseconds of one thread; the stems, "
        "which all three need alike, are not in it."
    )
    columns = ("way", "engines", "PSS MB", "private MB", *(f"{subset} ms" for subset in subsets))
    return {"memory": memory, "cpu_ms": cpu}, [
        Table("Memory and processor time of a hop", note, columns, rows)
    ]


def _cpu(bundle: Bundle, variant: str, rounds: int) -> dict[str, dict[str, float]]:
    """Returns method -> subset -> median processor time of a hop in milliseconds."""
    order = bundle.manifest.order
    complete = "+".join(order)
    with ExitStack() as opened:
        engines = {
            subset: opened.enter_context(open_engine(bundle, subset, variant=variant))
            for subset in bundle.manifest.engines
        }
        feed = typical_feed(engines[complete].inputs)
        hops = {
            (method, subset): _hop(bundle, engines, method, subset, feed)
            for method in METHODS
            for subset in engines
        }
        seconds: dict[tuple[str, str], list[float]] = {key: [] for key in hops}
        for turn in range(-_WARM_UP, rounds):
            for key, hop in hops.items():
                begun = time.thread_time()
                hop()
                if turn >= 0:
                    seconds[key].append(time.thread_time() - begun)
    return {
        method: {subset: round(float(np.median(seconds[method, subset])) * 1e3, 4) for subset in engines}
        for method in METHODS
    }


def _hop(
    bundle: Bundle, engines: dict[str, Runner], method: str, subset: str, full: dict[str, Any]
) -> Callable[[], object]:
    """Returns what a hop does from features to probabilities."""
    members = subset_members(subset)
    feed = {key: array for key, array in full.items() if key.split(".")[1] in members}
    zeros = {key: np.zeros_like(array) for key, array in full.items() if key not in feed}
    spec = bundle.manifest.subsets[subset]
    weights, prior = np.ones(len(members)), np.array(spec.prior)
    parts = {
        name: {key: array for key, array in feed.items() if key.split(".")[1] == name} for name in members
    }

    def own() -> object:
        return probabilities_from_logits(engines[subset].run(feed)["logits"], spec)

    def late() -> object:
        return pooled_shares(
            [engines[name].run(part)["logits"] for name, part in parts.items()], weights, prior
        )

    def masked() -> object:
        answers = engines["+".join(bundle.manifest.order)].run({**feed, **zeros})
        return probabilities_from_logits(answers["logits"], spec)

    return {OWN: own, LATE: late, MASKED: masked}[method]


def _in_fresh_process(bundle: Bundle, method: str, variant: str) -> Memory:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "memory.json"
        words = [sys.executable, "-m", "benchmarks.swap.cost", method, str(bundle.path), variant, str(out)]
        subprocess.run(words, check=True, cwd=ROOT)
        return Memory(**json.loads(out.read_text()))


def child(method: str, path: str, variant: str) -> Memory:
    """Opens what a method needs in this process, runs it once, and returns the memory."""
    bundle = Bundle.open(path)
    with ExitStack() as opened:
        runners = [
            *(
                opened.enter_context(open_stem(bundle, name, variant=variant))
                for name in bundle.manifest.order
            ),
            *(
                opened.enter_context(open_engine(bundle, name, variant=variant))
                for name in engines_of(method, bundle)
            ),
        ]
        for runner in runners:
            runner.run(typical_feed(runner.inputs))
        memory = memory_of()
    if memory is None:
        raise SystemExit("this system does not tell the memory of a process (no /proc/self/smaps_rollup)")
    return memory


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    Path(sys.argv[4]).write_text(json.dumps(asdict(child(*sys.argv[1:4]))))
