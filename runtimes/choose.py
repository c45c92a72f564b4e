"""Which variant of an engine runs on this machine: measured here once, then remembered."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgeemo.errors import BackendError
from edgeemo.runtimes.base import Array, Runner, TensorSpec, VariantChoice
from edgeemo.runtimes.cache import read_fact, write_fact

log = logging.getLogger(__name__)

KIND = "variants"
ROUNDS = 10
WARM_UP = 2
TIE = 0.05
EXACTNESS = ("fp32", "fp16", "int8")

Opener = Callable[[str], Runner]


def choose_variant(
    engine: str, variants: Sequence[str], open_variant: Opener, *, key: Mapping[str, Any]
) -> Runner:
    """Returns the fastest variant of an engine, opened, with the choice on its ``choice``.

    The first time, every variant is opened and timed; afterwards the answer comes from the user's cache.
    Variants that cannot be opened are left out: said at INFO and shown in ``choice.skipped``. Among
    variants within 5 % of the fastest, less than such a timing can tell, the most exact one wins.

    Args:
        engine: the engine's name.
        variants: what may run here, at least one.
        open_variant: opens one of them; raises BackendError where that is impossible.
        key: everything the answer depends on (CPU, backend and its version, threads, hashes of the files).

    Raises:
        BackendError: none of the variants can be opened.
    """
    skipped: dict[str, str] = {}

    def try_open(variant: str) -> Runner | None:
        try:
            return open_variant(variant)
        except BackendError as error:
            log.info("%s: variant %s cannot be opened and is left out: %s", engine, variant, error)
            skipped[variant] = str(error)
            return None

    def with_choice(runner: Runner, medians_ms: Mapping[str, float], source: str) -> Runner:
        runner.choice = VariantChoice(
            engine, runner.variant, tuple(medians_ms.items()), source, tuple(skipped.items())
        )
        return runner

    if len(variants) == 1:
        return with_choice(open_variant(variants[0]), {}, "only")
    if remembered := _remembered(key, variants):
        runner = try_open(fastest(remembered))
        if runner is not None:
            return with_choice(runner, remembered, "cached")
    opened: dict[str, Runner] = {}
    try:
        for variant in variants:
            if variant not in skipped and (runner := try_open(variant)) is not None:
                opened[variant] = runner
        if not opened:
            raise BackendError(
                f"engine {engine}: no variant can be opened here: "
                + "; ".join(f"{variant}: {why}" for variant, why in skipped.items())
            )
        if len(opened) == 1:
            return with_choice(opened.popitem()[1], {}, "only")
        medians_ms = time_interleaved(opened)
        winner = opened.pop(fastest(medians_ms))
        if not skipped:
            write_fact(KIND, key, {"medians_ms": medians_ms})
        log.info("%s", with_choice(winner, medians_ms, "measured").choice)
        return winner
    finally:
        for runner in opened.values():
            runner.close()


def time_interleaved(runners: Mapping[str, Runner], *, rounds: int = ROUNDS) -> dict[str, float]:
    """Returns the median time of one call in milliseconds for each runner.

    The runners take turns, and each round begins with another one, so that whatever else happens on the
    machine meanwhile meets all of them alike.
    """
    names = list(runners)
    feeds = {name: typical_feed(runners[name].inputs) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-WARM_UP, rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            runners[name].run(feeds[name])
            if turn >= 0:
                times[name].append(time.perf_counter() - start)
    return {name: round(statistics.median(times[name]) * 1e3, 4) for name in names}


def typical_feed(inputs: Sequence[TensorSpec], *, batch: int = 1) -> dict[str, Array]:
    """Returns inputs as a live hop has them: full masks, features of unit variance, the same every time.

    Args:
        inputs: of an engine or stem.
        batch: what stands for every dimension that the caller may choose.
    """
    rng = np.random.default_rng(0)
    feed: dict[str, Array] = {}
    for spec in inputs:
        shape = tuple(size if isinstance(size, int) else batch for size in spec.shape)
        if spec.name.startswith("mask.") or spec.dtype.kind not in "f":
            feed[spec.name] = np.ones(shape, spec.dtype)
        else:
            feed[spec.name] = rng.standard_normal(shape).astype(spec.dtype)
    return feed


def fastest(medians_ms: Mapping[str, float]) -> str:
    """Returns the fastest variant; where others are as fast within 5 %, the most exact of those."""
    limit = min(medians_ms.values()) * (1 + TIE)
    ties = [variant for variant, ms in medians_ms.items() if ms <= limit]
    return min(ties, key=lambda variant: EXACTNESS.index(variant) if variant in EXACTNESS else len(EXACTNESS))


def _remembered(key: Mapping[str, Any], variants: Sequence[str]) -> dict[str, float] | None:
    """Returns the medians in the cache where they are whole and plausible."""
    value = read_fact(KIND, key)
    if value is None:
        return None
    medians_ms = value.get("medians_ms")
    if (
        not isinstance(medians_ms, dict)
        or set(medians_ms) != set(variants)
        or not all(isinstance(ms, float) and ms > 0 for ms in medians_ms.values())
    ):
        log.info("cached timings of %s are not whole and will be measured again", ", ".join(variants))
        return None
    return {variant: medians_ms[variant] for variant in variants}
