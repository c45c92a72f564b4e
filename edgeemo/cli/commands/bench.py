"""``edgeemo bench``: speed, size, memory and cold start of a bundle on this machine."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgeemo.cli.options.engines import add_backend_option, add_threads_option
from edgeemo.cli.options.output import add_json_option
from edgeemo.cli.show.progress import progress_bar

if TYPE_CHECKING:
    from edgeemo.evaluation.footprint import Footprint
    from edgeemo.evaluation.speed import EngineSpeed


def add_parser(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "bench",
        about="Percentiles of every engine and stem beside the bare runtime, then what a fresh process "
        "costs from its start to its first reading.",
        examples=(
            ("bench", "the bundle that ships, all variants"),
            ("bench bundles/mine --subset audio+video --variant int8 --json", "one engine, for a program"),
        ),
    )
    parser.add_argument("bundle", metavar="BUNDLE", nargs="?", help="default: the one that ships")
    parser.add_argument("--subset", action="append", metavar="S", help="only this subset; repeatable")
    parser.add_argument(
        "--variant",
        default="all",
        metavar="V",
        help="one that the bundle has, such as int8, auto, or all (default)",
    )
    add_backend_option(parser)
    add_threads_option(parser)
    parser.add_argument(
        "--calls", type=int, default=200, metavar="N", help="timed calls of each engine (default 200)"
    )
    add_json_option(parser, "bench")


def run(args: argparse.Namespace) -> int:
    """Prints the percentiles of every engine and stem, then what a fresh process costs."""
    from edgeemo.bundle import Bundle
    from edgeemo.evaluation.footprint import measure_footprint
    from edgeemo.evaluation.speed import ALL, measure_speed
    from edgeemo.runtimes.machine import cpu_count, cpu_model
    from edgeemo.runtimes.ort import onnxruntime_version
    from edgeemo.shipped import DEFAULT_BUNDLE

    bundle = Bundle.open(args.bundle or DEFAULT_BUNDLE)
    options = {"backend": args.backend, "threads": args.threads}
    with progress_bar("timing engines") as advance:
        speeds = measure_speed(
            bundle,
            subsets=args.subset,
            variant=args.variant,
            calls=args.calls,
            progress=advance,
            **options,
        )
    fresh = "auto" if args.variant == ALL else args.variant
    footprint = measure_footprint(bundle.path, variant=fresh, subsets=args.subset, **options)
    machine = {"cpu": cpu_model(), "processors": cpu_count(), "onnxruntime": onnxruntime_version()}
    total_bytes = sum(entry.bytes for entry in bundle.manifest.files.values())
    if args.json:
        document = {
            "model_id": bundle.manifest.model_id,
            "machine": machine,
            "threads": args.threads,
            "bundle_bytes": total_bytes,
            "engines": [asdict(speed) for speed in speeds],
            "fresh_process": asdict(footprint),
        }
        print(json.dumps(document, indent=1))
        return 0
    print(f"{bundle!r}")
    print(", ".join(f"{name}: {value}" for name, value in machine.items()))
    print("\n".join(["", *_speed_lines(speeds), "", *_footprint_lines(footprint, fresh)]))
    return 0


def _speed_lines(speeds: tuple[EngineSpeed, ...]) -> list[str]:
    width = max(len(speed.engine) for speed in speeds)
    lines = [
        f"{'engine':<{width}} variant backend      kB   p50 ms   p95 ms   p99 ms  bare p50  overhead us",
    ]
    for speed in speeds:
        timing = speed.timing
        bare = "-" if speed.bare is None else f"{speed.bare.p50_ms:.3f}"
        overhead = "-" if speed.overhead_us is None else f"{speed.overhead_us:.1f}"
        lines.append(
            f"{speed.engine:<{width}} {speed.variant:<7} {speed.backend:<7} {speed.bytes / 1e3:>7.0f}"
            f" {timing.p50_ms:>8.3f} {timing.p95_ms:>8.3f} {timing.p99_ms:>8.3f} {bare:>9} {overhead:>12}"
        )
    return lines


def _footprint_lines(footprint: Footprint, variant: str) -> list[str]:
    lines = [
        f"a fresh process ({variant}): import {footprint.import_ms:.0f} ms, open {footprint.open_ms:.0f} ms, "
        f"first reading ({footprint.subset or 'no signal'}) {footprint.reading_ms:.0f} ms, "
        f"{footprint.process_ms:.0f} ms from its start"
    ]
    base, ready = footprint.base, footprint.ready
    if base and ready:
        lines.append(
            f"its memory: {ready.pss / 1e6:.0f} MB PSS, {ready.private / 1e6:.0f} MB of them its own; "
            f"Python and numpy alone {base.pss / 1e6:.0f} MB PSS"
        )
    return lines
