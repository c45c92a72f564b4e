"""``python -m benchmarks.session``: measures, and writes ``benchmarks/results/session.{json,md}``."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from benchmarks.report import RESULTS, Report, write_report
from benchmarks.session import overhead, running
from edgeemo.bundle import Bundle
from edgeemo.errors import EdgeEmoError
from edgeemo.shipped import DEFAULT_BUNDLE


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.session", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="default: the one that ships")
    parser.add_argument("--variant", default="int8", help="of stems and engines; default: int8")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: benchmarks/results")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to try it out")
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # the licence notice, once for each session
    try:
        return _run(args)
    except EdgeEmoError as error:
        print(f"benchmarks.session: {error}", file=sys.stderr)
        return 1


def _run(args: argparse.Namespace) -> int:
    bundle = Bundle.open(args.bundle)
    print("overhead ...", flush=True)
    figures, tables = {}, []
    figures["overhead"], found = overhead.measure(
        bundle, variant=args.variant, hops=30 if args.quick else 400
    )
    tables += found
    print("camera and microphone ...", flush=True)
    figures["running"], found = running.measure(
        bundle,
        variant=args.variant,
        rounds=1 if args.quick else 3,
        seconds=2.0 if args.quick else 15.0,
    )
    tables += found
    figures["variant"] = args.variant
    report = Report("session", "What a session costs", figures, tables, "python -m benchmarks.session")
    write_report(report, bundle, folder=args.out)
    print((args.out / "session.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
