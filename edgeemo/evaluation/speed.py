"""How long one call of an engine takes here, beside the bare backend and beside its other variants."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np

from edgeemo.bundle import Bundle
from edgeemo.errors import InputError
from edgeemo.modality import parse_subset
from edgeemo.runtimes import AUTO, OrtRunner, Runner, open_engine, open_stem
from edgeemo.runtimes.choose import typical_feed

WARM_UP = 20
ALL = "all"
_STEM = "stem."

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Timing:
    """Percentiles of the time of one call, in milliseconds."""

    calls: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True)
class EngineSpeed:
    """One engine or stem in one variant.

    Attributes:
        engine: such as ``audio+video`` or ``stem.audio``.
        variant: that was opened.
        backend: that really computed.
        bytes: size of the file.
        timing: of `Runner.run`.
        bare: of the same session called directly, with no check of the inputs and no dict of outputs.
        overhead_us: difference of the two medians.
        choice: why this variant, in words.
    """

    engine: str
    variant: str
    backend: str
    bytes: int
    timing: Timing
    bare: Timing | None
    overhead_us: float | None
    choice: str


def timing_from_seconds(seconds: Sequence[float]) -> Timing:
    """Returns the percentiles of some durations.

    Raises:
        InputError: there are none.
    """
    if not len(seconds):
        raise InputError("no durations to take percentiles of")
    p50, p95, p99 = np.percentile(np.asarray(seconds) * 1e3, (50, 95, 99))
    return Timing(len(seconds), round(float(p50), 4), round(float(p95), 4), round(float(p99), 4))


def measure_speed(
    bundle: Bundle,
    *,
    subsets: Sequence[str] | None = None,
    variant: str = AUTO,
    backend: str = AUTO,
    threads: int = 1,
    calls: int = 200,
    progress: Progress | None = None,
) -> tuple[EngineSpeed, ...]:
    """Returns the speed of stems and engines on full windows, batch 1.

    The variants of one engine, and the bare session of each, take turns call by call, so that whatever
    else happens on the machine meets all of them alike.

    Args:
        bundle: what to measure.
        subsets: whose engines, and the stems these need; None for all.
        variant: one variant, "auto" for what a session would take, or "all" for each that there is.
        backend: as `edgeemo.runtimes.open_engine` takes it.
        threads: threads of one call.
        calls: of each.
        progress: called with engines done and engines in all.

    Raises:
        SubsetError: a subset that the bundle has no engine for.
        InputError: no such variant, or fewer than one call.
        BackendError: no such backend, or it cannot open an engine.
    """
    if calls < 1:
        raise InputError(f"calls must be at least 1, not {calls}")
    manifest = bundle.manifest
    wanted = list(manifest.engines)
    if subsets is not None:
        wanted = [parse_subset(subset, manifest.order) for subset in subsets]
    used = {name for subset in wanted for name in subset.split("+")}
    stems = [(open_stem, name, manifest.stems[name]) for name in manifest.order if name in used]
    engines = [(open_engine, name, dict.fromkeys(bundle.variants(name), "")) for name in wanted]
    results: list[EngineSpeed] = []
    for done, (opener, name, variants) in enumerate([*stems, *engines], start=1):
        with ExitStack() as opened:
            runners = [
                opened.enter_context(opener(bundle, name, variant=each, backend=backend, threads=threads))
                for each in (variants if variant == ALL else (variant,))
            ]
            results += _measure_side_by_side(bundle, runners, calls)
        if progress is not None:
            progress(done, len(stems) + len(engines))
    return tuple(results)


def _measure_side_by_side(bundle: Bundle, runners: Sequence[Runner], calls: int) -> list[EngineSpeed]:
    feed = typical_feed(runners[0].inputs)
    contestants: list[tuple[str, str, Callable[[], object]]] = []
    for runner in runners:
        contestants.append((runner.variant, "runner", partial(runner.run, feed)))
        if isinstance(runner, OrtRunner):
            names = [spec.name for spec in runner.outputs]
            contestants.append((runner.variant, "bare", partial(runner.session.run, names, feed)))
    seconds: dict[tuple[str, str], list[float]] = {(variant, kind): [] for variant, kind, _ in contestants}
    for turn in range(-WARM_UP, calls):
        # Whoever follows itself finds warm caches, so everybody follows everybody equally often.
        first = turn % len(contestants)
        for variant, kind, call in contestants[first:] + contestants[:first]:
            start = time.perf_counter()
            call()
            if turn >= 0:
                seconds[variant, kind].append(time.perf_counter() - start)
    return [
        _speed(bundle, runner, seconds[runner.variant, "runner"], seconds.get((runner.variant, "bare"), []))
        for runner in runners
    ]


def _speed(bundle: Bundle, runner: Runner, own: list[float], bare: list[float]) -> EngineSpeed:
    manifest = bundle.manifest
    if runner.engine.startswith(_STEM):
        file = manifest.stems[runner.engine.removeprefix(_STEM)][runner.variant]
    else:
        file = manifest.engines[runner.engine][runner.variant]
    overhead_us = float(np.median(own) - np.median(bare)) * 1e6 if bare else None
    return EngineSpeed(
        engine=runner.engine,
        variant=runner.variant,
        backend=runner.backend,
        bytes=manifest.files[file].bytes,
        timing=timing_from_seconds(own),
        bare=timing_from_seconds(bare) if bare else None,
        overhead_us=None if overhead_us is None else round(overhead_us, 2),
        choice=str(runner.choice),
    )
