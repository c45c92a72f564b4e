"""``python -m benchmarks [NAME ...]``: measures, and writes ``benchmarks/results/<name>.{json,md}``."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import accuracy, archive, engines, footprint, hop, memory, robustness, startup, update
from benchmarks.report import RESULTS, Report, write_report
from edgeemo.bundle import Bundle
from edgeemo.shipped import DEFAULT_BUNDLE

NAMES = ("engines", "footprint", "hop", "memory", "startup", "update", "archive", "accuracy", "robustness")
WITH_DATA = {"accuracy", "robustness"}
COMPARED = {"engines", "hop", "accuracy"}
"""Benchmarks that set variants side by side: fp32 does not ship, so a bundle with it is made for them."""
COMPARED_VARIANTS = ("fp32", "int8", "fp16")
CHECKPOINT = Path(__file__).resolve().parent.parent / "samples" / "checkpoints" / "live"


def main() -> int:
    """Runs the benchmarks that were named, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument(
        "--bundle",
        type=Path,
        help="default: the one that ships; where variants are compared, one with fp32 of the same checkpoint",
    )
    parser.add_argument("--data", type=Path, help="data sets, for accuracy and robustness")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: benchmarks/results")
    parser.add_argument("--quick", action="store_true", help="a tenth of the calls, to try it out")
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # the licence notice, once for each session
    unknown = set(args.names) - set(NAMES)
    if unknown:
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}; there are: {', '.join(NAMES)}")
    if args.data is None and (needy := sorted(WITH_DATA & set(args.names))):
        parser.error(f"{needy[0]} needs --data DIR, a folder of data sets")
    names = args.names or [name for name in NAMES if name not in WITH_DATA or args.data is not None]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            print(f"{name} ...", flush=True)
            bundle = Bundle.open(args.bundle or _bundle_for(name, Path(folder)))
            write_report(_measure(name, bundle, args), bundle, folder=args.out)
            print((args.out / f"{name}.md").read_text(encoding="utf-8"))
    return 0


def _measure(name: str, bundle: Bundle, args: argparse.Namespace) -> Report:
    scale = 10 if args.quick else 1
    runs: dict[str, Callable[[], Report]] = {
        "engines": lambda: engines.measure(bundle, calls=500 // scale),
        "footprint": lambda: footprint.measure(bundle, rounds=max(1, 5 // scale)),
        "hop": lambda: hop.measure(bundle, hops=300 // scale),
        "memory": lambda: memory.measure(bundle),
        "startup": lambda: startup.measure(bundle, rounds=max(3, 15 // scale)),
        "update": lambda: update.measure(rounds=max(1, 5 // scale), hops=max(4, 60 // scale)),
        "archive": lambda: archive.measure(bundle, recordings=40 // scale, rounds=max(1, 3 // scale)),
        "accuracy": lambda: accuracy.measure(bundle, args.data),
        "robustness": lambda: robustness.measure(bundle, args.data),
    }
    return runs[name]()


def _bundle_for(name: str, folder: Path) -> Path:
    """Returns the bundle that ships or, where variants are compared, one in ``folder``, made once."""
    if name not in COMPARED:
        return DEFAULT_BUNDLE
    made = folder / "compared"
    if not made.exists():
        from edgeemo.export import export_bundle

        print(f"exporting {', '.join(COMPARED_VARIANTS)} ...", flush=True)
        export_bundle(CHECKPOINT, made, variants=COMPARED_VARIANTS)
    return made


if __name__ == "__main__":
    sys.exit(main())
