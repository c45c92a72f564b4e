"""``python -m benchmarks.swap``: measures, and writes ``benchmarks/results/swap.{json,md}``."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from benchmarks.report import RESULTS, Report, write_report
from benchmarks.swap import accuracy, cold, cost, drops, swap_time
from edgeemo.bundle import Bundle
from edgeemo.errors import EdgeEmoError
from edgeemo.shipped import DEFAULT_BUNDLE


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.swap", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="default: the one that ships")
    parser.add_argument("--data", type=Path, metavar="DIR", help="data sets; without them no accuracy")
    parser.add_argument("--variant", default="int8", help="of stems and engines; default: int8")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: benchmarks/results")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to try it out")
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # the licence notice, and what dying sensors say of themselves
    try:
        return _run(args)
    except EdgeEmoError as error:
        print(f"benchmarks.swap: {error}", file=sys.stderr)
        return 1


def _run(args: argparse.Namespace) -> int:
    bundle, variant, quick = Bundle.open(args.bundle), args.variant, args.quick
    command = "python -m benchmarks.swap"
    figures, tables = {}, []
    if args.data is not None:
        command += " --data DIR"
        print("accuracy ...", flush=True)
        figures["accuracy"], found = accuracy.measure(
            bundle, args.data, variant=variant, triples=100 if quick else 500, seeds=2 if quick else 5
        )
        tables += found
    print("cost ...", flush=True)
    figures["cost"], found = cost.measure(
        bundle, variant=variant, rounds=30 if quick else 500, processes=1 if quick else 5
    )
    tables += found
    print("drops ...", flush=True)
    figures["drops"], found = drops.measure(
        bundle,
        variant=variant,
        phases=1 if quick else 5,
        real_rounds=0 if quick else 2,
    )
    tables += found
    figures["swap_ms"], found = swap_time.measure(bundle, variant=variant, swaps=3 if quick else 30)
    tables += found
    if not quick:
        figures["cold"], found = cold.measure(bundle, variant=variant, rounds=2)
        tables += found
    figures["variant"] = variant
    report = Report(
        "swap", "An engine for each subset, late fusion, and one masked model", figures, tables, command
    )
    write_report(report, bundle, folder=args.out)
    print((args.out / "swap.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
