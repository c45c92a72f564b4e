"""Every engine and stem: int8 against fp32, and each against the bare onnxruntime session."""

from __future__ import annotations

from dataclasses import asdict

from benchmarks.report import Report, Table
from edgeemo.bundle import Bundle
from edgeemo.evaluation.speed import ALL, EngineSpeed, measure_speed


def measure(bundle: Bundle, *, calls: int) -> Report:
    """Times all variants of all engines, call by call in turns.

    Args:
        bundle: what to measure.
        calls: timed calls of each.
    """
    speeds = measure_speed(bundle, variant=ALL, calls=calls)
    by_name: dict[str, dict[str, EngineSpeed]] = {}
    for speed in speeds:
        by_name.setdefault(speed.engine, {})[speed.variant] = speed
    return Report(
        "engines",
        "Engines and stems, one call on a full window",
        {"calls": calls, "engines": [asdict(speed) for speed in speeds]},
        [_variants(by_name, calls), _overhead(speeds), _sizes(bundle, by_name)],
    )


def _variants(by_name: dict[str, dict[str, EngineSpeed]], calls: int) -> Table:
    rows = []
    for name, variants in by_name.items():
        for variant, speed in variants.items():
            base = variants.get("fp32", speed).timing.p50_ms
            timing = speed.timing
            rows.append(
                (
                    name,
                    variant,
                    f"{timing.p50_ms:.3f}",
                    f"{timing.p95_ms:.3f}",
                    f"{timing.p99_ms:.3f}",
                    f"{timing.p50_ms / base:.2f}",
                    f"{speed.bytes / 1e3:.0f}",
                )
            )
    note = (
        f"{calls} calls each, batch 1, one thread; all variants of an engine take turns call by call. "
        "kB: the engine's own file, without what it shares with others."
    )
    columns = ("engine", "variant", "p50 ms", "p95 ms", "p99 ms", "p50 / fp32", "kB")
    return Table("Variants side by side", note, columns, rows)


def _overhead(speeds: tuple[EngineSpeed, ...]) -> Table:
    rows = []
    for speed in speeds:
        if speed.bare is None or speed.overhead_us is None:
            continue
        share = speed.overhead_us / 1e3 / speed.bare.p50_ms
        allowed_us = max(50.0, 0.05 * speed.bare.p50_ms * 1e3)
        verdict = "yes" if speed.overhead_us <= allowed_us else "no"
        rows.append(
            (
                speed.engine,
                speed.variant,
                f"{speed.bare.p50_ms:.3f}",
                f"{speed.timing.p50_ms:.3f}",
                f"{speed.overhead_us:.1f}",
                f"{share:.1%}",
                verdict,
            )
        )
    note = (
        "`Runner.run` against `InferenceSession.run` of the same session, in turns. "
        "Allowed: the larger of 5 % and 50 us."
    )
    columns = ("engine", "variant", "bare p50 ms", "runner p50 ms", "overhead us", "share", "within")
    return Table("Overhead over bare onnxruntime", note, columns, rows)


def _sizes(bundle: Bundle, by_name: dict[str, dict[str, EngineSpeed]]) -> Table:
    manifest = bundle.manifest
    totals: dict[str, int] = {}
    for variant in {variant: None for variants in by_name.values() for variant in variants}:
        graphs = {
            files[variant]
            for group in (manifest.stems, manifest.engines)
            for files in group.values()
            if variant in files
        }
        files = graphs | {weights for graph in graphs for weights in manifest.weights.get(graph, ())}
        totals[variant] = sum(manifest.files[file].bytes for file in files)
    rows = [(f"all stems and engines, {variant}", f"{size / 1e6:.2f}") for variant, size in totals.items()]
    whole = sum(entry.bytes for entry in bundle.manifest.files.values())
    rows.append(("the whole bundle, reference windows included", f"{whole / 1e6:.2f}"))
    return Table(
        "Sizes",
        "Files as they lie in the bundle; what several graphs share counts once in each variant.",
        ("what", "MB"),
        rows,
    )
