"""``python -m benchmarks.export``: measures, writes ``benchmarks/export/export.{json,md}``; needs torch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.export.measure import measure
from benchmarks.export.tables import write_tables
from edgeemo.errors import EdgeEmoError
from edgeemo.export.checkpoint import Checkpoint

HERE = Path(__file__).resolve().parent
LIVE = HERE.parents[1] / "samples" / "checkpoints" / "live"


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=LIVE, help="default: samples/checkpoints/live")
    parser.add_argument("--out", type=Path, default=HERE, help="default: benchmarks/export")
    parser.add_argument("--rounds", type=int, default=1000, help="timed calls of each; default: 1000")
    args = parser.parse_args()
    try:
        figures = measure(Checkpoint.open(args.checkpoint), rounds=args.rounds, tell=print)
    except EdgeEmoError as error:
        print(f"benchmarks.export: {error}", file=sys.stderr)
        return 1
    for path in write_tables(figures, args.out):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
