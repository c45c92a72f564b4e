"""``python -m benchmarks.agreement --data DIR``: writes ``benchmarks/results/agreement.{json,md}``."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from benchmarks.agreement.measure import measure
from benchmarks.report import RESULTS, Report, write_report
from edgeemo.bundle import Bundle
from edgeemo.errors import EdgeEmoError
from edgeemo.shipped import DEFAULT_BUNDLE


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="default: the one that ships")
    parser.add_argument("--data", type=Path, metavar="DIR", required=True, help="data sets")
    parser.add_argument("--variant", default="int8", help="of stems and engines; default: int8")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: benchmarks/results")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to try it out")
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # the licence notice
    try:
        bundle = Bundle.open(args.bundle)
        count, seeds = (70, 2) if args.quick else (700, 4)
        figures, tables = measure(bundle, args.data, variant=args.variant, count=count, seeds=seeds)
    except EdgeEmoError as error:
        print(f"benchmarks.agreement: {error}", file=sys.stderr)
        return 1
    command = f"python -m benchmarks.agreement --data {args.data.name}"
    title = "Modalities that contradict each other"
    write_report(Report("agreement", title, figures, tables, command=command), bundle, folder=args.out)
    print((args.out / "agreement.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
